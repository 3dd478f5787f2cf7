//! Databases of every shape, changed under a watch. The restored latest state is exact in content
//! and length: once from the first snapshot and the log, and once more from a later incremental
//! snapshot.

use super::{Seed, Stage, judged, settle};
use crate::Result;
use crate::application;
use crate::verdict::Verdict;
use pitr::exact::Fingerprint;
use std::path::Path;
use std::time::{Duration, Instant};

const SHAPES: [&str; 17] = [
    "page-512",
    "page-1024",
    "page-2048",
    "page-4096",
    "page-8192",
    "page-16384",
    "page-32768",
    "page-65536",
    "vacuum",
    "auto-vacuum",
    "incremental-vacuum",
    "transaction-25MB",
    "spill-and-roll-back",
    "savepoints",
    "without-rowid",
    "replaced",
    "lock-page",
];
/// Time for the watcher to notice that another file has the database's name, and to take a new
/// base.
const NEW_BASE_AFTER: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
pub(crate) struct Shapes {
    /// Run only this shape
    #[arg(long, value_name = "SHAPE", value_parser = SHAPES)]
    pub(crate) only: Option<String>,
    #[command(flatten)]
    pub(crate) seed: Seed,
}

impl Shapes {
    pub(crate) fn run(&self) -> Result<bool> {
        let only = self.only.as_ref().map_or(String::new(), |name| format!(" --only {name}"));
        let command = format!("cargo xtask drill shapes{only} --seed {}", self.seed.seed);
        judged(&command, |verdict| {
            let shapes = SHAPES.iter().filter(|name| self.only.as_deref().is_none_or(|only| only == **name));
            let mut exact = 0;
            let mut count = 0;
            for name in shapes {
                count += 1;
                match shape(name, self.seed.seed, verdict) {
                    Ok(true) => exact += 1,
                    Ok(false) => {}
                    Err(error) => verdict.fail(format_args!("{name}: {error}")),
                }
            }
            verdict.figure(format_args!("{exact} of {count} shapes exact"));
            Ok(())
        })
    }
}

fn shape(name: &str, seed: u64, verdict: &mut Verdict) -> Result<bool> {
    let begin = Instant::now();
    let mut stage = Stage::new(name, "shapes.py", &[name, &seed.to_string()])?;
    let watch = stage.program.watch(&stage.database, &[])?;
    stage.application.send("go")?;
    if name == "replaced" {
        stage.application.event("replaced")?;
        std::thread::sleep(NEW_BASE_AFTER);
        stage.application.send("go")?;
    }
    let done = stage.application.event("done")?;
    settle();
    watch.stop()?;
    let expected = Fingerprint::of(&application::path(&done, "copy")?)?;

    let from_log = restored(&stage, "from-log.db", name, &expected, verdict)?;
    let mut backup: Vec<&Path> = vec![Path::new("backup")];
    backup.push(&stage.database);
    let backup = stage.program.call(backup)?.done()?;
    let from_snapshot = restored(&stage, "from-snapshot.db", name, &expected, verdict)?;
    verdict.step(format_args!(
        "{name}: {} pages of {}, {} rows, {} snapshot, {:.1} s",
        expected.pages,
        expected.page_bytes,
        expected.rows(),
        backup["kind"].as_str().unwrap_or("?"),
        begin.elapsed().as_secs_f64()
    ));
    Ok(from_log && from_snapshot)
}

fn restored(
    stage: &Stage,
    file: &str,
    name: &str,
    expected: &Fingerprint,
    verdict: &mut Verdict,
) -> Result<bool> {
    let output = stage.world.path(file);
    let called = stage.program.restore("latest", &output, &[])?;
    if called.code != Some(0) {
        return Err(called.to_string().into());
    }
    let difference = Fingerprint::of(&output)?.difference(expected);
    if let Some(difference) = &difference {
        verdict.fail(format_args!("{name}, {file}: {difference}"));
    }
    std::fs::remove_file(output)?;
    Ok(difference.is_none())
}
