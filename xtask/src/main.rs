//! Long drills and comparisons, run as `cargo xtask`.
//!
//! Almost everything here drives the release program as a user would: through its command line,
//! with other processes that write. Two parts of pitr's library are used: the exact comparison of
//! two SQLite files, and, in the drill of recovery, the reference engine. A drill prints its steps,
//! and a last line with PASS or FAIL and its figures. It exits with 1 when it failed, removes its
//! data, and adds a line to `benches/results/ledger.md`.

#![deny(unsafe_code)]

mod application;
mod at_rest;
mod blocks;
mod bound;
mod compare;
mod drill;
mod examples;
mod fit;
mod fuzz;
mod golden;
mod measure;
mod miri;
mod models;
mod moments;
mod mutants;
mod packages;
mod program;
mod rows;
mod servers;
mod size;
mod soak;
mod tidy;
mod usage;
mod verdict;
mod witness;
mod world;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// An error outside the drill itself. A drill that ran and failed is no error but a verdict.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Long drills and comparisons")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Drives the program with writing processes and proves that restores are exact
    #[command(subcommand)]
    Drill(drill::Drill),
    /// Compares the program with others
    #[command(subcommand)]
    Compare(compare::Compare),
    /// The upper bound of the machine for backup and restore of a file, with none of our crates
    Bound(bound::Bound),
    /// Times single crates next to their bounds
    #[command(subcommand)]
    Measure(measure::Measure),
    /// Tries many more seeds than the crates' own tests
    #[command(subcommand)]
    Soak(soak::Soak),
    /// Feeds random and mutated input to everything that reads from a disk
    Fuzz(fuzz::Fuzz),
    /// Creates the golden repositories of a new format version
    Golden,
    /// Runs every example of every published crate
    Examples,
    /// Checks rules that the compiler doesn't check
    Tidy(tidy::Tidy),
    /// Tries every interleaving of concurrent code, with loom
    Models,
    /// Installs real object stores and runs the tests that need them
    #[command(subcommand)]
    Servers(servers::Servers),
    /// Runs tests under miri, which needs a nightly toolchain with that component
    Miri,
    /// Runs the tests of crates against a sample of mutants, with cargo-mutants
    Mutants(mutants::Mutants),
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
        Task::Examples => examples::run(),
        Task::Tidy(tidy) => tidy.run(),
        Task::Servers(servers) => servers.run(),
        Task::Models => models::run(),
        Task::Miri => miri::run(),
        Task::Mutants(mutants) => mutants.run(),
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
