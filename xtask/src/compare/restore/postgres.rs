//! PostgreSQL: a base backup, its log archived by `cp`, and recovery to a time.
//!
//! The server runs in the run's folder, listens on a socket there only, and is stopped at the end.
//! It does not run as root: for root, PostgreSQL's own user runs it.

use super::{Outcome, Work};
use crate::Result;
use crate::rows::Rows;
use crate::world::{World, bytes_below, drop_cache_below};
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Rows of about 700 bytes: the length of a row follows from its number.
const ROW_BYTES: (u64, u64) = (200, 1200);
const PAGE_BYTES: u64 = 4096;
/// Rows in 4 KiB, about: as many as SQLite puts into its pages.
const ROWS_A_PAGE: u64 = 5;
const RECOVERED_AT_MOST: Duration = Duration::from_secs(1800);
/// Transactions after the target.
const AFTER: u64 = 50;
const SETTINGS: &str = "
listen_addresses = ''
wal_level = replica
max_wal_senders = 2
archive_mode = on
shared_buffers = 1GB
max_wal_size = 100GB
checkpoint_timeout = 1h
synchronous_commit = off
autovacuum = off
hot_standby = off
";
const SETTINGS_SAID: &str = "`pg_basebackup` plain, archive by `cp`, both uncompressed; `shared_buffers = 1GB`, full-page images, fsync on. Restore: `cp -a` of the backup, then recovery to a time with `restore_command = cp`, until the server accepts connections. Writing: `synchronous_commit = off`, no autovacuum, no checkpoint after the base.";

pub(super) fn restore(work: Work) -> Result<Option<Outcome>> {
    let Some(version) = version() else { return Ok(None) };
    let world = World::new("restore-postgres")?;
    let cluster = Cluster::new(&world, programs())?;
    cluster.create("data")?;
    let mut running = cluster.start("data")?;
    let mut session =
        Session { cluster: &cluster, rows: Rows::new(work.seed), last: 0, pages: 0, commits: 0 };
    session.fill(work.sizes.base.bytes())?;
    cluster.run("pg_basebackup", &["-D", "base", "-X", "none", "-c", "fast", "-h", &cluster.folder()])?;
    session.write_until(work.target_at() / 2)?;
    let (moment, wanted) = (cluster.now()?, session.commits);
    session.write_until(work.target_at())?;
    thread::sleep(Duration::from_millis(200));
    let (target, state) = (cluster.now()?, cluster.state()?);
    thread::sleep(Duration::from_millis(200));
    session.write_commits(AFTER)?;
    cluster.archive_all()?;
    running.stop()?;
    fs::remove_dir_all(world.path("data"))?;

    let whole = cluster.recover(&target)?;
    let difference = (cluster.state()? != state).then(|| "the rows differ".to_owned());
    let mut running = whole.running;
    running.stop()?;
    fs::remove_dir_all(world.path("data"))?;
    let mut of_moment = cluster.recover(&moment)?;
    let found = Some(cluster.ask("SELECT commits FROM progress")?.parse()?);
    of_moment.running.stop()?;
    Ok(Some(Outcome {
        name: format!("postgres {version}"),
        seconds: whole.seconds,
        base_seconds: Some(whole.copied),
        log: Some(whole.log),
        stored: bytes_below(&world.path("base"))? + bytes_below(&world.path("archive"))?,
        difference,
        moment: Some((wanted, found)),
        settings: SETTINGS_SAID,
    }))
}

/// The folder of the newest installed server.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions.map(|entry| entry.path()).max();
    newest.map_or_else(PathBuf::new, |folder| folder.join("bin"))
}

fn version() -> Option<String> {
    let output = Command::new(programs().join("postgres")).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().nth(2).map(str::to_owned)
}

/// Programs and folder of a cluster.
struct Cluster {
    programs: PathBuf,
    dir: PathBuf,
}

/// A running server; stopped when dropped.
struct Server<'c> {
    cluster: &'c Cluster,
    data: &'static str,
    runs: bool,
}

/// A recovered server.
struct Recovered<'c> {
    running: Server<'c>,
    /// Seconds until it accepted connections, and until the base was copied.
    seconds: f64,
    copied: f64,
    /// Bytes of log, and seconds of replay.
    log: (u64, f64),
}

