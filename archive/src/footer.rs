//! What a log object says about the range of the log that it holds, so that nobody has to read the range itself to
//! find a commit, a block or a moment.
//!
//! # Invariants
//! - Every record whose *last* byte lies in the range is indexed here. A record that began in an object before this
//!   one is indexed with its own LSN, which lies before `from`; what was seen of a record that goes on behind `to`
//!   stands in [`Footer::cut`], so that the next object's footer can be made without reading this one's bytes.
//! - Logical records are not indexed one by one: a reader learns whether a transaction has any, of which partition, and where
//!   the last one is. So a restore that can't apply them knows before it reads a record.
//! - Commits stand in LSN order and their times never decrease; images stand by file, block and LSN.
//! - Nothing here is trusted for the content of a block: a reader checks the record that it finds against the index.
//!
//! The byte layout is in `docs/format/archive.md`; [`Footer::encode`] and [`Footer::decode`] are it.

mod decode;
mod encode;
#[cfg(test)]
mod tests;

use pitr_format::log::SEGMENT_HEADER_BYTES;
use pitr_format::record::GapReason;
use pitr_format::{Epoch, FileId, Incarnation, Lsn, PartitionId, SegmentSize, TimelineId, Timestamp, TxId};

/// Version of the footer's layout.
pub(crate) const FOOTER_VERSION: u16 = 1;
/// The fixed part of every record's payload fits in this many bytes.
pub(crate) const RECORD_HEAD_BYTES: usize = 24;

/// The footer of a log object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Footer {
    /// Timeline of the range.
    pub timeline: TimelineId,
    /// The writer.
    pub epoch: Epoch,
    /// Where the range begins.
    pub from: Lsn,
    /// Just behind its last batch.
    pub to: Lsn,
    /// Size of the timeline's segments.
    pub segment_size: SegmentSize,
    /// Identity of the log.
    pub log_id: [u8; 16],
    /// True if what the source did just before `from` was never logged.
    pub gap: bool,
    /// Highest commit or watermark time that the log states up to `to`; [`Timestamp::MIN`] if none.
    pub watermark: Timestamp,
    /// The last commit before the range, as far as the writer of this timeline knows.
    pub before: Option<CommitPoint>,
    /// Position of the last clock step before the range, so that all of them are found without reading every footer.
    pub step_before: Option<Lsn>,
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
    /// Partitions that records of the range belong to, sorted.
    pub partitions: Vec<PartitionId>,
    /// Transactions with records at or before `to` and neither commit nor abort, by number.
    pub open: Vec<OpenTx>,
    /// The record that goes on behind `to`.
    pub cut: Option<CutRecord>,
    /// Logical records, by LSN: one entry for each transaction and partition.
    pub logical: Vec<LogicalEntry>,
}

/// That a transaction logged logical records of a partition: the last one that ends in the range. A transaction that was
/// decided and whose number was used again has an entry for each use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogicalEntry {
    /// Position of the record.
    pub lsn: Lsn,
    /// The transaction.
    pub tx: TxId,
    /// The partition.
    pub partition: PartitionId,
}

/// A frame of the object: whole batches of one life of one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameStart {
    /// Position of its first batch. The segment follows from it.
    pub lsn: Lsn,
    /// Life of the segment, which seeds the checksums.
    pub incarnation: Incarnation,
}

/// A commit of the range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitEntry {
    /// The transaction.
    pub tx: TxId,
    /// Position just behind the commit record: the LSN of the commit.
    pub lsn: Lsn,
    /// When it was logged.
    pub time: Timestamp,
    /// The earliest time at which it can have happened.
    pub earliest: Timestamp,
    /// Position of the transaction's first record.
    pub first_lsn: Lsn,
    /// Block images that it logged.
    pub blocks: u64,
    /// Bytes of images and logical records that it logged.
    pub bytes: u64,
}

/// A commit, as far as a search needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitPoint {
    /// The transaction.
    pub tx: TxId,
    /// The LSN of the commit.
    pub lsn: Lsn,
    /// When it was logged.
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

/// Where an image stands.
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
    /// Just behind its last byte.
    pub end: Lsn,
}

/// A change of a file's length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetLengthEntry {
    /// Position of the record.
    pub lsn: Lsn,
    /// The file.
    pub file: FileId,
    /// Its new length, bytes.
    pub len: u64,
    /// The transaction.
    pub tx: TxId,
}

/// Something that a reader of times or of gaps must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Position of the record.
    pub lsn: Lsn,
    /// What it says.
    pub what: MarkKind,
}

/// What a [`Mark`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MarkKind {
    /// What the source did between the two times was not seen.
    Gap {
        /// Why.
        reason: GapReason,
        /// Last time at which the log was known to be complete.
        since: Timestamp,
        /// When watching began again.
        until: Timestamp,
    },
    /// The wall clock was set.
    ClockStep {
        /// What it should have shown.
        from: Timestamp,
        /// What it showed.
        to: Timestamp,
    },
}

/// A transaction without an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenTx {
    /// Its number.
    pub tx: TxId,
    /// Position of its first record.
    pub first_lsn: Lsn,
    /// Block images so far.
    pub blocks: u64,
    /// Bytes of images and logical records so far.
    pub bytes: u64,
}

/// What was seen of a record that goes on in the next object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CutRecord {
    /// Position of its first frame.
    pub lsn: Lsn,
    /// What it is; see [`pitr_format::record::RecordKind`].
    pub kind: u8,
    /// Partition that it belongs to.
    pub partition: PartitionId,
    /// Transaction that it belongs to.
    pub tx: TxId,
    /// Length of the whole record, bytes.
    pub total_len: u32,
    /// Bytes of it so far.
    pub seen: u32,
    /// Its first bytes, as many as were seen and at most [`RECORD_HEAD_BYTES`].
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

    /// True if a record that began before the range may go on in its end, and its begin is not known: the range holds the
    /// middle of a record, and nothing else, of a log that was cut down before it was archived.
    #[must_use]
    pub(crate) fn ends_in_unknown(&self) -> bool {
        // Every record that begins in the range is of a partition.
        self.cut.is_none() && self.partitions.is_empty()
    }

    /// Number of the frame that holds `lsn`; `None` if it lies before the first.
    #[must_use]
    pub fn frame_of(&self, lsn: Lsn) -> Option<usize> {
        self.frames.partition_point(|f| f.lsn <= lsn).checked_sub(1)
    }

    /// True if the last batch of frame `no` may end there: where the next frame begins, or where its segment ended, if the next
    /// frame begins a later one.
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

/// Maps signed to unsigned so that small magnitudes stay small.
const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

const fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}
