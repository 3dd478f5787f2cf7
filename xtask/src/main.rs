//! Long drills and comparisons, run as `cargo xtask`.
//!
//! Everything here drives the release program as a user would: by its command line, against other processes that write. Of pitr's
//! insides it sees only the exact comparison of two SQLite files. A drill prints what it did and a last line with PASS or FAIL and its
//! figures, ends with 1 when it failed, removes its data, and adds a line to `benches/results/ledger.md`.

#![deny(unsafe_code)]

mod application;
mod bound;
mod compare;
mod drill;
mod fuzz;
mod golden;
mod measure;
mod miri;
mod models;
mod moments;
mod program;
mod soak;
mod tidy;
mod usage;
mod verdict;
mod witness;
mod world;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// What can go wrong around a drill; a drill that ran and failed is no error but a verdict.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Long drills and comparisons")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Drives the program against writing processes and proves what comes back
    #[command(subcommand)]
    Drill(drill::Drill),
    /// Puts the program beside another one
    #[command(subcommand)]
    Compare(compare::Compare),
    /// What the machine gives at most for a backup and a restore of a file, with none of our crates
    Bound(bound::Bound),
    /// Times single crates beside their bounds
    #[command(subcommand)]
    Measure(measure::Measure),
    /// Tries many seeds of what the crates' tests try a hundred of
    #[command(subcommand)]
    Soak(soak::Soak),
    /// Hands random and mutated input to everything that reads a disk
    Fuzz(fuzz::Fuzz),
    /// Makes the golden repositories of a new version of the format
    Golden,
    /// Checks rules that the compiler doesn't check
    Tidy(tidy::Tidy),
    /// Tries every order of the steps of concurrent code, by loom
    Models,
    /// Runs tests under miri, which a nightly toolchain has as a component
    Miri,
}

fn main() -> ExitCode {
    let passed = match Args::parse().task {
        Task::Drill(drill) => drill.run(),
        Task::Compare(compare) => compare.run(),
        Task::Bound(bound) => bound.run(),
        Task::Measure(measure) => measure.run(),
        Task::Soak(soak) => soak.run(),
        Task::Fuzz(fuzz) => fuzz.run(),
        Task::Golden => golden::run(),
        Task::Tidy(tidy) => tidy.run(),
        Task::Models => models::run(),
        Task::Miri => miri::run(),
    };
    match passed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}
