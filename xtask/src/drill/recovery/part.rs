//! Processes of the drill that are xtask itself.

use super::sqlite;
use crate::Result;
use crate::size::Size;
use pitr::format::TxId;
use pitr::recovery::{History, RestoreOptions, Target};
use pitr::{Pitr, PitrConfig};
use pitr_reference::ReferenceEngine;
use serde_json::json;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Part {
    /// Restores a store of the reference engine, and prints a report
    Restore {
        repo: PathBuf,
        #[arg(long)]
        to: String,
        #[arg(long)]
        output: PathBuf,
        #[arg(long)]
        workers: Option<NonZeroUsize>,
    },
    /// Checks the log of a store of the reference engine, and prints a report
    Validate {
        repo: PathBuf,
        #[arg(long)]
        to: String,
        #[arg(long)]
        workers: Option<NonZeroUsize>,
    },
    /// Writes a SQLite file, as its application
    Write { folder: PathBuf, base: Size, wal: Size, target_at: u64, seed: u64 },
}

/// A process that restores or validates a store from `repo`; it lacks the options.
pub(super) fn command(part: &str, repo: &Path) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["drill", "recovery-part", part]).arg(repo);
    Ok(command)
}

impl Part {
    pub(crate) fn run(self) -> Result<bool> {
        match self {
            Part::Restore { repo, to, output, workers } => {
                let options = RestoreOptions { workers, ..RestoreOptions::to(output) };
                restore_store(&repo, &target_of(&to)?, &options)?;
            }
            Part::Validate { repo, to, workers } => {
                let (pitr, history) = open_store(&repo)?;
                let plan = history.plan_for(&target_of(&to)?)?;
                let stats = pitr.validate(&history, &plan, workers, &|_| {})?;
                println!("{}", json!({ "wal_bytes": stats.log_bytes }));
            }
            Part::Write { folder, base, wal, target_at, seed } => {
                sqlite::write(&folder, base.bytes(), target_at, wal.bytes(), seed)?;
            }
        }
        Ok(true)
    }
}

/// Restores a store, and prints the report.
pub(super) fn restore_store(repo: &Path, target: &Target, options: &RestoreOptions) -> Result<()> {
    let begun = Instant::now();
    let (pitr, history) = open_store(repo)?;
    let plan = history.plan_for(target)?;
    let planned = begun.elapsed();
    let restored = pitr.restore(&history, &plan, options, &|_| {})?;
    let phases = format!("plan: {planned:.2?}, {:.2?}", restored.stats.phases);
    println!(
        "{}",
        json!({
            "wal_bytes": restored.stats.log_bytes,
            "records": restored.stats.records,
            "reused_bytes": restored.reused_bytes,
            "phases": phases,
        })
    );
    Ok(())
}

fn open_store(repo: &Path) -> Result<(Pitr, History)> {
    let mut pitr = Pitr::open(&PitrConfig::at(repo))?;
    pitr.register(Arc::new(ReferenceEngine))?;
    let history = pitr.history(&pitr.only_source()?, None)?;
    Ok((pitr, history))
}

fn target_of(to: &str) -> Result<Target> {
    Ok(match to.strip_prefix("tx:") {
        Some(number) => Target::at(TxId::new(number.parse()?)),
        None => Target::latest(),
    })
}
