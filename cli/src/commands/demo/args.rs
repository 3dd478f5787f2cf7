//! Arguments of `pitr demo` and of the application that it starts.

use std::path::PathBuf;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pitr demo           needs no repository, no network and no database
  pitr demo --json    the same, for a script")]
pub(crate) struct Demo;

#[derive(Debug, clap::Args)]
pub(crate) struct DemoWriter {
    /// Where the shop's database is made
    pub(crate) dir: PathBuf,
    /// Decides what is sold
    pub(crate) seed: u64,
}
