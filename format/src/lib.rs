//! Values that pitr stores on disk, and their byte layouts.
//!
//! This is the bottom layer. It does no I/O and reads no clock, and it bounds every decoded length
//! before it allocates. It holds the types that more than one crate must read the same way:
//!
//! - [`Lsn`], [`TimelineId`], [`Epoch`], [`Incarnation`], [`TxId`], [`PartitionId`], [`FileId`],
//!   [`Timestamp`]: newtypes for every number that has a unit;
//! - [`bytes`]: a bounded little-endian reader and its writer;
//! - [`log`]: the segment header, the batch and the record frame. Their checksums are bound to one
//!   incarnation of one segment (`docs/format/wal.md`);
//! - [`index`]: the sparse index of a segment by position, time and transaction;
//! - [`record`]: the record payloads: block images, set-length, commit, watermark, gap, clock step;
//! - [`slots`]: the table of a log's slots.
//!
//! Every decoder returns [`DecodeError`] on invalid input. No decoder panics.
#![forbid(unsafe_code)]

pub mod bytes;
mod ids;
pub mod index;
pub mod log;
mod lsn;
pub mod record;
mod severity;
pub mod slots;
mod source_name;
mod time;

pub use bytes::DecodeError;
pub use ids::{Epoch, FileId, Incarnation, OwnerToken, PartitionId, TimelineId, TxId};
pub use lsn::{Lsn, SegmentNo, SegmentSize, SegmentSizeError};
pub use severity::Severity;
pub use source_name::{SourceName, SourceNameError};
pub use time::Timestamp;

/// The examples in the README compile and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
