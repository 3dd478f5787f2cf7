//! Tracks which blocks changed between two positions of a log.
//!
//! A writer marks each block that it changed in the live epoch, without a lock ([`Tracker`],
//! [`Pass`]). [`Tracker::freeze`] ends the epoch and returns its [`Changes`], while writers mark
//! the next epoch. [`Store`] keeps frozen epochs across a crash, and [`Extractor`] computes the
//! same changes from the log.
//!
//! # What to call when
//! - Before a transaction or batch is appended: [`Tracker::enter`]. Keep the [`Pass`].
//! - When its records are durable: [`Pass::file`] and [`FileMarks::mark`], [`Pass::set_length`], or
//!   [`Pass::record`] for each record; then [`Pass::done`].
//! - When nothing was appended after all: [`Pass::done`] with
//!   [`Lsn::ORIGIN`](pitr_format::Lsn::ORIGIN).
//! - When the append or its sync failed: drop the pass, because it is unknown what it left in the
//!   log.
//! - When an incremental snapshot begins: [`Tracker::freeze`] with the log's durable LSN, then
//!   [`Store::put`].
//! - When the snapshot needs the changes since another one: [`Store::coverage`] of the range
//!   between the two. Read the [missing](Coverage::missing) parts through an [`Extractor`], and add
//!   them with [`Coverage::add`].
//! - When the snapshot is complete: [`Store::remove_below`] the oldest LSN at which a later one may
//!   begin.
//!
//! # After a crash
//! 1. Recover the log first. [`Store::open`] and [`Tracker::new`] need its durable end.
//! 2. Call [`Store::open`]. If it refuses the folder, use a new folder and treat everything as
//!    changed once.
//! 3. Restart tracking in one of two ways. Either call [`Tracker::new`] at the log's end: the range
//!    from the last claim to there is missing in [`Store::coverage`], and is read from the log when
//!    it is requested. Or read that range now and continue from it with [`Tracker::resume`].
//! 4. Only then admit writers. The tracker misses records that are appended before it exists.
//!
//! # A pass that gets stuck
//! A freeze waits for every pass that began before it, for an unlimited time. Writers do not
//! notice: their marks go to both epochs during the wait. The freeze cannot continue without those
//! passes, because only an open pass knows where its records are in the log. So hold no pass while
//! you wait for a user. Freeze on a thread that may wait, and never on one that holds a pass. A
//! pass whose thread died is dropped, which ends the wait. The tracker then no longer knows the
//! changes and reports everything as changed.
//!
//! # Guarantees
//! **The tracker may report too much, never too little.** [`Changes`] of `[from, to)` contain every
//! block for which a record with an LSN in that range holds an image, and everything at or after
//! the shortest length that such a record gives a file. A block that is *not* reported therefore
//! has at `to` the content that it had at `from`, or zeros if the file did not reach it then.
//! Unknown changes count as changes: a gap, a pass that was never ended, a set above the memory
//! limit, a range that no readable file claims.
//!
//! # Why a freeze loses no mark
//! A [`Pass`] begins before its records are appended, and ends after they are durable and marked.
//! It holds the phase in which it began. The phase determines the epochs that the pass marks:
//!
//! | step of the freeze | passes that begin from here on mark |
//! | --- | --- |
//! | 1. double | the old epoch *and* the next |
//! | 2. wait until no pass is left that marks only the old epoch | |
//! | 3. ask the log: `to` is its durable LSN | |
//! | 4. divide | only the next epoch |
//! | 5. wait until no pass is left that marks both | |
//! | 6. read the old epoch: it is `[from, to)`; the next one begins at `to` | |
//!
//! - A record *below* `to` was appended before step 3. So its pass began before step 4 and marks
//!   the old epoch. The waits of steps 2 and 5 end after that pass, so step 6 sees the mark.
//! - A record *at or above* `to` was not durable at step 3. Its pass ended later, so step 2 did not
//!   wait for it. It marks the next epoch.
//!
//! Writers never wait for a freeze. [`Tracker::enter`] reads one pointer under a lock that a step
//! of a freeze holds only to exchange that pointer. Marks take no lock. Loom checks the orders of
//! these steps with up to three preemptions (`cargo xtask models`). Marks may use relaxed ordering,
//! because the end of the last pass of a phase happens before the wait for it returns (`Arc`, then
//! a lock).
//!
//! # Why a crash loses no mark
//! The live epoch exists only in memory, and nothing on disk claims its range. A frozen epoch
//! becomes a file that *claims* its range. The file is written under a temporary name, synced,
//! published without replacing, and its folder is synced. So a claim is either complete or absent.
//! `to` was durable in the log when it was claimed, so positions below it are never reused for
//! other records. A folder of another log, or one that claims more than the log holds, is refused.
//! After a crash, [`Store::coverage`] returns the unclaimed ranges: those after the last claim, and
//! those whose file is damaged or missing. They are read from the log ([`Extractor`]), or
//! everything counts as changed.
//!
//! # Memory
//! The bitmap uses one bit per block, in pages that are allocated on their first mark. A page has
//! 8192 blocks; in the live epoch, pages after the first 65536 blocks of a file have 32768. 100 GB
//! in blocks of 4 KiB take 3.2 MB. An epoch or a set takes at most [`MEMORY_BYTES_MAX`]; beyond
//! that limit, unchanged blocks are reported too.
//!
//! # Requirements
//! The tracker relies on the contract of [`pitr_vfs`] and on three promises of its callers: a pass
//! begins before its records are appended, it ends after they are durable, and `freeze` receives a
//! durable LSN. The file layout is in `docs/format/tracker.md`.
#![forbid(unsafe_code)]

mod effect;
mod epoch;
mod error;
mod extract;
mod file_set;
mod layout;
mod live;
mod page;
mod pass;
mod phase;
mod phases;
mod range;
mod set;
mod size;
mod slot;
mod store;
mod sync;
mod tracker;

pub use error::{Error, Result};
pub use extract::Extractor;
pub use layout::LogIdentity;
pub use pass::{FileMarks, Pass};
pub use pitr_format::{FileId, Lsn, TimelineId};
pub use range::LsnRange;
pub use set::{ChangeSet, Changes};
pub use size::BlockSize;
pub use store::{Coverage, Store};
pub use tracker::Tracker;

/// Blocks per page: the unit in which sets and frozen epochs grow.
pub const PAGE_BLOCKS: u64 = 1 << 13;
/// Memory limit of an epoch or a set, bytes. It suffices for 2 TB of 4 KiB blocks if all of them
/// changed.
pub const MEMORY_BYTES_MAX: u64 = 64 << 20;

/// Memory of a page including the pointers to it, bytes.
const PAGE_COST: u64 = PAGE_BLOCKS / 8 + 128;
/// Memory of a file without its pages, bytes.
const FILE_COST: u64 = 512;

/// The example in the README compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
