//! Values that pitr keeps on disk, and how their bytes are laid out.
//!
//! This is the bottom layer: it does no I/O, knows no clock and allocates nothing on the word of a length
//! that it has not bounded first. What stands here is what more than one crate must read the same way:
//!
//! - [`Lsn`], [`TimelineId`], [`Epoch`], [`Incarnation`], [`TxId`], [`PartitionId`], [`FileId`], [`Timestamp`]:
//!   newtypes for every number that has a unit;
//! - [`bytes`]: a bounded little-endian reader and its writer;
//! - [`log`]: the segment header, the batch and the record frame, with the checksum that ties them to one life
//!   of one segment (`docs/format/wal.md`);
//! - [`index`]: which positions, times and transactions stand where in a segment;
//! - [`record`]: what the records say: block images, set-length, commit, watermark, gap, clock step.
//!
//! Every decoder returns [`DecodeError`] for any input; none panics.
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
