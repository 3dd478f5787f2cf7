//! Decodes footers. Any input gives a footer that keeps the invariants, or an error. Allocates no
//! memory for a count that the input is too short for.

use super::{
    CheckpointEntry, CommitEntry, CommitPoint, CutRecord, FOOTER_VERSION, FileImages, Footer, FrameStart,
    ImageEntry, LogicalEntry, Mark, MarkKind, OpenTx, RECORD_HEAD_BYTES, SetLengthEntry, Span, unzigzag,
};
use pitr_format::bytes::{DecodeError, Reader};
use pitr_format::record::{BLOCK_BYTES_MAX, GapReason};
use pitr_format::{Epoch, FileId, Incarnation, Lsn, PartitionId, SegmentSize, TimelineId, Timestamp, TxId};

const WHAT: &str = "log object footer";

impl Footer {
    /// Reads a footer.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        r.check_version_u16(FOOTER_VERSION, WHAT)?;
        let flags = r.u8(WHAT)?;
        let size_log = r.u8(WHAT)?;
        let size = 1u32.checked_shl(size_log.into()).and_then(|bytes| SegmentSize::new(bytes).ok());
        let segment_size = size.ok_or(range("segment size", size_log))?;
        let timeline = TimelineId::new(u32_of(r.varint(WHAT)?, "timeline")?);
        let epoch = Epoch::new(r.varint(WHAT)?);
        let from = Lsn::new(r.varint(WHAT)?);
        let to = forward(from, r.varint(WHAT)?)?;
        if flags > 127 || to == from {
            return Err(range("log range", flags));
        }
        let log_id = r.array(WHAT)?;
        let watermark = Timestamp::from_micros(r.i64(WHAT)?);
        let before = if flags & 4 != 0 { Some(commit_point(&mut r)?) } else { None };
        let step_before = if flags & 8 != 0 { Some(Lsn::new(r.varint("clock step")?)) } else { None };
        let checkpoint_before = if flags & 64 != 0 { Some(Lsn::new(r.varint("checkpoint")?)) } else { None };
        let within = Within { from, to };
        let frames = within.frames(&mut r)?;
        let commits = within.commits(&mut r)?;
        let files = within.files(&mut r)?;
        let spans = within.spans(&mut r)?;
        let set_lengths = within.set_lengths(&mut r)?;
        let marks = within.marks(&mut r)?;
        let partitions = partitions(&mut r)?;
        let open = within.open(&mut r)?;
        let cut = if flags & 2 != 0 { Some(within.cut(&mut r)?) } else { None };
        let logical = if flags & 16 != 0 { within.logical(&mut r)? } else { Vec::new() };
        let checkpoints = if flags & 32 != 0 { within.checkpoints(&mut r)? } else { Vec::new() };
        r.finish(WHAT)?;
        let gap = flags & 1 != 0;
        Ok(Footer {
            timeline,
            epoch,
            from,
            to,
            segment_size,
            log_id,
            gap,
            watermark,
            before,
            step_before,
            checkpoint_before,
            frames,
            commits,
            files,
            spans,
            set_lengths,
            marks,
            partitions,
            open,
            cut,
            logical,
            checkpoints,
        })
    }
}

/// The range of the object, against which positions are checked.
struct Within {
    from: Lsn,
    to: Lsn,
}

impl Within {
    fn frames(&self, r: &mut Reader<'_>) -> Result<Vec<FrameStart>, DecodeError> {
        let count = r.count(2, "frames")?;
        let mut frames = Vec::with_capacity(count);
        let mut before = self.from;
        for no in 0..count {
            let step = r.varint("frame")?;
            let lsn = forward(before, step)?;
            if lsn >= self.to || (no > 0 && step == 0) {
                return Err(range("frame position", lsn.get()));
            }
            let incarnation = Incarnation::new(u32_of(r.varint("frame")?, "incarnation")?);
            frames.push(FrameStart { lsn, incarnation });
            before = lsn;
        }
        Ok(frames)
    }

    fn commits(&self, r: &mut Reader<'_>) -> Result<Vec<CommitEntry>, DecodeError> {
        let count = r.count(7, "commits")?;
        let mut commits: Vec<CommitEntry> = Vec::with_capacity(count);
        let (mut tx, mut lsn, mut time) = (0u64, self.from, 0i64);
        for no in 0..count {
            tx = tx.wrapping_add(unzigzag(r.varint("commit")?) as u64);
            let step = r.varint("commit")?;
            lsn = forward(lsn, step)?;
            let before = time;
            time = time.wrapping_add(unzigzag(r.varint("commit")?));
            let earliest = time.wrapping_sub(r.varint("commit")? as i64);
            let back = r.varint("commit")?;
            let first_lsn = lsn.get().checked_sub(back).ok_or(range("first LSN of a commit", back))?;
            if step == 0 || lsn > self.to || (no > 0 && time < before) || earliest > time {
                return Err(range("commit", lsn.get()));
            }
            commits.push(CommitEntry {
                tx: TxId::new(tx),
                lsn,
                time: Timestamp::from_micros(time),
                earliest: Timestamp::from_micros(earliest),
                first_lsn: Lsn::new(first_lsn),
                blocks: r.varint("commit")?,
                bytes: r.varint("commit")?,
            });
        }
        Ok(commits)
    }

