//! The SQLite engine of pitr: captures every committed transaction of an unmodified application.
//!
//! Nothing is written into the watched database. Commits are read from its `-wal` file, up to the
//! frame that the wal-index publishes. A read transaction of this engine keeps the frames until
//! they are captured.
//!
//! Comments in this crate call SQLite's `-wal` file the *`-wal` file* and the log that pitr writes
//! the *local log*. A *look* reads the published end of the `-wal` file once.
//!
//! | module | contents |
//! | --- | --- |
//! | [`header`] | the first hundred bytes of a database file |
//! | [`wal`] | the `-wal` file: header, frames, running checksum |
//! | [`conn`] | connections that read and lock but never write |
//! | [`source`] | the watched database and the read transaction that keeps its `-wal` file |
//! | [`decide`] | what a look means, and how to begin after a pause: two tables |
//! | [`position`] | how far capture has come, as the note of each commit |
//! | [`sample`] | pages whose content is known, to detect changes that bypass the `-wal` file |
//! | [`capture`] | turns frames into transactions of the local log |
//! | [`keeper`] | lets the `-wal` file restart |
//! | [`watch`] | the whole with the archive: threads, gaps, forks, snapshots |
//! | [`place`] | the path that the user gave, and the file that SQLite opens for it |
//! | [`base`] | the database at one commit, for a full snapshot |
//!
//! Read `source` first: everything else relies on its invariants.
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
