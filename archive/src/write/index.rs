//! Builds a footer from the batches of a range, one after another.
//!
//! Indexing a record needs only its first [`RECORD_HEAD_BYTES`], so records are never assembled,
//! however long they are. A record that continues in the next object is indexed there from the part
//! that this footer keeps.

use crate::stored::{
    CheckpointEntry, CommitEntry, CommitPoint, CutRecord, FileImages, Footer, FrameStart, ImageEntry,
    LogicalEntry, Mark, MarkKind, OpenTx, RECORD_HEAD_BYTES, SetLengthEntry, Span,
};
use pitr_format::bytes::{DecodeError, Reader};
use pitr_format::log::{Batch, Frame, Part};
use pitr_format::record::{BLOCK_BYTES_MAX, CHECKPOINT_HEAD_BYTES, Checkpoint, Record, RecordKind};
use pitr_format::{Epoch, FileId, Incarnation, Lsn, PartitionId, SegmentSize, TimelineId, Timestamp, TxId};
use pitr_redo::{Open, OpenTransactions};
use std::collections::{BTreeMap, BTreeSet};

/// Properties that are the same in all objects that one writer builds from one log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogIdentity {
    /// Timeline of the log.
    pub(crate) timeline: TimelineId,
    /// The writer.
    pub(crate) epoch: Epoch,
    /// Size of the log's segments.
    pub(crate) segment_size: SegmentSize,
    /// Random identity of the log.
    pub(crate) log_id: [u8; 16],
}

/// State that the footer of a range needs from earlier ranges.
#[derive(Debug, Clone)]
pub(crate) struct Carry {
    watermark: Timestamp,
    last_commit: Option<CommitPoint>,
    last_step: Option<Lsn>,
    last_checkpoint: Option<Lsn>,
    open: OpenTransactions<Logged>,
    cut: Option<CutRecord>,
    /// True while fragments of a record that began in lost log may come. They are skipped.
    in_the_middle: bool,
}

/// Totals of what an open transaction has logged so far.
#[derive(Debug, Clone, Copy, Default)]
struct Logged {
    blocks: u64,
    bytes: u64,
}

impl Carry {
    /// The state before the first range.
    #[must_use]
    pub(crate) fn nothing() -> Self {
        Carry {
            watermark: Timestamp::MIN,
            last_commit: None,
            last_step: None,
            last_checkpoint: None,
            open: OpenTransactions::default(),
            cut: None,
            in_the_middle: false,
        }
    }

    /// The state after a loss of log: the next range may start within a record. Times, the last
    /// commit and the last clock step stay known. Open transactions are dropped, because the loss
    /// separates their earlier records from later ones.
    #[must_use]
    pub(crate) fn after_loss(self) -> Self {
        Carry { open: OpenTransactions::default(), cut: None, in_the_middle: true, ..self }
    }

    /// The carry after the range of this footer.
    #[must_use]
    pub(crate) fn after(footer: &Footer) -> Self {
        let open = footer.open.iter().map(|open| {
            let state = Logged { blocks: open.blocks, bytes: open.bytes };
            (open.tx, Open { first: open.first_lsn, state })
        });
        let incarnation = footer.frames.last().map(|frame| frame.incarnation);
        Carry {
            watermark: footer.watermark,
            last_commit: footer.last_commit(Lsn::MAX),
            last_step: footer.last_step(),
            last_checkpoint: footer.last_checkpoint(),
            open: OpenTransactions::resume(incarnation, open),
            cut: footer.cut,
            in_the_middle: footer.ends_in_unknown(),
        }
    }
}

/// Builds one footer.
#[derive(Debug)]
pub(crate) struct Indexer {
    identity: LogIdentity,
    from: Lsn,
    gap: bool,
    carry: Carry,
    frames: Vec<FrameStart>,
    cut_in_frame: Option<usize>,
    commits: Vec<CommitEntry>,
    images: BTreeMap<(FileId, u32), Vec<ImageEntry>>,
    spans: Vec<Span>,
    set_lengths: Vec<SetLengthEntry>,
    marks: Vec<Mark>,
    partitions: BTreeSet<PartitionId>,
    /// The last logical record of each open transaction and partition.
    logical_open: BTreeMap<(TxId, PartitionId), Lsn>,
    logical: Vec<LogicalEntry>,
    checkpoints: Vec<CheckpointEntry>,
}

impl Indexer {
    /// An indexer of the range that starts at `from`. `gap` is true if changes of the source just
    /// before were never logged.
    #[must_use]
    pub(crate) fn new(identity: LogIdentity, from: Lsn, gap: bool, carry: Carry) -> Self {
        Indexer {
            identity,
            from,
            gap,
            carry,
            frames: Vec::new(),
            cut_in_frame: None,
            commits: Vec::new(),
            images: BTreeMap::new(),
            spans: Vec::new(),
            set_lengths: Vec::new(),
            marks: Vec::new(),
            partitions: BTreeSet::new(),
            logical_open: BTreeMap::new(),
            logical: Vec::new(),
            checkpoints: Vec::new(),
        }
    }