impl Cluster {
    fn new(world: &World, programs: PathBuf) -> Result<Cluster> {
        let dir: PathBuf = world.path("").components().collect();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))?;
        fs::create_dir(dir.join("archive"))?;
        if rustix::process::geteuid().is_root() {
            for path in [dir.clone(), dir.join("archive")] {
                let status = Command::new("chown").arg("postgres").arg(path).status()?;
                if !status.success() {
                    return Err("there is no user postgres".into());
                }
            }
        }
        Ok(Cluster { programs, dir })
    }

    fn folder(&self) -> String {
        self.dir.to_string_lossy().into_owned()
    }

    /// A command of PostgreSQL, as a user that may run it.
    fn command(&self, program: &Path) -> Command {
        let mut command = match rustix::process::geteuid().is_root() {
            true => {
                let mut command = Command::new("runuser");
                command.args(["-u", "postgres", "--"]).arg(program);
                command
            }
            false => Command::new(program),
        };
        command.current_dir(&self.dir).stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    fn run(&self, program: &str, args: &[&str]) -> Result<()> {
        let output = self.command(&self.programs.join(program)).args(args).stderr(Stdio::piped()).output()?;
        match output.status.success() {
            true => Ok(()),
            false => Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr)).into()),
        }
    }

    fn create(&self, data: &str) -> Result<()> {
        self.run("initdb", &["-D", data, "-A", "trust", "--no-sync", "--encoding=UTF8", "--locale=C"])?;
        let settings = format!(
            "{SETTINGS}unix_socket_directories = '{0}'\narchive_command = 'cp %p {0}/archive/%f'\n",
            self.folder()
        );
        self.append(data, &settings)
    }

    fn append(&self, data: &str, settings: &str) -> Result<()> {
        let path = self.dir.join(data).join("postgresql.conf");
        Ok(OpenOptions::new().append(true).open(path)?.write_all(settings.as_bytes())?)
    }

    fn start(&self, data: &'static str) -> Result<Server<'_>> {
        let log = format!("{data}.log");
        // From here on a server may run, also if the command fails.
        let server = Server { cluster: self, data, runs: true };
        self.run("pg_ctl", &["-D", data, "-l", &log, "-w", "-t", "900", "start"])?;
        Ok(server)
    }

    fn session(&self) -> Command {
        let mut command = self.command(Path::new("psql"));
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", &self.folder(), "postgres"]);
        command
    }

    fn ask(&self, query: &str) -> Result<String> {
        let output =
            self.session().args(["-c", query]).stdout(Stdio::piped()).stderr(Stdio::piped()).output()?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
            false => Err(format!("{query}: {}", String::from_utf8_lossy(&output.stderr)).into()),
        }
    }

    fn now(&self) -> Result<String> {
        self.ask("SELECT clock_timestamp()")
    }

    /// Number and hash of all rows.
    fn state(&self) -> Result<String> {
        self.ask(
            "SELECT count(*), sum(hashtextextended(id || content, 0)::numeric), (SELECT commits FROM progress) FROM entries",
        )
    }

    /// Ends the segment, and waits until it is archived.
    fn archive_all(&self) -> Result<()> {
        let last = self.ask("SELECT pg_walfile_name(pg_switch_wal())")?;
        for _ in 0..3000 {
            if self.dir.join("archive").join(&last).exists() {
                let archived = self.ask("SELECT last_archived_wal FROM pg_stat_archiver")?;
                if archived >= last {
                    return Ok(());
                }
            }
            thread::sleep(Duration::from_millis(100));
        }
        Err("the last segment was not archived".into())
    }

    /// Copies the base, and recovers it to a time.
    fn recover(&self, time: &str) -> Result<Recovered<'_>> {
        drop_cache_below(&self.dir.join("base"))?;
        drop_cache_below(&self.dir.join("archive"))?;
        let _ = fs::remove_file(self.dir.join("data.log"));
        let begun = Instant::now();
        let status = Command::new("cp").args(["-a", "base", "data"]).current_dir(&self.dir).status()?;
        if !status.success() {
            return Err("the base could not be copied".into());
        }
        let copied = begun.elapsed().as_secs_f64();
        let settings = format!(
            "restore_command = 'cp {}/archive/%f %p'\nrecovery_target_time = '{time}'\nrecovery_target_action = promote\narchive_mode = off\n",
            self.folder()
        );
        self.append("data", &settings)?;
        self.command(Path::new("touch")).arg("data/recovery.signal").status()?;
        let running = self.start("data")?;
        self.wait_until_ready()?;
        rustix::fs::sync();
        let seconds = begun.elapsed().as_secs_f64();
        let log = replayed(&fs::read_to_string(self.dir.join("data.log"))?)?;
        Ok(Recovered { running, seconds, copied, log })
    }
}

