//! Every command on databases of several sizes: its peak memory must not grow with the data. All
//! resident memory counts, including the program, but not the index of chunks, which is mapped from
//! the disk.
//!
//! The changes between two backups are the same at each size. The database also has a second name
//! in a folder that is backed up as a folder.

use super::{Stage, judged, settle};
use crate::Result;
use crate::program::Program;
use crate::usage::{self, MEMORY_MAX, Peak};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Maximum ratio of a command's largest peak to its smallest.
const RATIO_MAX: f64 = 1.2;
/// Bytes that are overwritten together.
const SPOILED: usize = 1 << 20;
/// Rounds of changes under a watch.
const WATCHED: usize = 5;

#[derive(Debug, clap::Args)]
pub(crate) struct Memory {
    /// Sizes of the database, gigabytes
    #[arg(long, value_delimiter = ',', default_value = "1,4,16")]
    pub(crate) sizes: Vec<u32>,
}

/// Peaks of each command, by size.
#[derive(Default)]
struct Peaks(BTreeMap<&'static str, Vec<u64>>);

impl Peaks {
    fn keep(&mut self, name: &'static str, peak: u64) {
        println!("    {name}: {:.1} MB", megabytes(peak));
        self.0.entry(name).or_default().push(peak);
    }

    /// Runs `pitr` with the words of `name` up to a parenthesis, then these paths.
    fn of(&mut self, name: &'static str, program: &Program, paths: &[&Path]) -> Result<()> {
        let words = name.split(" (").next().unwrap_or(name).split(' ').map(OsStr::new);
        let (usage, _) = usage::of_by(
            &mut program.command(words.chain(paths.iter().map(|path| path.as_os_str()))),
            usage::resident,
        )?;
        self.keep(name, usage.memory);
        Ok(())
    }
}

impl Memory {
    pub(crate) fn run(&self) -> Result<bool> {
        let sizes: Vec<String> = self.sizes.iter().map(u32::to_string).collect();
        judged(&format!("cargo xtask drill memory --sizes {}", sizes.join(",")), |verdict| {
            let mut peaks = Peaks::default();
            for size in &self.sizes {
                verdict.step(format_args!("{size} GB"));
                database(*size, &mut peaks)?;
            }
            for (command, peaks) in peaks.0 {
                let (least, most) = (peaks.iter().min(), peaks.iter().max());
                let (least, most) = least.copied().zip(most.copied()).unwrap_or_default();
                let ratio = most as f64 / least as f64;
                let each: Vec<String> = peaks.iter().map(|peak| format!("{:.1}", megabytes(*peak))).collect();
                verdict.figure(format_args!("{command} {} MB", each.join(" ")));
                verdict.check(
                    ratio < RATIO_MAX,
                    format_args!("{command}: the largest peak is {ratio:.2} times the smallest"),
                );
                verdict.check(most < MEMORY_MAX, format_args!("{command}: {:.0} MB", megabytes(most)));
            }
            Ok(())
        })
    }
}

/// Runs all commands on a database of this size, and on a folder that holds it. The disk holds at
/// most two and a half times that size: once everything is backed up, the database is removed.
fn database(gigabytes: u32, peaks: &mut Peaks) -> Result<()> {
    let mut stage = Stage::new("memory", "large.py", &[&gigabytes.to_string(), "1"])?;
    let (program, database) = (stage.program.clone(), stage.database.clone());
    let output = stage.world.path("restored");
    peaks.of("backup", &program, &[&database])?;
    change(&mut stage)?;
    peaks.of("backup (increment)", &program, &[&database])?;
    let watch = program.watch(&database, &[])?;
    let peak = Peak::of(watch.pid(), usage::resident);
    // The memory of a watch depends on overlap: of commits on their way into the log with log on
    // its way into the repository.
    (0..WATCHED).try_for_each(|_| change(&mut stage))?;
    settle();
    watch.stop()?;
    peaks.keep("watch", peak.stop());
    change(&mut stage)?;
    peaks.of("backup --full", &program, &[&database])?;
    for command in ["verify", "verify --deep", "log", "info"] {
        peaks.of(command, &program, &[])?;
    }

    // A hard link, so that the large file is not copied.
    let folder = stage.world.path("folder");
    fs::create_dir(&folder)?;
    fs::hard_link(&database, folder.join("app.db"))?;
    let folders = Program::with_repository(&stage.world.path("folders"))?;
    peaks.of("backup (folder)", &folders, &[&folder])?;
    change(&mut stage)?;
    peaks.of("backup (folder, increment)", &folders, &[&folder])?;
    stage.application.end()?;
    fs::remove_file(&database)?;
    fs::remove_dir_all(&folder)?;
    peaks.of("restore --to latest --output (folder)", &folders, &[&output])?;
    fs::remove_dir_all(&output)?;
    fs::remove_dir_all(folders.repo())?;

    peaks.of("restore --to latest --output", &program, &[&output])?;
    spoil(&output)?;
    peaks.of("restore --delta --to latest --output", &program, &[&output])?;
    peaks.of("prune --keep-snapshots 1 --execute", &program, &[])
}

/// Writes a mebibyte of zeros at every 64th mebibyte of a file, which a restore must repair.
fn spoil(path: &Path) -> Result<()> {
    let file = fs::File::options().write(true).open(path)?;
    let len = file.metadata()?.len();
    (0..len - SPOILED as u64)
        .step_by(64 * SPOILED)
        .try_for_each(|at| file.write_all_at(&vec![0; SPOILED], at))?;
    Ok(file.sync_all()?)
}

fn change(stage: &mut Stage) -> Result<()> {
    stage.application.send("go")?;
    stage.application.event("done").map(drop)
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
