//! Wrong use and damage: each command ends with its exit code and one plain line, with `--json`
//! also one document, and never with a panic.
//!
//! Arguments that the caller can correct (a path, a source, a repository, an existing output) count
//! as usage errors. Other faults count as failures.

use super::{Seed, Stage, judged, settle};
use crate::Result;
use crate::program::{CORRUPT, CallResult};
use crate::verdict::Verdict;
use crate::world::files_below;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const FAILED: i32 = 1;
const USAGE: i32 = 2;
const UNREACHABLE: i32 = 3;
const LOCKED: i32 = 5;
const TOO_LATE: i32 = 6;

#[derive(Debug, clap::Args)]
pub(crate) struct Misuse {
    #[command(flatten)]
    pub(crate) seed: Seed,
}

impl Misuse {
    pub(crate) fn run(&self) -> Result<bool> {
        let command = format!("cargo xtask drill misuse --seed {}", self.seed.seed);
        judged(&command, |verdict| self.body(verdict))
    }

    fn body(&self, verdict: &mut Verdict) -> Result<()> {
        let mut stage = Stage::new("misuse", "writer.py", &[&self.seed.seed.to_string(), "30"])?;
        let watch = stage.program.watch(&stage.database, &[])?;
        stage.application.send("go")?;
        stage.application.events_until("done")?;
        settle();
        let database = stage.database.to_string_lossy().into_owned();
        let mut cases = Cases { stage: &stage, verdict, seen: 0 };
        cases.expect(LOCKED, &["watch", &database], "")?;
        watch.stop()?;
        cases.usage(&database)?;
        cases.sources(&database)?;
        cases.repositories()?;
        cases.targets()?;
        cases.outputs()?;
        cases.damage()?;
        let seen = cases.seen;
        verdict.figure(format_args!("{seen} misuses, each with its exit code and one line"));
        Ok(())
    }
}

struct Cases<'a> {
    stage: &'a Stage,
    verdict: &'a mut Verdict,
    seen: usize,
}

