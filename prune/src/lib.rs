//! Retention: which snapshots and log stay, and deletion of everything that is not needed.
//!
//! A [`Policy`] says which states stay restorable. [`Pruner::plan`] reports what would be deleted
//! and why, and changes nothing. [`Pruner::execute`] deletes it:
//!
//! 1. It states the ranges of log to delete, and deletes the roots. From now on no process begins
//!    to rely on them.
//! 2. It walks every remaining root. Packs without a needed chunk and packs that no index lists are
//!    *condemned*: listed for deletion, together with the current leases. Packs with much waste,
//!    and small packs if there are many, are condemned once their needed chunks are copied.
//! 3. After these leases have ended, it walks every root of a new listing. A writer that started
//!    earlier may have come to rely on a condemned pack; such a pack is kept. The rest is deleted,
//!    index objects before packs.
//!
//! `docs/format/prune.md` has the protocol, and shows why no crash and no concurrent writer loses
//! data.
//!
//! # Points that are created during a run
//! A run takes its lease as a collector, then lists the points, then deletes. The creator of a
//! point (`create_point` in `pitr-recovery`) puts the point, then lists the leases. So at least one
//! of the two sees the other:
//!
//! - The run lists the point, and keeps what it needs.
//! - Otherwise the point was put after the run had listed the points. The run's lease is older than
//!   that, so the creator sees the lease, or the run has ended. The creator waits for the end of
//!   the run, and then resolves the state again. If the state is no longer restorable, or the run
//!   takes long, it withdraws the point and reports an error.
//!
//! The second phase need not look at the points. Deleted roots and stated ranges of log do not
//! count from the first phase on, so no later point relies on them. And the packs of a point's
//! snapshot are needed by that snapshot, whose root the second phase walks.
//!
//! # Guarantees
//! - **Deletion needs proof** (law 7): an unreadable object, or a listing that contradicts another
//!   one, ends the run before anything is deleted.
//! - The newest state of every source stays restorable under any policy, and so does every commit
//!   in its windows.
//! - The state of every named recovery point stays restorable under any policy: a point keeps the
//!   snapshot that a restore uses, and the log from there to the point. A point that is not
//!   restorable already ends the run before anything is deleted.
//! - No time of an object counts, and only this process's clock tells whether a lease is alive.
//!   Windows and calendars use the times of commits and snapshots. A window ends at the newest
//!   moment that the repository knows of the source, or now, whichever is earlier. So a clock that
//!   is ahead causes no further deletion.
//! - A crash between any two steps loses nothing. The next run finishes the work.
//! - The number of packs and index objects does not grow with the number of backups: a run leaves
//!   fewer than 32 packs with less than 4 MiB of needed data, besides concurrent additions.
//! - Memory: the index, a bit for each chunk, the names of the leaves of all snapshots, and the
//!   files of one root or leaf at a time.
#![forbid(unsafe_code)]

mod carry_out;
mod error;
mod plan;
mod policy;
mod report;
mod survey;

pub use carry_out::Pruner;
pub use error::{Error, Result};
pub use policy::{Policy, Reason};
pub use report::{KeptPoint, KeptSnapshot, Packs, Report, SourceReport};

/// The example in the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
