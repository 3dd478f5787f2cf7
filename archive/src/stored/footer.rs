//! The index of a log object: it locates commits, blocks and moments without reading the log
//! itself.
//!
//! # Invariants
//! - Every record whose *last* byte lies in the range is indexed here. A record that started in an
//!   earlier object is indexed with its own LSN, which lies before `from`. [`Footer::cut`] keeps
//!   the first part of a record that continues after `to`, so the next object's footer can be built
//!   without reading this one's bytes.
//! - Logical records are not indexed one by one: for each transaction the index has the partitions
//!   with logical records, and the position of the last one. So a restore that can't apply them
//!   fails before it reads a record.
//! - Commits are in LSN order and their times never decrease; images are ordered by file, block and
//!   LSN.
//! - The index is never trusted for the content of a block: a reader verifies each record against
//!   the index.
//!
//! The byte layout is in `docs/format/archive.md`; [`Footer::encode`] and [`Footer::decode`]
//! implement it.

mod decode;
mod encode;
#[cfg(test)]
mod tests;

use pitr_format::log::SEGMENT_HEADER_BYTES;
use pitr_format::record::GapReason;
use pitr_format::{Epoch, FileId, Incarnation, Lsn, PartitionId, SegmentSize, TimelineId, Timestamp, TxId};

/// Version of the footer's layout.
pub(crate) const FOOTER_VERSION: u16 = 1;
/// Maximum size of the fixed part of a record's payload, bytes.
pub(crate) const RECORD_HEAD_BYTES: usize = 24;

/// The footer of a log object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Footer {
    /// Timeline of the range.
    pub timeline: TimelineId,
    /// The writer.
    pub epoch: Epoch,
    /// Start of the range.
    pub from: Lsn,
    /// End of the range's last batch.
    pub to: Lsn,
    /// Size of the timeline's segments.
    pub segment_size: SegmentSize,
    /// Identity of the log.
    pub log_id: [u8; 16],
    /// True if changes of the source just before `from` were never logged.
    pub gap: bool,
    /// Highest commit or watermark time that the log states up to `to`; [`Timestamp::MIN`] if none.
    pub watermark: Timestamp,
    /// The last commit before the range, as far as the writer of this timeline knows.
    pub before: Option<CommitPoint>,
    /// Position of the last clock step before the range. It makes all clock steps findable without
    /// reading every footer.
    pub step_before: Option<Lsn>,
    /// End of the last checkpoint record before the range. It makes all checkpoints findable
    /// without reading every footer.
    pub checkpoint_before: Option<Lsn>,
    /// The frames of the object.
    pub frames: Vec<FrameStart>,
    /// Commits, by LSN.
    pub commits: Vec<CommitEntry>,
    /// Block images, by file.
    pub files: Vec<FileImages>,
    /// Images whose bytes lie in more than one frame.
    pub spans: Vec<Span>,
    /// Set-lengths, by LSN.
    pub set_lengths: Vec<SetLengthEntry>,
    /// Gaps and clock steps, by LSN.
    pub marks: Vec<Mark>,
    /// Partitions with records in the range, sorted.
    pub partitions: Vec<PartitionId>,
    /// Transactions with records at or before `to` and neither commit nor abort, by number.
    pub open: Vec<OpenTx>,
    /// The record that continues after `to`.
    pub cut: Option<CutRecord>,
    /// Logical records, by LSN: one entry for each transaction and partition.
    pub logical: Vec<LogicalEntry>,
    /// Checkpoints of the engine, by LSN.
    pub checkpoints: Vec<CheckpointEntry>,
}

/// A checkpoint record of the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointEntry {
    /// Position of the record.
    pub lsn: Lsn,
    /// End of the record. It lies in the range.
    pub end: Lsn,
    /// A replay over the checkpoint's state begins here.
    pub redo_from: Lsn,
    /// Size of the engine's state, bytes.
    pub bytes: u64,
}

/// The last logical record of a transaction and a partition that ends in the range. If a
/// transaction number was reused after a commit or abort, each use has an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogicalEntry {
    /// Position of the record.
    pub lsn: Lsn,
    /// The transaction.
    pub tx: TxId,
    /// The partition.
    pub partition: PartitionId,
}

/// A frame of the object: whole batches of one incarnation of one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameStart {
    /// Position of the frame's first batch, which determines the segment.
    pub lsn: Lsn,
    /// Incarnation of the segment. It seeds the checksums.
    pub incarnation: Incarnation,
}

/// A commit of the range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitEntry {
    /// The transaction.
    pub tx: TxId,
    /// LSN of the commit: the end of the commit record.
    pub lsn: Lsn,
    /// Time at which the commit was logged.
    pub time: Timestamp,
    /// The earliest time at which the commit can have happened.
    pub earliest: Timestamp,
    /// Position of the transaction's first record.
    pub first_lsn: Lsn,
    /// Number of block images that the transaction logged.
    pub blocks: u64,
    /// Bytes of images and logical records that the transaction logged.
    pub bytes: u64,
}

/// The parts of a commit that a search needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitPoint {
    /// The transaction.
    pub tx: TxId,
    /// The LSN of the commit.
    pub lsn: Lsn,
    /// Time at which the commit was logged.
    pub time: Timestamp,
}

