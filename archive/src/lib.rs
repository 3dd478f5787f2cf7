//! Continuous archiving of a log in LSN ranges: epochs, fences, timelines, catalog, restorable intervals, and the newest
//! image of every block between two positions.
//!
//! # Writing
//! A [`Writer`] claims the source's next epoch and fences the writers before it; a [`Shipper`] turns what is durable in
//! a [`pitr_wal::Wal`] into objects of at most 16 MiB, each with a [`Footer`] that indexes its commits and blocks.
//!
//! # Reading
//! [`Archive::catalog`] lists what there is. From then on names say where a state can be restored ([`coverage`]), footers
//! say where a commit is ([`Search`]) and which image of a block is the newest ([`Merged`]), and only the frames that
//! hold such an image are ever read.
//!
//! # Promises
//! - An object that a writer adds after it was superseded is read by nobody; a range that has two contents is refused.
//! - What retention takes away is stated before it goes ([`PrunedRange`]): it does not read as a loss.
//! - Whatever is read was checked: objects and frames by SHA-256, batches by the checksum of the segment's life that they
//!   were written in, records against the index that led to them.
//! - Memory is bounded by footers of some objects, frames in work and bits for blocks and images, not by the log.
#![forbid(unsafe_code)]

mod archive;
mod catalog;
mod check;
mod claim;
mod error;
mod fence;
mod footer;
mod index;
mod intervals;
mod lineage;
mod merge;
mod origin;
mod pack;
mod pruned;
mod restored;
mod search;
mod ship;
mod timeline;
mod transactions;

pub use archive::{Archive, LogObject};
pub use catalog::{Catalog, Found};
pub use claim::Writer;
pub use error::{Error, Result};
pub use fence::{Claim, Fence};
pub use footer::{
    CommitEntry, CommitPoint, CutRecord, FOOTER_VERSION, FileImages, Footer, FrameStart, ImageEntry,
    LogicalEntry, Mark, MarkKind, OpenTx, RECORD_HEAD_BYTES, SetLengthEntry, Span,
};
pub use index::{Carry, Indexer, LogIdentity};
pub use intervals::{Base, Cause, Coverage, Gap, Interval, Run, coverage, reaches, runs};
pub use lineage::{Leg, Lineage, Piece};
pub use merge::{BlockSet, FileChange, Image, Merged};
pub use origin::Origin;
pub use pitr_objects::layout::{LogName, PrunedRange, RestoredName, SourceObject};
pub use restored::{Fingerprint, RestoredState};
pub use search::{Around, Search, Transaction};
pub use ship::{ShipOptions, Shipped, Shipper};
pub use timeline::{ForkReason, Timeline};
pub use transactions::Transactions;
