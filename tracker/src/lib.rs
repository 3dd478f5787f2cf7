//! Which blocks changed between two positions of a log.
//!
//! A writer marks each block that it changed, without a lock, in the live epoch ([`Tracker`], [`Pass`]).
//! [`Tracker::freeze`] ends the epoch and says what changed in it ([`Changes`]), while writers fill the next.
//! [`Store`] keeps frozen epochs over a crash, and [`Extractor`] computes the same from the log.
//!
//! # What to call when
//! | when | call |
//! | --- | --- |
//! | a transaction or batch is about to be appended | [`Tracker::enter`]; keep the [`Pass`] |
//! | its records are durable | [`Pass::file`] and [`FileMarks::mark`], [`Pass::set_length`], or [`Pass::record`] for each record; then [`Pass::done`] |
//! | nothing was appended after all | [`Pass::done`] with [`Lsn::ORIGIN`](pitr_format::Lsn::ORIGIN) |
//! | the append or its sync failed | drop the pass: what it left in the log is not known |
//! | an incremental snapshot begins | [`Tracker::freeze`] with the log's durable LSN, then [`Store::put`] |
//! | the snapshot is to say what changed since another | [`Store::coverage`] of the range between the two; what is [missing](Coverage::missing) through an [`Extractor`] and [`Coverage::add`] |
//! | the snapshot stands | [`Store::remove_below`] the oldest LSN that a later one may begin at |
//!
//! # After a crash
//! 1. Recover the log first: its durable end is what [`Store::open`] and [`Tracker::new`] are told.
//! 2. [`Store::open`]. If it refuses the folder, take a new one, and everything as changed once.
//! 3. Begin again in one of two ways. Either [`Tracker::new`] at the log's end: the range from the last claim to there is
//!    missing in [`Store::coverage`], and is read from the log when it is asked for. Or read it now, and go on from it by
//!    [`Tracker::resume`].
//! 4. Then only let writers in: what is appended before the tracker stands, is not tracked.
//!
//! # A pass that gets stuck
//! A freeze waits for every pass that began before it, for ever if need be; writers don't notice, and marks go to both
//! epochs meanwhile. It can't go on without them: where a pass that is on its way has its records only that
//! pass knows. So hold no pass while waiting for a user, freeze on a thread that may wait, and never on one that holds a pass. A
//! pass whose thread died is dropped, which ends the wait and makes the tracker blind.
//!
//! # What it promises
//! **It may report too much, never too little.** [`Changes`] of `[from, to)` hold every block that a record
//! with an LSN in that range gives an image, and everything at or behind the shortest length that such a
//! record gives a file. So a block that is *not* reported holds at `to` what it held at
//! `from`, or zeros if the file didn't reach it then. What is not known counts as changed: a gap, a pass
//! that was never ended, a set that would take too much memory, a range that no readable file claims.
//!
//! # Why a freeze loses no mark
//! A [`Pass`] begins before its records are appended and ends after they are durable and marked. It holds the
//! phase in which it began, and each phase says which epochs its marks go to:
//!
//! | step of the freeze | passes that begin from here on mark |
//! | --- | --- |
//! | 1. double | the old epoch *and* the next |
//! | 2. wait until no pass is left that marks the old epoch alone | |
//! | 3. ask the log: `to` is its durable LSN | |
//! | 4. divide | the next epoch alone |
//! | 5. wait until no pass is left that marks both | |
//! | 6. read the old epoch: it is `[from, to)`; the next one begins at `to` | |
//!
//! - A record *below* `to` was appended before 3, so its pass began before 4 and marks the old epoch. The
//!   waits of 2 and 5 end after that pass: 6 sees the mark.
//! - A record *at or above* `to` was not durable at 3. Its pass ended later, so it is none of those that 2
//!   waited for: it marks the next epoch.
//!
//! Writers never wait for a freeze: [`Tracker::enter`] reads one pointer under a lock that a step of a freeze takes for
//! the time of an exchange. Marks take none. Models let loom try the orders of these steps with up to three preemptions (`cargo xtask models`).
//! Marks may be relaxed, because the end of the last pass of a phase happens before the wait for it returns (`Arc`, then
//! a lock).
//!
//! # Why a crash loses no mark
//! The live epoch is memory only, and nothing on the disk speaks for it. A frozen epoch becomes a file that
//! *claims* its range, made aside, synced, published without replacing, its folder synced; so a claim is whole
//! or not there. `to` was durable in the log when it was claimed, so no position below it is ever given to
//! other records; a folder of another log, or one that claims more than the log holds, is refused. After a
//! crash [`Store::coverage`] names the ranges that nobody claims: those behind the last claim, and those whose
//! file is damaged or gone. They are read from the log ([`Extractor`]), or everything counts as changed.
//!
//! # Memory
//! One bit for each block, in pages that come with their first mark: of 8192 blocks, and of 32768 in the live epoch behind the
//! first 65536 of a file. 100 GB in blocks of 4 KiB take 3.2 MB. An epoch or a set takes at most [`MEMORY_BYTES_MAX`]; what is beyond counts as changed.
//!
//! # What it relies on
//! The contract of [`pitr_vfs`], and its callers' word on three things: a pass begins before its records are
//! appended, it ends when they are durable, and `freeze` is told a durable LSN. Layout:
//! `docs/format/tracker.md`.
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
pub use range::LsnRange;
pub use set::{ChangeSet, Changes};
pub use size::BlockSize;
pub use store::{Coverage, Store};
pub use tracker::Tracker;

/// Blocks of a page: the unit in which sets and frozen epochs grow.
pub const PAGE_BLOCKS: u64 = 1 << 13;
/// Memory that an epoch or a set takes at most, bytes: 2 TB of 4 KiB blocks if all of them changed.
pub const MEMORY_BYTES_MAX: u64 = 64 << 20;

/// What a page takes in memory with what points to it, bytes.
const PAGE_COST: u64 = PAGE_BLOCKS / 8 + 128;
/// What a file takes in memory besides its pages, bytes.
const FILE_COST: u64 = 512;

/// The example in the README compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
