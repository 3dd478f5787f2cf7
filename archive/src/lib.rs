//! Continuous archiving of a log: ships LSN ranges as objects, and finds commits, restorable
//! intervals and the newest image of every block.
//!
//! # Writing
//! A [`Writer`] claims the source's next epoch and fences all earlier writers. A [`Shipper`] stores
//! the durable part of a [`pitr_wal::Wal`] as objects of at most 16 MiB, each with a [`Footer`]
//! that indexes its commits and blocks.
//!
//! # Reading
//! [`Archive::catalog`] lists the archive. Names then tell which states can be restored
//! ([`coverage`]). Footers locate commits ([`Search`]) and the newest image of each block
//! ([`Merged`]). Only frames with such an image are read.
//!
//! # Promises
//! - Objects that a fenced writer adds later are never read. A range with two different contents is
//!   refused.
//! - Retention states each range before it removes the range ([`PrunedRange`]): a reader does not
//!   mistake it for a loss.
//! - Everything that is read is verified: objects and frames by SHA-256, batches by the checksum of
//!   their segment's incarnation, records against the index.
//! - Memory is bounded by the footers of some objects, the frames in progress, and bits for blocks
//!   and images, not by the size of the log.
#![forbid(unsafe_code)]

mod archive;
mod error;
mod history;
mod instances;
mod read;
mod stored;
mod write;

pub use archive::Archive;
pub use error::{Error, Result};
pub use history::{
    Base, Catalog, Cause, Coverage, Found, Gap, Interval, Leg, Lineage, Piece, Run, Start, coverage, reaches,
    runs, start_for,
};
pub use instances::PlacedInstance;
pub use pitr_objects::layout::{LogName, PrunedRange, RestoredName, SourceObject};
pub use pitr_redo::{FileChange, LogicalRecord};
pub use read::{Around, BlockSet, Image, Logical, Merged, NotedCommit, Search, Transaction, Transactions};
pub use stored::{
    CheckpointEntry, CommitEntry, CommitPoint, Fence, Fingerprint, Footer, ForkReason, Instance, Mark,
    MarkKind, NamedPoint, Origin, PointName, PointNameError, Points, RestoredState, Timeline,
};
pub use write::{CompactOptions, Compacted, Compactor, ShipOptions, Shipped, Shipper, Writer};

/// The example in the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