    fn files(&self, r: &mut Reader<'_>) -> Result<Vec<FileImages>, DecodeError> {
        let count = r.count(3, "files")?;
        let mut files: Vec<FileImages> = Vec::with_capacity(count);
        for _ in 0..count {
            let file = FileId::new(u32_of(r.varint("file")?, "file")?);
            let block_bytes = u32_of(r.varint("file")?, "block size")?;
            let key = |f: &FileImages| (f.file, f.block_bytes);
            let sorted = files.last().is_none_or(|last| key(last) < (file, block_bytes));
            if !sorted || !(1..=BLOCK_BYTES_MAX).contains(&block_bytes) {
                return Err(range("block size", block_bytes));
            }
            files.push(FileImages { file, block_bytes, images: self.images(r, block_bytes)? });
        }
        Ok(files)
    }

    fn images(&self, r: &mut Reader<'_>, block_bytes: u32) -> Result<Vec<ImageEntry>, DecodeError> {
        let count = r.count(3, "images")?;
        let mut images: Vec<ImageEntry> = Vec::with_capacity(count);
        let (mut block, mut lsn, mut tx) = (0u64, self.from.get(), 0u64);
        for _ in 0..count {
            let step = r.varint("image")?;
            block = block.checked_add(step).ok_or(range("block", step))?;
            lsn = lsn.wrapping_add(unzigzag(r.varint("image")?) as u64);
            tx = tx.wrapping_add(unzigzag(r.varint("image")?) as u64);
            let image = ImageEntry { block, lsn: Lsn::new(lsn), tx: TxId::new(tx) };
            let fits = block.checked_add(1).and_then(|n| n.checked_mul(block_bytes.into())).is_some();
            if !fits || image.lsn >= self.to || images.last().is_some_and(|last| *last >= image) {
                return Err(range("image", lsn));
            }
            images.push(image);
        }
        Ok(images)
    }

    fn spans(&self, r: &mut Reader<'_>) -> Result<Vec<Span>, DecodeError> {
        let count = r.count(2, "spans")?;
        let mut spans: Vec<Span> = Vec::with_capacity(count);
        for _ in 0..count {
            let end = self.back(r.varint("span")?, "span")?;
            let len = r.varint("span")?;
            let lsn = Lsn::new(end.get().checked_sub(len).ok_or(range("span", len))?);
            if end <= self.from || len == 0 || spans.last().is_some_and(|last| last.end > lsn) {
                return Err(range("span", end.get()));
            }
            spans.push(Span { lsn, end });
        }
        Ok(spans)
    }

    fn set_lengths(&self, r: &mut Reader<'_>) -> Result<Vec<SetLengthEntry>, DecodeError> {
        let count = r.count(4, "set-lengths")?;
        let mut entries: Vec<SetLengthEntry> = Vec::with_capacity(count);
        for _ in 0..count {
            let lsn = self.back(r.varint("set-length")?, "set-length")?;
            if entries.last().is_some_and(|last| last.lsn >= lsn) {
                return Err(range("set-length", lsn.get()));
            }
            let file = FileId::new(u32_of(r.varint("set-length")?, "file")?);
            let len = r.varint("set-length")?;
            entries.push(SetLengthEntry { lsn, file, len, tx: TxId::new(r.varint("set-length")?) });
        }
        Ok(entries)
    }

    fn marks(&self, r: &mut Reader<'_>) -> Result<Vec<Mark>, DecodeError> {
        let count = r.count(18, "marks")?;
        let mut marks = Vec::with_capacity(count);
        for _ in 0..count {
            let lsn = self.back(r.varint("mark")?, "mark")?;
            let kind = r.u8("mark")?;
            let a = Timestamp::from_micros(r.i64("mark")?);
            let b = Timestamp::from_micros(r.i64("mark")?);
            let what = match kind {
                0 => MarkKind::ClockStep { from: a, to: b },
                other => MarkKind::Gap { reason: gap_reason(other)?, since: a, until: b },
            };
            marks.push(Mark { lsn, what });
        }
        Ok(marks)
    }

    fn logical(&self, r: &mut Reader<'_>) -> Result<Vec<LogicalEntry>, DecodeError> {
        let count = r.count(3, "logical records")?;
        let mut entries: Vec<LogicalEntry> = Vec::with_capacity(count);
        for _ in 0..count {
            let lsn = self.back(r.varint("logical record")?, "logical record")?;
            if lsn == self.to || entries.last().is_some_and(|last| last.lsn >= lsn) {
                return Err(range("logical record", lsn.get()));
            }
            let tx = TxId::new(r.varint("logical record")?);
            let partition = PartitionId::new(u32_of(r.varint("logical record")?, "partition")?);
            entries.push(LogicalEntry { lsn, tx, partition });
        }
        if entries.is_empty() { Err(range("logical records", 0u64)) } else { Ok(entries) }
    }

