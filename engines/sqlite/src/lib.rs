//! The SQLite engine of pitr: captures every committed transaction of an unmodified application.
//!
//! Nothing is written into the watched database. Commits are read from its `-wal` file up to the frame that the
//! wal-index publishes; a read transaction of ours keeps the frames until they are captured.
//!
//! | module | what it tells |
//! | --- | --- |
//! | [`header`] | the first hundred bytes of a database file |
//! | [`wal`] | the `-wal` file: header, frames, running checksum |
//! | [`conn`] | connections that look and lock but never write |
//! | [`source`] | the watched database and the read transaction that keeps its log |
//! | [`decide`] | what a look means, and how to begin after a pause: two tables |
//! | [`position`] | how far we are, as the note of each commit |
//! | [`sample`] | pages whose content is known, to notice changes without the log |
//! | [`capture`] | frames become transactions in our log |
//! | [`keeper`] | letting the database's log restart |
//! | [`watch`] | all of it together with the archive: threads, gaps, forks, snapshots |
//! | [`place`] | the path that was given, and the file that SQLite opens for it |
//! | [`base`] | the database at one commit, for a full snapshot |
//!
//! Read `source` first: its invariants are what everything else rests on.
#![forbid(unsafe_code)]

pub mod base;
pub mod capture;
pub mod conn;
pub mod decide;
mod engine;
pub mod error;
pub mod exact;
pub mod header;
pub mod keeper;
pub mod place;
pub mod position;
pub mod restore;
pub mod sample;
pub mod source;
mod steps;
pub mod wal;
pub mod watch;

pub use engine::Sqlite;
pub use error::{Error, Result};