    /// Starts a frame of the object with the next batch.
    pub(crate) fn begin_frame(&mut self, lsn: Lsn, incarnation: Incarnation) {
        if self.carry.open.enter(incarnation) {
            self.carry.in_the_middle = false;
        }
        self.frames.push(FrameStart { lsn, incarnation });
    }

    /// Indexes a verified batch.
    pub(crate) fn push(&mut self, batch: &Batch<'_>) -> Result<(), DecodeError> {
        self.carry.watermark = self.carry.watermark.max(batch.header.time);
        for frame in batch.frames() {
            self.frame(&frame?)?;
        }
        Ok(())
    }

    /// The footer of everything up to `to`, and the carry for the next one.
    #[must_use]
    pub(crate) fn finish(mut self, to: Lsn) -> (Footer, Carry) {
        let LogIdentity { timeline, epoch, segment_size, log_id } = self.identity;
        let undecided =
            self.logical_open.into_iter().map(|((tx, partition), lsn)| LogicalEntry { lsn, tx, partition });
        self.logical.extend(undecided);
        self.logical.sort_unstable_by_key(|entry| entry.lsn);
        let files = self
            .images
            .into_iter()
            .map(|((file, block_bytes), mut images)| {
                images.sort_unstable();
                FileImages { file, block_bytes, images }
            })
            .collect();
        let footer = Footer {
            timeline,
            epoch,
            from: self.from,
            to,
            segment_size,
            log_id,
            gap: self.gap,
            watermark: self.carry.watermark,
            before: self.carry.last_commit,
            step_before: self.carry.last_step,
            checkpoint_before: self.carry.last_checkpoint,
            frames: self.frames,
            commits: self.commits,
            files,
            spans: self.spans,
            set_lengths: self.set_lengths,
            marks: self.marks,
            partitions: self.partitions.into_iter().collect(),
            open: self.carry.open.iter().map(|(tx, open)| open_tx(tx, open)).collect(),
            cut: self.carry.cut,
            logical: self.logical,
            checkpoints: self.checkpoints,
        };
        self.carry.last_commit = footer.last_commit(to);
        self.carry.last_step = footer.last_step();
        self.carry.last_checkpoint = footer.last_checkpoint();
        (footer, self.carry)
    }

    fn frame(&mut self, frame: &Frame<'_>) -> Result<(), DecodeError> {
        let out_of_order = DecodeError::Range { what: "record part out of order", value: frame.lsn.get() };
        let mut record = match (frame.part, self.carry.cut.take()) {
            // The previous record is incomplete: its writer died before it was acknowledged.
            // Discard it.
            (Part::Full | Part::First, _) => {
                self.carry.in_the_middle = false;
                self.cut_in_frame = self.frames.len().checked_sub(1);
                self.begin_record(frame)
            }
            (Part::Middle | Part::Last, Some(open)) if continues(&open, frame) => open,
            // FAILURES 53: the start of this record is lost.
            (Part::Middle | Part::Last, None) if self.carry.in_the_middle => {
                self.carry.in_the_middle = frame.part == Part::Middle;
                return Ok(());
            }
            _ => return Err(out_of_order),
        };
        let known = RECORD_HEAD_BYTES.min(record.seen as usize);
        let more = frame.bytes.len().min(RECORD_HEAD_BYTES - known);
        record.head[known..known + more].copy_from_slice(&frame.bytes[..more]);
        let seen = u64::from(record.seen) + frame.bytes.len() as u64;
        let complete = matches!(frame.part, Part::Full | Part::Last);
        let len = u64::from(record.total_len);
        let fits = if complete { seen == len } else { seen <= len };
        if !fits {
            return Err(out_of_order);
        }
        record.seen = seen as u32;
        if complete {
            return self.record(&record, frame.end());
        }
        self.carry.cut = Some(record);
        Ok(())
    }

    fn begin_record(&mut self, frame: &Frame<'_>) -> CutRecord {
        self.partitions.insert(frame.partition);
        if frame.tx != TxId::NONE {
            self.carry.open.record(frame.tx, frame.lsn, Logged::default);
        }
        let Frame { lsn, kind, partition, tx, total_len, .. } = *frame;
        CutRecord { lsn, kind, partition, tx, total_len, seen: 0, head: [0; RECORD_HEAD_BYTES] }
    }

    fn record(&mut self, record: &CutRecord, end: Lsn) -> Result<(), DecodeError> {
        let raw = u64::from(record.kind);
        let kind =
            RecordKind::from_u8(record.kind).ok_or(DecodeError::Range { what: "record kind", value: raw })?;
        match kind {
            RecordKind::Image => self.image(record, end),
            RecordKind::Commit => self.commit(record, end),
            RecordKind::Data => {
                self.count(record.tx, 0, record.total_len.into());
                self.logical_open.insert((record.tx, record.partition), record.lsn);
                Ok(())
            }
            RecordKind::Note => Ok(()),
            RecordKind::Checkpoint => self.checkpoint(record, end),
            RecordKind::SetLength
            | RecordKind::Abort
            | RecordKind::Watermark
            | RecordKind::ClockStep
            | RecordKind::Gap => {
                let len = record.total_len as usize;
                let payload = record.head.get(..len);
                let payload =
                    payload.ok_or(DecodeError::Range { what: "record length", value: len as u64 })?;
                self.short(record, &Record::decode(record.kind, payload)?);
                Ok(())
            }
        }
    }