    fn checkpoints(&self, r: &mut Reader<'_>) -> Result<Vec<CheckpointEntry>, DecodeError> {
        let count = r.count(4, "checkpoints")?;
        let mut entries: Vec<CheckpointEntry> = Vec::with_capacity(count);
        for _ in 0..count {
            let end = self.back(r.varint("checkpoint")?, "checkpoint")?;
            let before =
                |lsn: Lsn, bytes: u64| lsn.get().checked_sub(bytes).ok_or(range("checkpoint", bytes));
            let lsn = Lsn::new(before(end, r.varint("checkpoint")?)?);
            let redo_from = Lsn::new(before(lsn, r.varint("checkpoint")?)?);
            let sorted = entries.last().is_none_or(|last| last.end <= lsn);
            if end <= self.from || lsn == end || !sorted {
                return Err(range("checkpoint", end.get()));
            }
            entries.push(CheckpointEntry { lsn, end, redo_from, bytes: r.varint("checkpoint")? });
        }
        if entries.is_empty() { Err(range("checkpoints", 0u64)) } else { Ok(entries) }
    }

    fn open(&self, r: &mut Reader<'_>) -> Result<Vec<OpenTx>, DecodeError> {
        let count = r.count(4, "open transactions")?;
        let mut open: Vec<OpenTx> = Vec::with_capacity(count);
        for _ in 0..count {
            let tx = TxId::new(r.varint("open transaction")?);
            if open.last().is_some_and(|last| last.tx >= tx) {
                return Err(range("open transaction", tx.get()));
            }
            let first_lsn = self.back(r.varint("open transaction")?, "open transaction")?;
            let blocks = r.varint("open transaction")?;
            open.push(OpenTx { tx, first_lsn, blocks, bytes: r.varint("open transaction")? });
        }
        Ok(open)
    }

    fn cut(&self, r: &mut Reader<'_>) -> Result<CutRecord, DecodeError> {
        let lsn = self.back(r.varint("cut record")?, "cut record")?;
        let kind = r.u8("cut record")?;
        let partition = PartitionId::new(u32_of(r.varint("cut record")?, "partition")?);
        let tx = TxId::new(r.varint("cut record")?);
        let total_len = u32_of(r.varint("cut record")?, "cut record")?;
        let seen = u32_of(r.varint("cut record")?, "cut record")?;
        if seen > total_len {
            return Err(range("cut record", seen));
        }
        let known = RECORD_HEAD_BYTES.min(seen as usize);
        let mut head = [0; RECORD_HEAD_BYTES];
        head[..known].copy_from_slice(r.take(known, "cut record")?);
        Ok(CutRecord { lsn, kind, partition, tx, total_len, seen, head })
    }

    /// The position `bytes` before the end of the range.
    fn back(&self, bytes: u64, what: &'static str) -> Result<Lsn, DecodeError> {
        self.to.get().checked_sub(bytes).map(Lsn::new).ok_or(range(what, bytes))
    }
}

fn commit_point(r: &mut Reader<'_>) -> Result<CommitPoint, DecodeError> {
    let (tx, lsn) = (TxId::new(r.varint("last commit")?), Lsn::new(r.varint("last commit")?));
    Ok(CommitPoint { tx, lsn, time: Timestamp::from_micros(r.i64("last commit")?) })
}

fn partitions(r: &mut Reader<'_>) -> Result<Vec<PartitionId>, DecodeError> {
    let count = r.count(1, "partitions")?;
    let mut partitions: Vec<PartitionId> = Vec::with_capacity(count);
    for _ in 0..count {
        let partition = PartitionId::new(u32_of(r.varint("partition")?, "partition")?);
        if partitions.last().is_some_and(|last| *last >= partition) {
            return Err(range("partition", partition.get()));
        }
        partitions.push(partition);
    }
    Ok(partitions)
}

fn gap_reason(raw: u8) -> Result<GapReason, DecodeError> {
    const ALL: [GapReason; 5] = [
        GapReason::LogRestarted,
        GapReason::SourceReplaced,
        GapReason::StateLost,
        GapReason::LogFull,
        GapReason::ShapeChanged,
    ];
    ALL.into_iter().find(|reason| *reason as u8 == raw).ok_or(range("gap reason", raw))
}

fn forward(from: Lsn, bytes: u64) -> Result<Lsn, DecodeError> {
    from.checked_add(bytes).ok_or(range("position", bytes))
}

fn u32_of(value: u64, what: &'static str) -> Result<u32, DecodeError> {
    u32::try_from(value).map_err(|_| range(what, value))
}

fn range(what: &'static str, value: impl Into<u64>) -> DecodeError {
    DecodeError::Range { what, value: value.into() }
}
