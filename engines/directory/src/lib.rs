//! Folders as a source: block-level incremental snapshots of any tree of files, without a log.
//!
//! The folder is quiesced, or is a snapshot of a file system. Writes to a file during a backup may
//! be partly in the snapshot. A file that vanishes or changes its length during a backup is
//! reported.
//!
//! A regular file becomes a file of the snapshot. It keeps its number as long as it keeps its path.
//! Everything else is in one more file, the *tree* (`docs/format/directory.md`): paths, modes,
//! owners, times, links, holes.
//!
//! # Promises
//! - **Nothing outside the output is written**, whatever a tree contains: paths are relative, and
//!   none leads through a symbolic link (FAILURES 31).
//! - **Everything is restored** (FAILURES 37): names that are not UTF-8, empty files and folders,
//!   modes, times to the nanosecond, symbolic and hard links, holes; owners if root restores.
//!   Sockets and devices are skipped and reported.
//! - **A file counts as unchanged** only if its inode, length, change time and modification time
//!   are those of the parent, and the change was so long before the parent that a later change has
//!   another time. `full` reads everything.
//! - **Changed ranges are trusted only for the files that they name** ([`ChangedRanges`]).
//! - **An incomplete folder never has the output's name.**
//! - Memory: up to 1.8 kB for each entry during a backup, and the buffers of a snapshot. A folder
//!   has at most 300,000 entries.
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

/// The example in the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Name of this engine in a snapshot.
pub(crate) const ENGINE: &str = "directory";
