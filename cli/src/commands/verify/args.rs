//! Arguments of `pitr verify`.

use std::num::NonZeroU32;

use clap::ValueEnum;
use pitr::verify::{Depth, Options};

use crate::failure::CliError;

/// What `pitr verify` checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Level {
    /// The stored bytes of each object, by their SHA-256
    Checksum,
    /// What the objects state of each other: trees of snapshots, index and packs, the log of every
    /// timeline, recovery points
    Metadata,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Reads every object and checks its SHA-256, checks the tree of every snapshot, and checks that \
no range of the log is missing. Each fault names the snapshots that it affects; the others can \
be restored.

Examples:
  pitr --repo /srv/backup verify
  pitr --repo /srv/backup verify --deep --json
  pitr --repo s3://bucket/backup verify --sample     a part of each object, in a short time")]
pub(crate) struct Verify {
    /// What to check [default: checksum,metadata]
    #[arg(long = "level", value_name = "LEVEL", value_enum, value_delimiter = ',')]
    levels: Vec<Level>,
    /// Also decode and check every chunk, batch and record
    #[arg(long)]
    deep: bool,
    /// Read only this many frames of each object, of about 1 MiB and chosen at random; 1 if N is
    /// left out
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "1", conflicts_with = "deep")]
    sample: Option<NonZeroU32>,
}

impl Verify {
    /// The options of the verification.
    ///
    /// # Errors
    /// A usage error if frames are to be read without the level that reads them.
    pub(crate) fn options(&self) -> Result<Options, CliError> {
        let has = |level| self.levels.is_empty() || self.levels.contains(&level);
        let depth = match (has(Level::Checksum), self.deep, self.sample) {
            (true, true, _) => Depth::Decoded,
            (true, false, Some(frames)) => Depth::Sample(frames),
            (true, false, None) => Depth::Whole,
            (false, false, None) => Depth::Footers,
            (false, ..) => {
                let what = "--deep and --sample belong to the level checksum";
                return Err(CliError::usage(what).next("give --level checksum,metadata"));
            }
        };
        Ok(Options { depth, metadata: has(Level::Metadata) })
    }
}
