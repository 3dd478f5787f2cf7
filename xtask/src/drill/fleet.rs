//! Hundreds of databases in one folder under one watch: threads, memory and processor time at rest,
//! and an exact restore of each database to one moment.

use super::{Stage, judged};
use crate::Result;
use crate::moments;
use crate::usage;
use crate::verdict::Verdict;
use pitr::exact;
use std::path::Path;
use std::thread;
use std::time::Duration;

/// Required by the issue and the design.
const THREADS_MAX: usize = 16;
const MEMORY_MAX: u64 = 300_000_000;
const CORE_SHARE_MAX: f64 = 0.02;

#[derive(Debug, clap::Args)]
pub(crate) struct Fleet {
    /// Databases in the folder
    #[arg(long, default_value_t = 300)]
    pub(crate) databases: u32,
    /// Seconds at rest for the measurement of processor time
    #[arg(long, default_value_t = 130)]
    pub(crate) seconds: u64,
}

impl Fleet {
    pub(crate) fn run(&self) -> Result<bool> {
        let command =
            format!("cargo xtask drill fleet --databases {} --seconds {}", self.databases, self.seconds);
        judged(&command, |verdict| self.body(verdict))
    }

    fn body(&self, verdict: &mut Verdict) -> Result<()> {
        let mut stage = Stage::new("fleet", "fleet.py", &[&self.databases.to_string()])?;
        let watch = stage.program.watch(&stage.database, &["--match", "*.db"])?;
        self.write(&mut stage, 1000)?;
        thread::sleep(Duration::from_secs(10));
        let before = usage::cpu_seconds_of(watch.pid())?;
        thread::sleep(Duration::from_secs(self.seconds));
        let share = (usage::cpu_seconds_of(watch.pid())? - before) / self.seconds as f64;
        let threads = std::fs::read_dir(format!("/proc/{}/task", watch.pid()))?.count();
        let memory = usage::anonymous_below(watch.pid());
        verdict.figure(format_args!(
            "{} databases at rest: {threads} threads, {:.0} MB of anonymous memory, {:.2}% of a core",
            self.databases,
            memory as f64 / 1e6,
            share * 100.0
        ));
        verdict.check(threads <= THREADS_MAX, format_args!("{threads} threads, wanted {THREADS_MAX}"));
        verdict.check(memory <= MEMORY_MAX, format_args!("{memory} bytes, wanted {MEMORY_MAX}"));
        verdict.check(share <= CORE_SHARE_MAX, format_args!("{share} of a core, wanted {CORE_SHARE_MAX}"));

        self.write(&mut stage, 2000)?;
        stage.application.send("copies")?;
        let copied = stage.application.event("copied")?;
        self.write(&mut stage, 500)?;
        thread::sleep(Duration::from_secs(3));
        watch.stop()?;
        let moment = copied["moment_us"].as_i64().ok_or("no moment in the event")?;
        let copies = copied["folder"].as_str().ok_or("no folder in the event")?;
        self.compare(&stage, &moments::rfc3339(moment), Path::new(copies), verdict)
    }

    fn write(&self, stage: &mut Stage, commits: u32) -> Result<()> {
        stage.application.send(&format!("write {commits}"))?;
        stage.application.event("written").map(drop)
    }

    /// Restores all databases at one moment, and compares each with the application's own copy.
    fn compare(&self, stage: &Stage, moment: &str, copies: &Path, verdict: &mut Verdict) -> Result<()> {
        let output = stage.world.path("restored");
        stage.program.restore(moment, &output, &["--all"])?.done()?;
        let mut compared = 0;
        for restored in std::fs::read_dir(&output)? {
            let restored = restored?.path();
            let name = restored.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let difference = exact::compare(&restored, &copies.join(format!("{name}.db")))?;
            verdict.check(difference.is_none(), format_args!("{name} at {moment}: {difference:?}"));
            compared += 1;
        }
        verdict.check(compared == self.databases, format_args!("{compared} databases were restored"));
        verdict.figure(format_args!("{compared} databases restored to {moment}, each compared"));
        Ok(())
    }
}
