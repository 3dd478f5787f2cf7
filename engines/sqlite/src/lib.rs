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
//! | [`watch`] | capture with the archive: threads, gaps, forks, snapshots |
//! | [`place`] | the path that the user gave, and the file that SQLite opens for it |
//! | [`restore`] | a database as a restored file |
//! | `consistency` | SQLite's own checks of a restored database |
//! | `live` | the live database at one commit, to compare it with the archive |
//! | `query` | queries on a restored database |
//! | [`exact`] | comparison of two databases |
//! | `header` | the first hundred bytes of a database file |
//! | `wal` | the `-wal` file: header, frames, running checksum |
//! | `conn` | connections that read and lock but never write |
//! | `source` | the watched database and the read transaction that keeps its `-wal` file |
//! | `decide` | what a look means, and how to begin after a pause: two tables |
//! | `position` | how far capture has come, as the note of each commit |
//! | `sample` | pages whose content is known, to detect changes that bypass the `-wal` file |
//! | `capture` | turns frames into transactions of the local log |
//! | `keeper` | lets the `-wal` file restart |
//! | `base` | the database at one commit, for a full snapshot |
//!
//! To change this crate, read `source` first: everything else relies on its invariants.
#![forbid(unsafe_code)]

mod base;
mod capture;
mod conn;
mod consistency;
mod decide;
mod engine;
mod error;
pub mod exact;
mod header;
mod keeper;
mod live;
pub mod place;
mod position;
mod query;
pub mod restore;
mod sample;
mod source;
mod steps;
mod wal;
pub mod watch;

pub use engine::Sqlite;
pub use error::{Error, Result};
pub use keeper::KeeperOptions;

/// The example in the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Parts of the engine for its own tests and benches. Not part of the public interface.
#[doc(hidden)]
pub mod parts {
    pub use crate::base::BaseView;
    pub use crate::capture::{Begin, Capture};
    pub use crate::keeper::{Keeper, Quiet};
    pub use crate::sample::PageSample;
    pub use crate::source::{Source, with_suffix};
    pub use crate::wal::{Checksum, WalFile};
}
