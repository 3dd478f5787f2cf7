//! Arguments of `pitr demo` and of the demo's application.

use std::path::PathBuf;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pitr demo           needs no repository, network or database
  pitr demo --json    the same, for a script")]
pub(crate) struct Demo;

#[derive(Debug, clap::Args)]
pub(crate) struct DemoWriter {
    /// Folder for the shop's database
    pub(crate) dir: PathBuf,
    /// Seed of the shop's transactions
    pub(crate) seed: u64,
}