    fn image(&mut self, record: &CutRecord, end: Lsn) -> Result<(), DecodeError> {
        let mut r = Reader::new(&record.head);
        let file = FileId::new(r.u32("image")?);
        let len = r.u32("image")?;
        let block = r.u64("image")?;
        let whole = u64::from(len) + r.offset() as u64 == u64::from(record.total_len);
        let bounded = block.checked_add(1).and_then(|n| n.checked_mul(len.into())).is_some();
        if !whole || !bounded || !(1..=BLOCK_BYTES_MAX).contains(&len) {
            return Err(DecodeError::Range { what: "image block", value: block });
        }
        self.count(record.tx, 1, len.into());
        let image = ImageEntry { block, lsn: record.lsn, tx: record.tx };
        self.images.entry((file, len)).or_default().push(image);
        if self.cut_in_frame.is_none_or(|no| no + 1 != self.frames.len()) {
            self.spans.push(Span { lsn: record.lsn, end });
        }
        Ok(())
    }

    fn checkpoint(&mut self, record: &CutRecord, end: Lsn) -> Result<(), DecodeError> {
        let head = RECORD_HEAD_BYTES.min(record.total_len as usize);
        let Checkpoint { redo_from, .. } = Checkpoint::decode(&record.head[..head])?;
        if redo_from > record.lsn {
            return Err(DecodeError::Range { what: "redo point of a checkpoint", value: redo_from.get() });
        }
        let bytes = u64::from(record.total_len) - CHECKPOINT_HEAD_BYTES as u64; // it was decoded
        self.checkpoints.push(CheckpointEntry { lsn: record.lsn, end, redo_from, bytes });
        Ok(())
    }

    fn commit(&mut self, record: &CutRecord, end: Lsn) -> Result<(), DecodeError> {
        let mut r = Reader::new(&record.head[..RECORD_HEAD_BYTES.min(record.total_len as usize)]);
        let time = Timestamp::from_micros(r.i64("commit")?);
        let earliest = Timestamp::from_micros(r.i64("commit")?);
        let first_lsn = Lsn::new(r.u64("commit")?);
        if first_lsn > end || earliest > time {
            return Err(DecodeError::Range { what: "commit", value: record.lsn.get() });
        }
        let Logged { blocks, bytes } =
            self.carry.open.end(record.tx).map_or(Logged::default(), |open| open.state);
        self.decided(record.tx);
        self.carry.watermark = self.carry.watermark.max(time);
        self.commits.push(CommitEntry { tx: record.tx, lsn: end, time, earliest, first_lsn, blocks, bytes });
        Ok(())
    }

    fn short(&mut self, at: &CutRecord, record: &Record<'_>) {
        match *record {
            Record::SetLength { file, len } => {
                self.set_lengths.push(SetLengthEntry { lsn: at.lsn, file, len, tx: at.tx });
            }
            Record::Abort { .. } => {
                self.carry.open.end(at.tx);
                self.decided(at.tx);
            }
            Record::Watermark(time) => self.carry.watermark = self.carry.watermark.max(time),
            Record::ClockStep { from, to } => {
                self.marks.push(Mark { lsn: at.lsn, what: MarkKind::ClockStep { from, to } });
            }
            Record::Gap { reason, since, until } => {
                self.marks.push(Mark { lsn: at.lsn, what: MarkKind::Gap { reason, since, until } });
            }
            _ => {}
        }
    }

    /// Ends a transaction: later records under its number belong to a new one.
    fn decided(&mut self, tx: TxId) {
        let all = (tx, PartitionId::new(0))..=(tx, PartitionId::new(u32::MAX));
        let own = self.logical_open.range(all);
        let own: Vec<_> = own.map(|(&(tx, partition), &lsn)| LogicalEntry { lsn, tx, partition }).collect();
        for entry in &own {
            self.logical_open.remove(&(entry.tx, entry.partition));
        }
        self.logical.extend(own);
    }

    fn count(&mut self, tx: TxId, blocks: u64, bytes: u64) {
        if let Some(open) = self.carry.open.get_mut(tx) {
            open.blocks += blocks;
            open.bytes += bytes;
        }
    }
}

fn open_tx(tx: TxId, open: &Open<Logged>) -> OpenTx {
    let Logged { blocks, bytes } = open.state;
    OpenTx { tx, first_lsn: open.first, blocks, bytes }
}

fn continues(open: &CutRecord, frame: &Frame<'_>) -> bool {
    open.kind == frame.kind
        && open.partition == frame.partition
        && open.tx == frame.tx
        && open.total_len == frame.total_len
}
