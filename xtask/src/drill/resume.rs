//! First backups that are killed midway. The next one finds the chunks that the earlier ones had
//! indexed, the last one completes, and a prune leaves no more than an uninterrupted backup takes.

use super::{Stage, judged, stored_bytes};
use crate::Result;
use crate::application;
use crate::program::Program;
use crate::verdict::Verdict;
use crate::world::{bytes_below, same};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

/// Part of the stored bytes is indexed late: packs being filled, and full packs that do not fill an
/// index object yet.
const REST_MAX: f64 = 0.75;
const TIDY_MAX: f64 = 1.02;

#[derive(Debug, clap::Args)]
pub(crate) struct Resume {
    /// Size of the file, MB
    #[arg(long, default_value_t = 4000)]
    pub(crate) megabytes: u32,
    /// Repository sizes at which a backup is killed, as shares of the size after an uninterrupted
    /// one
    #[arg(long, value_delimiter = ',', default_value = "0.4,0.9")]
    pub(crate) at: Vec<f64>,
}

impl Resume {
    pub(crate) fn run(&self) -> Result<bool> {
        let at: Vec<String> = self.at.iter().map(f64::to_string).collect();
        let command =
            format!("cargo xtask drill resume --megabytes {} --at {}", self.megabytes, at.join(","));
        judged(&command, |verdict| self.body(verdict))
    }

    fn body(&self, verdict: &mut Verdict) -> Result<()> {
        let stage = Stage::new("resume", "increment.py", &[&self.megabytes.to_string(), "0.05", "1"])?;
        let original = application::path(&stage.ready, "before")?;
        let folder = stage.world.path("folder");
        std::fs::create_dir(&folder)?;
        std::fs::hard_link(&original, folder.join("data"))?;
        let backup = [Path::new("backup"), &folder];

        let clean = Program::with_repository(&stage.world.path("clean"))?;
        let called = clean.call(backup)?;
        let seconds = called.seconds;
        let whole = stored_bytes(&called.done()?)? as f64;
        let tidy = bytes_below(clean.repo())? as f64;
        verdict.figure(format_args!("uninterrupted: {seconds:.2} s, {whole} bytes stored"));

        let program = &stage.program;
        for share in &self.at {
            let killed = killed(program, &mut program.command(backup), tidy * share)?;
            let grown = bytes_below(program.repo())? as f64 / tidy;
            verdict.figure(format_args!("killed when the repository has {grown:.2} of its final size"));
            verdict.check(
                killed,
                format_args!("a backup ended before the repository had {share} of its final size"),
            );
        }
        let called = program.call(backup)?;
        let seconds = called.seconds;
        let answer = called.done()?;
        let rest = stored_bytes(&answer)? as f64 / whole;
        verdict.figure(format_args!(
            "the last backup: {seconds:.2} s, {:.0}% of the bytes stored",
            rest * 100.0
        ));
        verdict.check(answer["kind"] == "full", format_args!("the last backup is {}", answer["kind"]));
        verdict.check(rest < REST_MAX, format_args!("the last backup stored {rest:.2} of all bytes"));

        program.call(["verify", "--deep"])?.done()?;
        program.call(["prune", "--keep-snapshots", "1", "--execute"])?.done()?;
        let kept = bytes_below(program.repo())? as f64 / tidy;
        verdict.figure(format_args!("a prune leaves {kept:.3} times the bytes of an uninterrupted backup"));
        verdict.check(kept < TIDY_MAX, format_args!("a prune leaves {kept:.3} times the bytes"));
        let output = stage.world.path("restored");
        program.restore("latest", &output, &[])?.done()?;
        verdict.check(same(&original, &output.join("data"))?, "the restored file differs");
        Ok(())
    }
}

/// Kills a command once the repository has this size in bytes; false if it ended before.
fn killed(program: &Program, command: &mut Command, bytes: f64) -> Result<bool> {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    while child.try_wait()?.is_none() {
        if bytes_below(program.repo()).is_ok_and(|grown| grown as f64 >= bytes) {
            child.kill()?;
            child.wait()?;
            return Ok(true);
        }
        thread::sleep(Duration::from_millis(2));
    }
    Ok(false)
}