impl Cluster {
    /// Waits until the server accepts connections: `pg_ctl` does not wait for the end of a
    /// recovery without `hot_standby`.
    fn wait_until_ready(&self) -> Result<()> {
        let begun = Instant::now();
        while self.run("pg_isready", &["-q", "-h", &self.folder()]).is_err() {
            if begun.elapsed() > RECOVERED_AT_MOST || !self.dir.join("data/postmaster.pid").exists() {
                let log = fs::read_to_string(self.dir.join("data.log")).unwrap_or_default();
                let last = log.lines().last().unwrap_or_default();
                return Err(format!("the server did not recover: {last}").into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Server<'_> {
    fn stop(&mut self) -> Result<()> {
        self.runs = false;
        self.cluster.run("pg_ctl", &["-D", self.data, "-m", "fast", "-w", "-t", "900", "stop"])
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        if self.runs {
            let _ = self.cluster.run("pg_ctl", &["-D", self.data, "-m", "immediate", "stop"]);
        }
    }
}

/// Bytes and seconds of replay, from the server's log.
fn replayed(log: &str) -> Result<(u64, f64)> {
    let after =
        |mark: &str| log.split(mark).nth(1).ok_or_else(|| format!("the server's log has no {mark:?}"));
    let (from, to) = (after("redo starts at ")?, after("redo done at ")?);
    let seconds =
        to.split("elapsed: ").nth(1).and_then(|rest| rest.split(' ').next()).ok_or("no elapsed time")?;
    Ok((position(to)?.saturating_sub(position(from)?), seconds.parse()?))
}

/// A position of PostgreSQL's log, such as `0/2000028`, at the begin of a text.
fn position(text: &str) -> Result<u64> {
    let word = text.split_whitespace().next().unwrap_or_default();
    let (high, low) = word.split_once('/').ok_or_else(|| format!("{word:?} is no position"))?;
    Ok(u64::from_str_radix(high, 16)? << 32 | u64::from_str_radix(low, 16)?)
}

/// The application: the transactions of the SQLite one (`drill/recovery/sqlite.rs`).
struct Session<'c> {
    cluster: &'c Cluster,
    rows: Rows,
    last: u64,
    /// Pages that SQLite would have written.
    pages: u64,
    commits: u64,
}

impl Session<'_> {
    fn fill(&mut self, bytes: u64) -> Result<()> {
        self.cluster.ask(
            "CREATE TABLE entries (id bigint PRIMARY KEY, content text NOT NULL) WITH (fillfactor = 90)",
        )?;
        self.cluster.ask("ALTER TABLE entries ALTER COLUMN content SET STORAGE PLAIN")?;
        self.cluster.ask("CREATE TABLE progress (commits bigint)")?;
        self.cluster.ask("INSERT INTO progress VALUES (0)")?;
        let rows = bytes / PAGE_BYTES * ROWS_A_PAGE;
        self.feed("COPY entries FROM STDIN", |session, line| {
            if session.last == rows {
                return false;
            }
            session.last += 1;
            let content = session.content(session.last);
            // Writing to a String cannot fail.
            let _ = writeln!(line, "{}\t{content}", session.last);
            true
        })?;
        self.cluster.ask("CHECKPOINT").map(drop)
    }

    fn write_until(&mut self, bytes: u64) -> Result<()> {
        self.feed("", |session, line| {
            let wants = session.pages * PAGE_BYTES < bytes;
            if wants {
                session.transaction(line);
            }
            wants
        })
    }

    fn write_commits(&mut self, count: u64) -> Result<()> {
        let until = self.commits + count;
        self.feed("", |session, line| {
            let wants = session.commits < until;
            if wants {
                session.transaction(line);
            }
            wants
        })
    }

    /// Passes lines to a session of `psql` as long as there are some.
    fn feed(&mut self, head: &str, mut next: impl FnMut(&mut Self, &mut String) -> bool) -> Result<()> {
        let mut command = self.cluster.session();
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::inherit()).spawn()?;
        let mut into = std::io::BufWriter::with_capacity(1 << 16, child.stdin.take().ok_or("no pipe")?);
        if !head.is_empty() {
            writeln!(into, "{head};")?;
        }
        let mut line = String::new();
        while next(self, &mut line) {
            into.write_all(line.as_bytes())?;
            line.clear();
        }
        into.flush()?;
        drop(into);
        if child.wait()?.success() { Ok(()) } else { Err("psql failed".into()) }
    }

    fn content(&mut self, id: u64) -> String {
        let (least, most) = ROW_BYTES;
        let scattered = id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
        let mut content = vec![0; (least + scattered % (most - least)) as usize];
        self.rows.fill(&mut content);
        String::from_utf8_lossy(&content).into_owned() // ASCII
    }

    /// One line with all statements of a transaction: the server gets them together.
    fn transaction(&mut self, line: &mut String) {
        let (count, grows) = (self.rows.transaction_rows(), self.rows.is_growth());
        for _ in 0..count {
            let id = if grows { self.last + 1 } else { 1 + self.rows.below(self.last) };
            self.last = self.last.max(id);
            let content = self.content(id);
            let _ = match grows {
                true => write!(line, "INSERT INTO entries VALUES ({id}, '{content}')\\; "),
                false => write!(line, "UPDATE entries SET content = '{content}' WHERE id = {id}\\; "),
            };
        }
        self.commits += 1;
        let _ = writeln!(line, "UPDATE progress SET commits = {};", self.commits);
        self.pages += 1 + if grows { 1 + count / ROWS_A_PAGE } else { count };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_replay_is_read_from_the_server_s_log() {
        let log = "x LOG:  redo starts at 0/2000028\ny\nx LOG:  redo done at 1/3000000 system usage: CPU: user: 1.00 s, system: 0.50 s, elapsed: 9.25 s\n";
        assert_eq!(replayed(log).unwrap(), (0x1_0300_0000 - 0x200_0028, 9.25));
        assert!(replayed("redo starts at 0/2000028").is_err());
        assert!(position("12").is_err());
    }
}
