//! Folders as a source: block-level incremental snapshots of any tree of files, without a log.
//!
//! The folder is quiesced, or is itself a snapshot of a file system: what is written to it while it is read may be half in
//! the snapshot. What vanishes or changes its length meanwhile is noticed and told.
//!
//! A regular file becomes a file of the snapshot, with a number that it keeps as long as it keeps its path; what else there
//! is to know stands in one more file, the *tree* (`docs/format/directory.md`): paths, modes, owners, times, links, holes.
//!
//! # Promises
//! - **Nothing outside the output is written**, whatever a tree says: paths are relative and go through no symbolic link
//!   (FAILURES 31).
//! - **Everything comes back** (FAILURES 37): names that are no UTF-8, empty files and folders, modes, times to the
//!   nanosecond, symbolic and hard links, holes; owners when restored by root. Sockets and devices are skipped, and told.
//! - **A file is taken as unchanged** only if its inode, length, change time and modification time are those of the parent, and
//!   that change was not so fresh that another one may bear the same time. `full` reads everything.
//! - **A writer's word is taken for the files that it names**, and for no others ([`ChangedRanges`]).
//! - **A half restored folder never bears the output's name.**
//! - Memory: up to 1.8 kB for each entry while a backup runs, which is why there are at most 300,000, and the buffers of a snapshot.
#![forbid(unsafe_code)]

mod backup;
mod engine;
mod entry;
mod error;
mod known;
mod open;
mod restore;
mod scan;
mod source;
mod tree;

pub use backup::backup;
pub use engine::Directory;
pub use error::{Error, Result};
pub use pitr_engine::{ChangedRanges, ListError, RangesUse, TakeOptions as BackupOptions, Taken};
pub use restore::FolderTarget;

/// Name of this engine in a snapshot.
pub(crate) const ENGINE: &str = "directory";
