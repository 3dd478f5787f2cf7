//! SQLite's own write-ahead log, the `-wal` file, read without SQLite.
//!
//! Source: "WAL-mode File Format" of SQLite's documentation. The file is a header of 32 bytes, then frames of
//! 24 bytes and a page. Two running sums begin in the header and go through every frame; both salts stand in
//! each frame too. When the log restarts, the salts change and frames are written from the head again, over
//! the old ones, which stay behind the new ones until they are overwritten: only salts and sums tell them apart.
//!
//! What this module never decides is how far the log is valid: that is the published `mxFrame` of the
//! wal-index, which [`crate::conn`] gets from SQLite itself (FAILURES 44).

mod checksum;
mod file;

pub use checksum::Checksum;
pub use file::{Frame, FrameReader, Salts, WalFile, WalHeader};
