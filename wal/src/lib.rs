//! A write-ahead log with group commit, fixed segments and an exact answer to a torn tail.
//!
//! # What it promises
//! - **Acknowledged means durable.** [`Wal::commit`] returns when the records are synced; any number of
//!   threads share one `fdatasync`. After a failed write or sync nothing is acknowledged any more
//!   ([`Error::Poisoned`]).
//! - **A torn tail is cut, a hole is refused.** [`Wal::open`] tells the two apart by what later bytes state
//!   about durability. A segment that was cut is never appended to: the log goes on in the next one, under a
//!   higher incarnation, and nothing from behind the cut can come back to life.
//! - **Readers see only what is durable**, and find a missing or damaged batch or file: [`LogReader`].
//! - **A scan reads in place** ([`LogScan`]): sealed segments are mapped, pinned and checked; several threads read different
//!   ones (feature `parallel`), and any number of them gives the same result: an [`Analysis`] merges, a replay keeps each
//!   partition's order. It finds commits by time and transaction without reading the log.
//! - **It keeps what is needed**: the engine states its redo point ([`Wal::remove_below`]), an archiver or a replica holds
//!   a [`Slot`], which outlives restarts. At a cap the slots in its way are dropped, and everyone is told ([`Event`]); the
//!   redo point never is.
//! - **Commit times never decrease**, also when the clock does, and over a reopen.
//! - **When a commit returns is chosen**: [`SyncPolicy`]. A [`Ticket`] is waited for, asked, or awaited (feature `future`).
//! - **Memory is bounded**: 8 MiB that wait for the disk, as much on its way there, as much kept for what comes next; and
//!   for each appending thread its builder. A scan holds the segments that its threads read; the newest one it reads into
//!   memory.
//!
//! # What it relies on
//! The contract of [`pitr_vfs`], and a disk that writes sectors of 512 bytes whole or not at all. Layouts,
//! the tail decision and these assumptions stand in `docs/format/wal.md`.
//!
//! # Alone
//! ```
//! use pitr_format::{Lsn, PartitionId, TxId, record::Record};
//! use pitr_vfs::{OsFs, SystemClock};
//! use pitr_wal::{BatchBuilder, Start, Wal, WalOptions};
//! use std::sync::Arc;
//!
//! # let temp = tempfile::tempdir()?;
//! # let dir = temp.path().join("log");
//! let (start, options) = (Start::first(*b"sixteen random b"), WalOptions::default());
//! let wal = Wal::create(Arc::new(OsFs), Arc::new(SystemClock::new()), &dir, &start, &options)?;
//!
//! let mut batch = BatchBuilder::new();
//! batch.push(PartitionId::FIRST, TxId::new(1), &Record::Data(b"balance of 7 is 100"))?;
//! batch.push_commit(PartitionId::FIRST, TxId::new(1), None, None, b"")?;
//! let commit = wal.commit(batch)?.commits[0]; // durable from here on
//! assert!(wal.durable() >= commit.lsn);
//!
//! let batch = wal.reader(Lsn::ORIGIN)?.next_batch()?.expect("one batch was committed");
//! assert_eq!(batch.frames()?.count(), 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod append;
mod error;
mod options;
mod read;
mod recover;
mod segments;
mod shared;
mod stats;
mod wal;

#[cfg(feature = "future")]
pub use append::Durable;
pub use append::{Appended, BatchBuilder, Committed, Ticket};
pub use error::{Damage, Error, Result, Witness};
pub use options::{Start, SyncPolicy, WalOptions};
pub use pitr_redo::{FileChange, Winners};
pub use read::{Batches, LogBatch, LogReader, LogScan, Records, SealedSegment};
pub use recover::{
    AbortedTx, Analysis, CommittedTx, Contents, Cut, Finding, Inspection, Recovered, Tail, TailEnd,
};
pub use segments::{Event, Slot, SlotState};
pub use stats::Stats;
pub use wal::Wal;

#[doc = include_str!("../GUIDE.md")]
pub mod guide {}

/// The example in the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
