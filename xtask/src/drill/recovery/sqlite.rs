//! A SQLite file as a source: filled by an application, then changed under `pitr watch`.

use super::{Protected, Site, State};
use crate::Result;
use crate::application::{self, Application};
use crate::at_rest::AtRest;
use crate::program::Program;
use crate::rows::Rows;
use crate::size::Sizes;
use crate::verdict::Verdict;
use crate::world::{self, bytes_below};
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const DATABASE: &str = "app.db";
const PAGE_BYTES: u64 = 4096;
/// Rows of a transaction that fills the table.
const FILL_ROWS: i64 = 10_000;
/// Length of the longest row, and of the shortest.
const ROW_BYTES: (u64, u64) = (200, 1200);
/// Rows in a page, about.
const ROWS_A_PAGE: u64 = 5;
const ARCHIVED_AT_MOST: Duration = Duration::from_secs(1200);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// `pitr restore` on a repository; it lacks the options.
pub(super) fn restore(repo: &Path) -> Command {
    let mut command = Command::new(world::target().join("release/pitr"));
    command.arg("--repo").arg(repo).args(["--json", "restore"]);
    command
}

/// Starts an application, watches its database, and archives all of its commits.
pub(super) fn protect(site: &Site<'_>, verdict: &Verdict) -> Result<Protected> {
    let begun = Instant::now();
    let after = || format!("{:.1} s", begun.elapsed().as_secs_f64());
    std::fs::create_dir(site.source())?;
    let program = Program::with_repository(&site.repo())?;
    let mut writer = start(&site.source(), site.sizes, site.target_at(), site.seed)?;
    let database = application::path(&writer.event("ready")?, "database")?;
    let before = AtRest::open(&database)?.blocks(DATABASE)?;
    let content = before.content(std::slice::from_ref(&database))?;
    verdict.step(format_args!("{} MB filled in {}", before.bytes() / 1_000_000, after()));

    let watch = program.watch(&database, &[])?;
    let first = archived(&program, |source| source["snapshots"][0]["tx"].as_u64())?;
    verdict.step(format_args!("snapshot after {}", after()));
    writer.send("go")?;
    let mut state = |event: &str| -> Result<State> {
        let commits = writer.event(event)?["commits"].as_u64().ok_or("no commits")?;
        // The target is named by the number of the last commit.
        let tx = archived_to(&program, first + commits)?;
        let blocks = AtRest::open(&database)?.blocks(DATABASE)?;
        writer.send("go")?;
        Ok(State { to: format!("tx:{tx}"), blocks })
    };
    let target = state("target")?;
    let latest = state("done")?;
    watch.stop()?;
    writer.end()?;
    verdict.step(format_args!(
        "log after {}; {} of {} blocks differ from the base at the target",
        after(),
        target.blocks.changed_since(&before),
        target.blocks.count()
    ));
    let latest = site.small.then(|| State { to: "latest".into(), ..latest });
    let stored_bytes = bytes_below(&site.repo())?;
    Ok(Protected { repo: site.repo(), base_bytes: before.bytes(), content, stored_bytes, target, latest })
}

/// Checks the structure of a restored database.
pub(super) fn check(database: &Path, verdict: &mut Verdict) -> Result<()> {
    let db = open_unchanging(database)?;
    let answer: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    verdict.check(answer == "ok", format_args!("integrity_check: {answer}"));
    Ok(())
}

/// Whether SQLite opens a file; `None` if it is empty.
pub(super) fn opens(leftover: &Path) -> Result<Option<bool>> {
    if leftover.metadata()?.len() == 0 {
        return Ok(None);
    }
    let db = Connection::open_with_flags(leftover, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let read = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0));
    Ok(Some(read.is_ok()))
}

/// Starts the application. It pauses when the log has `target_at` bytes.
pub(crate) fn start(folder: &Path, sizes: Sizes, target_at: u64, seed: u64) -> Result<Application> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["drill", "recovery-part", "write"]).arg(folder);
    command.args([sizes.base.to_string(), sizes.log.to_string()]);
    command.args([target_at.to_string(), seed.to_string()]);
    Application::spawn(&mut command)
}

/// Number of transactions that a database has, by its own statement.
pub(crate) fn progress(database: &Path) -> Result<u64> {
    let commits = open_unchanging(database)?
        .query_row("SELECT commits FROM progress", [], |row| row.get::<_, i64>(0))?;
    Ok(u64::try_from(commits)?)
}

/// Opens a database that nobody writes, without creating a file beside it.
fn open_unchanging(database: &Path) -> Result<Connection> {
    let uri = format!("file:{}?immutable=1", database.display());
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    Ok(Connection::open_with_flags(uri, flags)?)
}

/// Waits until `wanted` finds what it looks for in the source's part of `pitr info`.
pub(crate) fn archived(program: &Program, wanted: impl Fn(&Value) -> Option<u64>) -> Result<u64> {
    let begun = Instant::now();
    while begun.elapsed() < ARCHIVED_AT_MOST {
        let info = program.call(["info"])?.done()?;
        if let Some(found) = wanted(&info["sources"][0]) {
            return Ok(found);
        }
        thread::sleep(LOOK_EVERY);
    }
    Err("the watcher did not archive everything in time".into())
}

/// Waits until the transaction of this number is archived. Fails if there is a later one.
pub(crate) fn archived_to(program: &Program, wanted: u64) -> Result<u64> {
    let tx = archived(program, |source| {
        let last = source["restorable"].as_array()?.last()?["to"]["tx"].as_u64()?;
        (last >= wanted).then_some(last)
    })?;
    if tx == wanted { Ok(tx) } else { Err(format!("the last transaction is {tx}, not {wanted}").into()) }
}

