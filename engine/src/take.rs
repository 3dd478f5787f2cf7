//! Snapshots of sources without a log.

use crate::capture::EngineContext;
use crate::error::Result;
use crate::ranges::ChangedRanges;
use pitr_codec::Codec;
use pitr_format::SourceName;
use pitr_snapshot::Snapshot;
use std::fmt::Debug;
use std::path::{Path, PathBuf};

/// Takes snapshots of a source that is quiesced, or that is a snapshot of a file system.
pub trait TakeSnapshot: Debug + Send + Sync {
    /// Takes a snapshot: of the changes since the newest snapshot of the source, or of everything
    /// if there is none.
    ///
    /// # Errors
    /// Errors of the engine.
    fn take(
        &self,
        context: &EngineContext,
        source: &SourceName,
        path: &Path,
        options: TakeOptions,
    ) -> Result<Taken>;
}

/// How a snapshot is taken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TakeOptions {
    /// Reads everything, whatever an earlier snapshot says, and gives the files new numbers.
    pub full: bool,
    /// Accepts a source whose path has changed since the previous snapshot. Otherwise another path
    /// is refused: two folders that only share a name must not become one source.
    pub moved: bool,
    /// How chunks are compressed.
    pub codec: Codec,
    /// What a writer knows about its changes since an earlier snapshot.
    pub changed_ranges: Option<ChangedRanges>,
}

/// How the given changed ranges were used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangesUse {
    /// No ranges were given, or a full snapshot was requested.
    NotGiven,
    /// The ranges begin at a snapshot that the source does not have, or the newest snapshot can't
    /// be read. All files were compared as usual.
    Elsewhere,
    /// The ranges were used.
    Used {
        /// Files of which only the listed ranges were read.
        files: usize,
        /// Listed files that are missing, or are not the files of the parent. They were compared as
        /// usual.
        unmatched: usize,
    },
}

/// A snapshot that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Sockets, devices and pipes, and the repository if it is inside the source. The snapshot
    /// doesn't have them.
    pub skipped: Vec<PathBuf>,
    /// Files that vanished or were replaced before they were read. The snapshot doesn't have them,
    /// nor their hard links.
    pub vanished: Vec<PathBuf>,
    /// Files that were written to after they were listed. In the snapshot they may mix two states.
    pub changed: Vec<PathBuf>,
    /// Files that became shorter while they were read. Their missing bytes are zeros.
    pub cut: Vec<PathBuf>,
    /// How the given changed ranges were used.
    pub ranges: RangesUse,
}
