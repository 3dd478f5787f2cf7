//! A write-ahead log with group commit, segments of fixed size, and exact handling of torn tails.
//!
//! # What it promises
//! - **Acknowledged means durable.** [`Wal::commit`] returns when the records are synced; any
//!   number of threads share one `fdatasync`. After a failed write or sync nothing is acknowledged
//!   any more ([`Error::Poisoned`]).
//! - **A torn tail is cut, a hole is refused.** [`Wal::open`] distinguishes the two by the durable
//!   points that later bytes state. Nothing is appended to a cut segment: the log continues in the
//!   next one, under a higher incarnation, so bytes after the cut never become valid again.
//! - **Readers see only durable records**, and detect a missing or damaged batch or file:
//!   [`LogReader`].
//! - **A scan reads in place** ([`LogScan`]): sealed segments are mapped, pinned and verified. With
//!   the feature `parallel` several threads read different segments, and any number of threads
//!   gives the same result: an [`Analysis`] merges, a replay keeps each partition's order. A scan
//!   finds commits by time and transaction without reading the log.
//! - **The log keeps what is needed.** The engine states its redo point ([`Wal::remove_below`]); an
//!   archiver or a replica holds a [`Slot`], which survives restarts. At a cap the log drops slots
//!   and reports it ([`Event`]), but it never drops the redo point.
//! - **The log holds checkpoints** of an engine that has no files of its own
//!   ([`Wal::checkpoint`]), finds them when it is opened, and keeps what they need.
//! - **Commit times never decrease**, even if the clock is set back, and across a reopen.
//! - **The sync policy is a setting**: [`SyncPolicy`]. A [`Ticket`] can be waited for, polled, or
//!   awaited (feature `future`).
//! - **Memory is bounded**: 8 MiB that wait for the disk, 8 MiB in flight, 8 MiB of reused buffers,
//!   and one builder for each appending thread. A scan holds the segments that its threads read,
//!   and reads only the newest one into memory.
//!
//! # What it relies on
//! The contract of [`pitr_vfs`], and a disk that writes sectors of 512 bytes atomically.
//! `docs/format/wal.md` describes the layouts, the tail decision and these assumptions.
//!
//! # Example
//! ```
//! use pitr_wal::{TxId, Wal};
//!
//! # let temp = tempfile::tempdir()?;
//! # let dir = temp.path().join("log");
//! let wal = Wal::open_or_create(&dir)?;
//! wal.commit_data(TxId::new(1), b"balance of 7 is 100")?; // now durable
//!
//! let mut seen = Vec::new();
//! wal.scan(wal.first(), wal.durable())?.for_each_committed::<pitr_wal::Error>(|record| {
//!     seen.push(record.payload.to_vec());
//!     Ok(())
//! })?;
//! assert_eq!(seen, [b"balance of 7 is 100"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A transaction of several records, or of several partitions, is a [`BatchBuilder`]: see the
//! [guide].
#![forbid(unsafe_code)]

mod append;
mod checkpoints;
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
pub use checkpoints::Checkpoint;
pub use error::{Damage, Error, Result, Witness};
pub use options::{CheckpointInterval, Start, SyncPolicy, WalOptions};
pub use pitr_format::log::WholeRecord;
pub use pitr_format::record::Record;
pub use pitr_format::{FileId, Lsn, PartitionId, SegmentSize, TimelineId, Timestamp, TxId};
pub use pitr_redo::{FileChange, LogicalRecord, Winners};
pub use pitr_vfs::Env;
pub use read::{Batches, LogBatch, LogReader, LogScan, Records, SealedSegment};
pub use recover::{
    AbortedTx, Analysis, CommittedTx, Contents, Cut, Finding, Inspection, Recovered, Tail, TailEnd,
};
pub use segments::{Event, Slot, SlotState};
pub use stats::Stats;
pub use wal::Wal;

#[doc = include_str!("../GUIDE.md")]
pub mod guide {}

/// The examples in the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
