//! Retention, and deleting what nobody needs.
//!
//! [`Policy`] says what stays restorable. [`Pruner::plan`] tells what goes and why, and changes nothing;
//! [`Pruner::execute`] does it:
//!
//! 1. The ranges of log that go are stated, the roots that go are deleted: from here on nobody begins to rely on them.
//! 2. Every root that is left is walked. Packs of which no chunk is needed, packs that nothing names, and, once what is
//!    needed of them was stored anew, worn packs and many small ones are *condemned*: written down, with the leases that stand.
//! 3. When these leases have ended, every root of a fresh listing is walked again. What is needed after all, because a
//!    writer who had begun before came to rely on it, stays; the rest is deleted, index before packs.
//!
//! `docs/format/prune.md` has the protocol and why nothing is lost whoever dies, and whoever writes beside it.
//!
//! # Promises
//! - **Deletion needs proof** (law 7): what can't be read, or a listing that contradicts another one, ends the run before
//!   anything is deleted.
//! - The newest state of every source stays restorable whatever the policy says, and so does every commit in its windows.
//! - No time of an object decides anything, and whether somebody still lives is told by this process's clock alone. Windows
//!   and calendars go by the stamps of commits and snapshots; a window ends at the newest moment that the repository knows
//!   of the source, or now, whichever is earlier, so that a clock that is ahead deletes nothing more.
//! - A crash between any two steps loses nothing; the next run finishes the work.
//! - Packs and index objects do not become as many as there were backups: of those of which less than 4 MiB is needed a run leaves
//!   fewer than 32 and what was added meanwhile.
//! - Memory: the index, a bit for each chunk, the leaves' names of all snapshots, and the files of one root or leaf at a time.
#![forbid(unsafe_code)]

mod carry_out;
mod error;
mod plan;
mod policy;
mod report;
mod survey;
mod waiting;

pub use carry_out::Pruner;
pub use error::{Error, Result};
pub use policy::{Policy, Reason};
pub use report::{KeptSnapshot, Packs, Report, SourceReport};
