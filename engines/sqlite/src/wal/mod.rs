//! SQLite's write-ahead log, the `-wal` file, read without SQLite.
//!
//! Source: "WAL-mode File Format" of SQLite's documentation. The file is a header of 32 bytes, then
//! frames of 24 bytes and a page each. Two running sums begin in the header and go through every
//! frame; each frame also repeats both salts. When the file restarts, the salts change and frames
//! are written from the start again, over the old ones. Old frames remain after the new ones until
//! they are overwritten: only salts and sums tell them apart.
//!
//! This module never decides how far the file is valid. That is the published `mxFrame` of the
//! wal-index, which [`crate::conn`] gets from SQLite itself (FAILURES 44).

mod checksum;
mod file;

pub use checksum::Checksum;
pub use file::WalFile;
pub(crate) use file::{Salts, WalHeader};
