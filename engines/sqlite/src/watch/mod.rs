//! Watches databases: capture, shipping and snapshots, in separate threads.
//!
//! A [`Watch`] is one database with its local log and its part of the archive; it has no threads. A
//! [`Fleet`] drives any number of watches with a fixed number of threads, see [`fleet`].
//!
//! A source that was replaced or overwritten, or whose `-wal` file restarted unexpectedly, ends an
//! attachment. The next attachment begins with a gap and a new base. Every other fault (the
//! repository, the watcher's folder or the database is temporarily gone) is reported, and retried
//! with growing pauses. Only the takeover by another writer ends a watch for good: two active
//! writers would mix their histories.

mod alive;
mod attach;
mod begin;
mod binding;
pub mod control;
pub mod fleet;
pub mod folder;
#[cfg(test)]
mod interleaved;
mod run;
mod shared;
mod snapshots;
pub mod state;

pub use fleet::Fleet;
pub use run::Watch;

/// Name of this engine in snapshots.
pub const ENGINE: &str = "sqlite";