impl From<&CommitEntry> for CommitPoint {
    fn from(commit: &CommitEntry) -> Self {
        CommitPoint { tx: commit.tx, lsn: commit.lsn, time: commit.time }
    }
}

/// The images of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileImages {
    /// The file.
    pub file: FileId,
    /// Size of each of these images, bytes.
    pub block_bytes: u32,
    /// The images, by block and LSN.
    pub images: Vec<ImageEntry>,
}

/// The place of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImageEntry {
    /// Number of the block within its file.
    pub block: u64,
    /// Position of the image record.
    pub lsn: Lsn,
    /// The transaction.
    pub tx: TxId,
}

/// An image whose bytes lie in more than one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Position of the image record.
    pub lsn: Lsn,
    /// End of the image's last byte.
    pub end: Lsn,
}

/// A change of a file's length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetLengthEntry {
    /// Position of the record.
    pub lsn: Lsn,
    /// The file.
    pub file: FileId,
    /// New length of the file, bytes.
    pub len: u64,
    /// The transaction.
    pub tx: TxId,
}

/// A gap or a clock step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Position of the record.
    pub lsn: Lsn,
    /// The gap or the clock step.
    pub what: MarkKind,
}

/// The content of a [`Mark`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MarkKind {
    /// Changes of the source between the two times were not seen.
    Gap {
        /// The reason.
        reason: GapReason,
        /// Last time at which the log was known to be complete.
        since: Timestamp,
        /// When watching began again.
        until: Timestamp,
    },
    /// The wall clock was set.
    ClockStep {
        /// The expected time.
        from: Timestamp,
        /// The time that the clock showed.
        to: Timestamp,
    },
}

/// An open transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenTx {
    /// Number of the transaction.
    pub tx: TxId,
    /// Position of the transaction's first record.
    pub first_lsn: Lsn,
    /// Block images so far.
    pub blocks: u64,
    /// Bytes of images and logical records so far.
    pub bytes: u64,
}

/// The first part of a record that continues in the next object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CutRecord {
    /// Position of the record's first frame.
    pub lsn: Lsn,
    /// Kind of the record; see [`pitr_format::record::RecordKind`].
    pub kind: u8,
    /// Partition of the record.
    pub partition: PartitionId,
    /// Transaction of the record.
    pub tx: TxId,
    /// Length of the whole record, bytes.
    pub total_len: u32,
    /// Bytes of the record so far.
    pub seen: u32,
    /// The first bytes of the record so far, at most [`RECORD_HEAD_BYTES`].
    pub head: [u8; RECORD_HEAD_BYTES],
}

impl Footer {
    /// Number of images in all files.
    #[must_use]
    pub fn image_count(&self) -> usize {
        self.files.iter().map(|f| f.images.len()).sum()
    }

    /// The last commit at or before `upto`, in the range or before it.
    #[must_use]
    pub fn last_commit(&self, upto: Lsn) -> Option<CommitPoint> {
        let counted = self.commits.partition_point(|commit| commit.lsn <= upto);
        let within = counted.checked_sub(1).and_then(|no| self.commits.get(no));
        within.map(CommitPoint::from).or(self.before)
    }

    /// Position of the last clock step in the range or before it.
    #[must_use]
    pub fn last_step(&self) -> Option<Lsn> {
        let steps = self.marks.iter().filter(|mark| matches!(mark.what, MarkKind::ClockStep { .. }));
        steps.map(|mark| mark.lsn).next_back().or(self.step_before)
    }

    /// End of the last checkpoint in the range or before it.
    #[must_use]
    pub fn last_checkpoint(&self) -> Option<Lsn> {
        self.checkpoints.last().map(|checkpoint| checkpoint.end).or(self.checkpoint_before)
    }

    /// True if the range contains only the middle of a record whose start is unknown: the log was
    /// cut down before it was archived.
    #[must_use]
    pub(crate) fn ends_in_unknown(&self) -> bool {
        // Every record that starts in the range has a partition.
        self.cut.is_none() && self.partitions.is_empty()
    }

    /// Number of the frame that contains `lsn`; `None` if it lies before the first.
    #[must_use]
    pub fn frame_of(&self, lsn: Lsn) -> Option<usize> {
        self.frames.partition_point(|f| f.lsn <= lsn).checked_sub(1)
    }

    /// True if the last batch of frame `no` may end at `end`: at the start of the next frame, or,
    /// if the next frame starts a later segment, within this segment.
    #[must_use]
    pub fn ends_frame(&self, no: usize, end: Lsn) -> bool {
        let size = self.segment_size;
        match (self.frames.get(no), self.frames.get(no + 1)) {
            (Some(_), None) => end == self.to,
            (Some(frame), Some(next)) => {
                let segment = size.segment_of(frame.lsn);
                let begins_segment =
                    size.segment_of(next.lsn) > segment && size.offset_of(next.lsn) == SEGMENT_HEADER_BYTES;
                end == next.lsn || begins_segment && size.segment_of(end.before()) == segment
            }
            (None, _) => false,
        }
    }
}

/// Maps a signed to an unsigned number so that small magnitudes stay small.
const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

const fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}