/// The application: fills a database, says `ready`, and changes it after each line that it reads,
/// until the log has these sizes. On its way to the first one it reports a `moment` and goes on.
pub(super) fn write(folder: &Path, base: u64, target_at: u64, log: u64, seed: u64) -> Result<()> {
    let path = folder.join(DATABASE);
    let mut writer = Writer::new(&path, base, seed)?;
    let say = |event: &str, writer: &Writer| {
        let now = jiff::Timestamp::now().as_microsecond();
        let (commits, rows) = (writer.commits, writer.changed_rows);
        let said = json!({"event": event, "database": path, "commits": commits, "rows": rows, "at_us": now});
        println!("{said}");
    };
    say("ready", &writer);
    let mut moment = Some(target_at / 2);
    for (event, until) in [("target", target_at), ("done", log)] {
        if std::io::stdin().read_line(&mut String::new())? == 0 {
            return Ok(());
        }
        while writer.pages * PAGE_BYTES < until {
            writer.transaction()?;
            if moment.is_some_and(|at| writer.pages * PAGE_BYTES >= at) {
                moment = None;
                say("moment", &writer);
            }
        }
        say(event, &writer);
    }
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}

/// The connection of an application.
pub(crate) struct Writer {
    db: Connection,
    rows: Rows,
    /// Number of the last row.
    last: i64,
    /// Pages that transactions have written, about.
    pages: u64,
    /// Transactions after the filling. Each states its number in the table `progress`.
    commits: u64,
    changed_rows: u64,
}

impl Writer {
    /// Creates a database, and fills it up to this size.
    pub(crate) fn new(path: &Path, bytes: u64, seed: u64) -> Result<Writer> {
        let (db, rows) = (Connection::open(path)?, Rows::new(seed));
        let mut writer = Writer { db, rows, last: 0, pages: 0, commits: 0, changed_rows: 0 };
        writer.fill(bytes)?;
        Ok(writer)
    }

    fn fill(&mut self, bytes: u64) -> Result<()> {
        self.db.execute_batch(
            "PRAGMA page_size = 4096; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;
             CREATE TABLE entries (id INTEGER PRIMARY KEY, content TEXT NOT NULL);
             CREATE TABLE progress (commits INTEGER); INSERT INTO progress VALUES (0);",
        )?;
        let pages = |db: &Connection| db.query_row("PRAGMA page_count", [], |row| row.get::<_, i64>(0));
        while (pages(&self.db)? as u64) < bytes / PAGE_BYTES {
            self.db.execute_batch("BEGIN")?;
            for _ in 0..FILL_ROWS {
                self.append()?;
            }
            self.db.execute_batch("COMMIT")?;
        }
        self.db.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;")?;
        Ok(())
    }

    fn append(&mut self) -> Result<()> {
        self.last += 1;
        let content = content(&mut self.rows, self.last)?;
        let mut insert = self.db.prepare_cached("INSERT INTO entries VALUES (?, ?)")?;
        insert.execute((self.last, content))?;
        Ok(())
    }

    /// Changes some rows at random places, or adds some.
    fn transaction(&mut self) -> Result<()> {
        let count = self.rows.transaction_rows();
        self.change(count).map(drop)
    }

    /// A transaction that changes this many rows, or in one of ten cases adds them. Returns the
    /// number of transactions so far.
    pub(crate) fn change(&mut self, count: u64) -> Result<u64> {
        let grows = self.rows.is_growth();
        self.db.execute_batch("BEGIN")?;
        for _ in 0..count {
            if grows {
                self.append()?;
                continue;
            }
            let id = 1 + self.rows.below(self.last.unsigned_abs()) as i64;
            let content = content(&mut self.rows, id)?;
            let mut update = self.db.prepare_cached("UPDATE entries SET content = ? WHERE id = ?")?;
            update.execute((content, id))?;
        }
        self.commits += 1;
        self.changed_rows += count;
        self.db.prepare_cached("UPDATE progress SET commits = ?")?.execute([self.commits as i64])?;
        self.db.execute_batch("COMMIT")?;
        self.pages += 1 + if grows { 1 + count / ROWS_A_PAGE } else { count };
        Ok(self.commits)
    }
}

/// New content of a row, whose length follows from its number: a changed row fits its page.
fn content(rows: &mut Rows, id: i64) -> Result<String> {
    let (least, most) = ROW_BYTES;
    let scattered = (id.unsigned_abs()).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
    let mut content = vec![0; (least + scattered % (most - least)) as usize];
    rows.fill(&mut content);
    Ok(String::from_utf8(content)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_keeps_its_length_and_lengths_vary() {
        let mut rows = Rows::new(1);
        let mut len = |id| content(&mut rows, id).unwrap().len() as u64;
        assert_eq!(len(7), len(7));
        let lens: Vec<u64> = (0..1000).map(len).collect();
        assert!(lens.iter().all(|len| (ROW_BYTES.0..ROW_BYTES.1).contains(len)));
        let mean = lens.iter().sum::<u64>() / 1000;
        assert!((650..750).contains(&mean), "{mean}");
    }

    #[test]
    fn a_marked_file_does_not_open_and_an_empty_one_has_no_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(DATABASE);
        std::fs::write(&path, b"").unwrap();
        assert_eq!(opens(&path).unwrap(), None);
        std::fs::write(&path, vec![b'x'; 8192]).unwrap();
        assert_eq!(opens(&path).unwrap(), Some(false));
        std::fs::remove_file(&path).unwrap();
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
        assert_eq!(opens(&path).unwrap(), Some(true));
    }
}