impl Cases<'_> {
    /// Calls `pitr` and expects this exit code, and `said` in its error line.
    fn expect(&mut self, code: i32, args: &[&str], said: &str) -> Result<()> {
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        let called = self.stage.program.call(args)?;
        self.judge(code, &called, said);
        Ok(())
    }

    fn judge(&mut self, code: i32, called: &CallResult, said: &str) {
        self.seen += 1;
        let answered = called.answer["error"]["exit"].as_i64();
        // A late restore still succeeded: its document is the restore's.
        let answered = if code == TOO_LATE { answered.or(Some(code.into())) } else { answered };
        let message = called.answer["error"]["message"].as_str();
        let lines: Vec<&str> = called.stderr.lines().filter(|line| line.starts_with("pitr: ")).collect();
        self.verdict.check(
            called.code == Some(code) && answered == Some(code.into()),
            format_args!("{called}; expected {code}, the document has {answered:?}"),
        );
        self.verdict.check(
            lines.len() == 1 && (message.is_none() || lines[0].strip_prefix("pitr: ") == message),
            format_args!("{called}; expected one line, as in the document: {message:?}"),
        );
        self.verdict.check(called.stderr.contains(said), format_args!("{called}; expected {said:?} in it"));
    }

    fn usage(&mut self, database: &str) -> Result<()> {
        self.expect(USAGE, &[], "")?;
        self.expect(USAGE, &["rewind"], "rewind")?;
        self.expect(USAGE, &["info", "--nonsense"], "--nonsense")?;
        self.expect(USAGE, &["restore", "--to", "latest"], "--output")?;
        self.expect(USAGE, &["restore", "--to", "noon", "--output", "o.db"], "noon")?;
        self.expect(USAGE, &["restore", "--to", "point:", "--output", "o.db"], "recovery point")?;
        self.expect(USAGE, &["watch", database, "--rpo", "0"], "RPO 0 is not possible for SQLite")?;
        self.expect(USAGE, &["watch", database, "--snapshot-every", "5"], "unit")?;
        self.expect(USAGE, &["info", "--repo", "s3://bucket/prefix"], "s3")?;
        self.expect(USAGE, &["log", "--source", "a/b"], "a/b")
    }

    fn sources(&mut self, database: &str) -> Result<()> {
        let world = &self.stage.world;
        let text = world.path("letter.txt");
        fs::write(&text, "not a database, only a letter that is long enough to be one\n".repeat(40))?;
        let rollback = world.path("rollback.db");
        sql(&rollback, "CREATE TABLE t (x); INSERT INTO t VALUES (1)")?;
        for path in [world.path("absent.db"), text] {
            let path = path.to_string_lossy().into_owned();
            for command in ["backup", "watch"] {
                self.expect(USAGE, &[command, &path], "")?;
            }
        }
        let folder = world.path("").to_string_lossy().into_owned();
        self.expect(USAGE, &["watch", &folder], "")?;
        self.expect(USAGE, &["backup", &folder, "--state", "state"], "--state")?;
        let rollback = rollback.to_string_lossy().into_owned();
        self.expect(USAGE, &["watch", &rollback], "journal_mode")?;
        self.expect(USAGE, &["log", "--source", "nobody"], "nobody")?;
        self.expect(USAGE, &["watch", database, "--state", "/dev/null/state"], "/dev/null/state")
    }

    fn repositories(&mut self) -> Result<()> {
        let absent = self.stage.world.path("no-repository").to_string_lossy().into_owned();
        let empty = self.stage.world.path("empty");
        fs::create_dir(&empty)?;
        let empty = empty.to_string_lossy().into_owned();
        for repo in [&absent, &empty] {
            self.expect(USAGE, &["info", "--repo", repo], "init")?;
            self.expect(USAGE, &["restore", "--repo", repo, "--to", "latest", "--output", "o.db"], "init")?;
        }
        self.expect(USAGE, &["init"], "already")
    }

    fn targets(&mut self) -> Result<()> {
        let output = self.stage.world.path("unreached.db").to_string_lossy().into_owned();
        let targets =
            ["tx:999999", "lsn:999999999999", "2001-01-01T00:00:00Z", "2199-01-01T00:00:00Z", "10 years ago"];
        // Years have no fixed length.
        let code = |target: &str| if target.ends_with("years ago") { USAGE } else { UNREACHABLE };
        for target in targets {
            self.expect(code(target), &["restore", "--to", target, "--output", &output], "")?;
            self.verdict.check(!Path::new(&output).exists(), format_args!("{target} left an output"));
        }
        let restore = ["restore", "--to", "latest", "--output", &output];
        self.expect(USAGE, &[&restore[..], &["--timeline", "77"]].concat(), "77")?;
        self.expect(TOO_LATE, &[&restore[..], &["--rto", "1ms", "--dry-run"]].concat(), "")?;
        self.verdict.check(!Path::new(&output).exists(), "a dry run left an output");
        Ok(())
    }

    /// FAILURES 43: files beside the output count as the output.
    fn outputs(&mut self) -> Result<()> {
        for (number, suffix) in ["", "-wal", "-shm", "-journal"].into_iter().enumerate() {
            let output = self.stage.world.path(&format!("taken{number}.db"));
            let mut taken = OsString::from(&output);
            taken.push(suffix);
            fs::write(&taken, "precious")?;
            let called = self.stage.program.restore("latest", &output, &[])?;
            self.judge(USAGE, &called, &taken.to_string_lossy());
            self.verdict
                .check(fs::read(&taken)? == b"precious", format_args!("{} was touched", taken.display()));
            self.stage.program.restore("latest", &output, &["--force"])?.done()?;
        }
        let kept =
            fs::read_dir(self.stage.world.path(""))?.filter_map(|entry| fs::read(entry.ok()?.path()).ok());
        let kept = kept.filter(|bytes| bytes == b"precious").count();
        self.verdict.check(kept == 4, format_args!("--force kept {kept} of 4 files in the way"));
        let nowhere = self.stage.world.path("no-such-folder/o.db").to_string_lossy().into_owned();
        self.expect(FAILED, &["restore", "--to", "latest", "--output", &nowhere], "")
    }

    /// Flips one bit of every pack and every log object: a restore that needs it is refused with 4.
    fn damage(&mut self) -> Result<()> {
        let repo = self.stage.program.repo();
        let mut objects = files_below(&repo.join("packs"))?;
        objects.extend(files_below(&repo.join("sources"))?);
        objects.retain(|path| {
            path.components().any(|part| part.as_os_str() == "packs" || part.as_os_str() == "log")
        });
        let sound: Vec<(PathBuf, Vec<u8>)> = objects
            .into_iter()
            .map(|path| fs::read(&path).map(|bytes| (path, bytes)))
            .collect::<std::io::Result<_>>()?;
        for (path, bytes) in &sound {
            let mut rotten = bytes.clone();
            rotten[bytes.len() / 2] ^= 0x10;
            fs::write(path, rotten)?;
        }
        let output = self.stage.world.path("rotten.db").to_string_lossy().into_owned();
        self.expect(CORRUPT, &["restore", "--to", "latest", "--output", &output], "")?;
        self.verdict.check(!Path::new(&output).exists(), "a restore from rotten objects left an output");
        for (path, bytes) in &sound {
            fs::write(path, bytes)?;
        }
        Ok(())
    }
}

fn sql(database: &Path, sql: &str) -> Result<()> {
    let script = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).executescript(sys.argv[2])";
    let status = Command::new("python3").args(["-c", script]).arg(database).arg(sql).status()?;
    if status.success() { Ok(()) } else { Err("python3 can't create a database".into()) }
}
