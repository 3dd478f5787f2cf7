//! Assigns positions to records: the pure half of the log's writer.
//!
//! [`Layout`] knows the end of the log, but no files, threads or clocks. It places records one
//! after the other into an open batch and emits the writer's work as [`Step`]s, in order. Assigned
//! positions are final.
//!
//! # Invariants
//! - A batch never crosses the end of its segment, and its body never exceeds
//!   [`BATCH_BODY_BYTES_MAX`].
//! - A payload of up to [`FRAGMENT_BYTES_MIN`] is never divided. A larger one may be, into parts of
//!   at least that size except for the last.
//! - A stamp is never earlier than any earlier stamp.

use super::builder::{BatchBuilder, Pushed};
use super::end::End;
use crate::{Error, Result};
use pitr_format::index::SegmentIndex;
use pitr_format::log::{
    BATCH_ALIGN, BATCH_BODY_BYTES_MAX, BATCH_HEADER_BYTES, BatchHeader, Frame, Part, RECORD_HEADER_BYTES,
    SEGMENT_HEADER_BYTES, Seed, SegmentHeader,
};
use pitr_format::record::{
    CHECKPOINT_BEFORE_OFFSET, COMMIT_FIRST_LSN_OFFSET, COMMIT_TIME_OFFSET, RecordKind,
};
use pitr_format::{Lsn, TimelineId, Timestamp, TxId};

/// Maximum number of buffers kept for later batches.
const BUFFERS_MAX: usize = 8;
/// Smallest part of a payload that gets its own frame, bytes.
const FRAGMENT_BYTES_MIN: usize = 512;
/// Offset of the earliest time within a commit's payload, between its time and its first LSN.
const COMMIT_EARLIEST_OFFSET: usize = COMMIT_TIME_OFFSET + 8;

/// The positions of appended records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// Position of the first record; the end of the log for an empty builder.
    pub first: Lsn,
    /// End of the last record.
    pub end: Lsn,
    /// The commits among these records, in order.
    pub commits: Vec<Committed>,
}

/// A commit and its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// The transaction.
    pub tx: TxId,
    /// LSN of the commit: the end of the commit record. The commit is durable once the log's
    /// durable LSN reaches it.
    pub lsn: Lsn,
    /// The time in the commit record.
    pub time: Timestamp,
}

/// A step of the writer.
#[derive(Debug)]
pub(crate) enum Step {
    /// Write a batch into the current segment.
    Write(Placed),
    /// Sync the current segment, then begin the next one; its header holds the index of the current
    /// one.
    Begin(SegmentHeader, SegmentIndex),
}

/// A batch and its position. Writing it fills in checksums and the durable point.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) lsn: Lsn,
    prev: Lsn,
    time: Timestamp,
    frames: u32,
    /// Header (still empty), body, padding.
    bytes: Vec<u8>,
    body_len: u32,
}

impl Placed {
    /// The bytes to write: header, body and padding.
    pub(crate) fn finish(&mut self, seed: Seed, durable: Lsn) -> &[u8] {
        let body = &self.bytes[BATCH_HEADER_BYTES..BATCH_HEADER_BYTES + self.body_len as usize];
        let header = BatchHeader {
            lsn: self.lsn,
            prev: self.prev,
            durable,
            time: self.time,
            body_len: self.body_len,
            frames: self.frames,
            body_crc: seed.crc(body),
        };
        self.bytes[..BATCH_HEADER_BYTES].copy_from_slice(&header.encode(seed));
        &self.bytes
    }

    /// The batch's memory, to be reused for another batch.
    pub(crate) fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }
}

#[derive(Debug)]
struct OpenBatch {
    lsn: Lsn,
    /// Room for the header, then the body so far.
    bytes: Vec<u8>,
    frames: u32,
    /// Largest length of `bytes`.
    bytes_max: usize,
}

/// Assigns positions to records, after the end of a log.
#[derive(Debug)]
pub(crate) struct Layout {
    end: End,
    /// Index of the current segment.
    index: SegmentIndex,
    /// The segment that begins with the next batch, with the index of its predecessor; `None` if
    /// the segment has already begun.
    to_begin: Option<(SegmentHeader, SegmentIndex)>,
    open: Option<OpenBatch>,
    steps: Vec<Step>,
    /// Memory of written batches, to be reused: allocating costs more than copying into it.
    buffers: Vec<Vec<u8>>,
    /// Bytes that wait in `open` and `steps`.
    waiting_bytes: usize,
}

impl Layout {
    /// Continues at `end`, in a segment whose earlier batches `index` describes.
    pub(crate) fn new(end: End, index: SegmentIndex) -> Self {
        let (open, steps, buffers) = (None, Vec::new(), Vec::new());
        Layout { end, index, to_begin: None, open, steps, buffers, waiting_bytes: 0 }
    }

    /// Continues at `end`, in the segment with this header, which is created for its first batch.
    /// `before` is the index of its predecessor.
    pub(crate) fn beginning(end: End, header: SegmentHeader, before: SegmentIndex) -> Self {
        Layout { to_begin: Some((header, before)), ..Layout::new(end, SegmentIndex::default()) }
    }

    /// Start of the next batch if nothing more is placed; the end of the previous segment while the
    /// next one waits for its first batch.
    pub(crate) fn end(&self) -> Lsn {
        match (&self.open, &self.to_begin) {
            (Some(open), _) => aligned(open.lsn, open.bytes.len()),
            (None, Some((header, _))) => header.follows.end,
            (None, None) => self.end.next,
        }
    }

    /// No later record starts before this position. Unlike [`Layout::end`] it is exact within an
    /// open batch, where the next record follows without padding.
    pub(crate) fn placed_to(&self) -> Lsn {
        self.open.as_ref().map_or_else(|| self.end(), |open| at(open.lsn, open.bytes.len()))
    }

    pub(crate) fn time(&self) -> Timestamp {
        self.end.time
    }

    /// Timeline and identity of the log.
    pub(crate) fn identity(&self) -> (TimelineId, [u8; 16]) {
        (self.end.timeline, self.end.log_id)
    }

    /// True if the writer has something to do.
    pub(crate) fn has_work(&self) -> bool {
        self.open.is_some() || !self.steps.is_empty()
    }

    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Takes the pending steps.
    pub(crate) fn take(&mut self) -> Vec<Step> {
        self.close();
        self.waiting_bytes = 0;
        std::mem::take(&mut self.steps)
    }

    /// Takes back the memory of written batches.
    pub(crate) fn give_back(&mut self, buffers: impl Iterator<Item = Vec<u8>>) {
        let room = BUFFERS_MAX.saturating_sub(self.buffers.len());
        self.buffers.extend(buffers.take(room));
    }

    /// Assigns every record its position and every commit its time, and empties the builder. After
    /// an error nothing has changed. Reads the clock only if there is a commit.
    ///
    /// # Errors
    /// [`Error::Exhausted`]; [`Error::FirstAhead`].
    pub(crate) fn place(
        &mut self,
        builder: &mut BatchBuilder,
        now: impl FnOnce() -> Timestamp,
    ) -> Result<Appended> {
        self.check_room(builder)?;
        self.check_firsts(builder)?;
        let mut appended = Appended { first: self.end(), end: self.end(), commits: Vec::new() };
        let BatchBuilder { payloads, records, .. } = builder;
        let mut before = self.end.time;
        if records.iter().any(|record| record.kind == RecordKind::Commit) {
            self.end.time = self.end.time.max(now());
        }
        for index in 0..records.len() {
            let payload = &mut payloads[records[index].payload.clone()];
            records[index].lsn = self.make_room(payload.len());
            let record = &records[index];
            if let Some(time) = record.watermark {
                self.end.time = self.end.time.max(time);
                before = before.max(time);
            }
            if let Some(decides) = record.decides {
                let first = records[decides.first].lsn;
                put_first(record.kind, payload, decides.given_first.map_or(first, |given| given.min(first)));
            }
            if record.kind == RecordKind::Commit {
                self.index.commit(record.tx);
                stamp(payload, self.end.time, record.decides.filter(|d| d.stamps_earliest).map(|_| before));
                before = self.end.time;
            }
            if record.kind == RecordKind::Checkpoint {
                // Before the record is written: the next segment may begin within it.
                put_before(payload, self.end.checkpoint.replace(record.lsn));
            }
            appended.end = self.put(record, payload);
            if record.kind == RecordKind::Commit {
                let (tx, time) = (record.tx, self.end.time);
                appended.commits.push(Committed { tx, lsn: appended.end, time });
            }
        }
        appended.first = records.first().map_or(appended.first, |record| record.lsn);
        builder.clear();
        Ok(appended)
    }

    /// Ends the segment and skips the next one: the hole in the positions is the gap. Returns where
    /// the log continues.
    pub(crate) fn skip(&mut self) -> Result<Lsn> {
        let segment_bytes = u64::from(self.end.size.bytes());
        self.check_bytes(3 * segment_bytes)?;
        self.roll(true);
        Ok(self.end.next)
    }

    /// Fails if `builder` might not fit before the end of the LSN range. Never
    /// estimates too little.
    fn check_room(&self, builder: &BatchBuilder) -> Result<()> {
        let payloads = builder.payloads.len() as u64;
        let frames = (builder.records.len() as u64) * (RECORD_HEADER_BYTES as u64);
        let segment_bytes = u64::from(self.end.size.bytes());
        // Unused parts of a segment: its header, and at its end less than one small frame and a
        // batch header. Together less than half of the smallest segment.
        self.check_bytes(2 * (payloads + frames) + 4 * segment_bytes)
    }

    /// Fails if the engine passed a first LSN after the end of the log: the commit would not cover
    /// the transaction's records, and they would be lost silently.
    fn check_firsts(&self, builder: &BatchBuilder) -> Result<()> {
        let end = self.end();
        match builder.given_first.filter(|(first, _)| *first > end) {
            Some((first, tx)) => Err(Error::FirstAhead { tx, first, end }),
            None => Ok(()),
        }
    }

    fn check_bytes(&self, bytes: u64) -> Result<()> {
        let end = self.end();
        end.checked_add(bytes).map(drop).ok_or(Error::Exhausted { end, bytes })
    }

    /// Opens a batch with room for a payload of `len` bytes, or for a part that is large enough.
    /// Returns the position of its frame.
    fn make_room(&mut self, len: usize) -> Lsn {
        let needed = RECORD_HEADER_BYTES + len.min(FRAGMENT_BYTES_MIN);
        if let Some(open) = &self.open {
            if open.bytes.len() + needed <= open.bytes_max {
                return at(open.lsn, open.bytes.len());
            }
            self.close();
        }
        if self.end.left_in_segment() < (BATCH_HEADER_BYTES + needed) as u64 {
            self.roll(false);
        }
        let body_bytes_max =
            (self.end.left_in_segment() - BATCH_HEADER_BYTES as u64).min(BATCH_BODY_BYTES_MAX.into());
        let bytes_max = BATCH_HEADER_BYTES + body_bytes_max as usize;
        self.begin_segment();
        let lsn = self.end.next;
        self.index.begin_batch(self.end.size.offset_of(lsn), self.end.size);
        let mut bytes = self.buffers.pop().unwrap_or_default();
        bytes.clear();
        bytes.resize(BATCH_HEADER_BYTES, 0);
        self.open = Some(OpenBatch { lsn, bytes, frames: 0, bytes_max });
        at(lsn, BATCH_HEADER_BYTES)
    }

    /// Writes the frames of a record for which there is room. Returns the end of the last one.
    fn put(&mut self, record: &Pushed, payload: &[u8]) -> Lsn {
        let total_len = payload.len() as u32; // at most RECORD_BYTES_MAX, see the builder
        let mut rest = payload;
        loop {
            let lsn = self.make_room(rest.len());
            let open = self.open.as_mut().expect("make_room leaves a batch open");
            let room = open.bytes_max - open.bytes.len() - RECORD_HEADER_BYTES;
            let (bytes, left) = rest.split_at(rest.len().min(room));
            let part = match (rest.len() == payload.len(), left.is_empty()) {
                (true, true) => Part::Full,
                (true, false) => Part::First,
                (false, false) => Part::Middle,
                (false, true) => Part::Last,
            };
            let (kind, partition, tx) = (record.kind as u8, record.partition, record.tx);
            let frame = Frame { lsn, kind, part, partition, tx, total_len, bytes };
            frame.encode(&mut open.bytes);
            open.frames += 1;
            self.waiting_bytes += RECORD_HEADER_BYTES + bytes.len();
            if left.is_empty() {
                return frame.end();
            }
            rest = left;
        }
    }

    fn close(&mut self) {
        let Some(OpenBatch { lsn, mut bytes, frames, .. }) = self.open.take() else { return };
        let body_len = (bytes.len() - BATCH_HEADER_BYTES) as u32;
        bytes.resize(bytes.len().next_multiple_of(BATCH_ALIGN as usize), 0);
        let (prev, time) = (self.end.last_batch, self.end.time);
        self.end.next = at(lsn, bytes.len());
        self.end.last_batch = lsn;
        self.index.set_time(time);
        self.steps.push(Step::Write(Placed { lsn, prev, time, frames, bytes, body_len }));
    }

    /// Begins the segment that waits for its first batch, if there is one.
    fn begin_segment(&mut self) {
        self.steps.extend(self.to_begin.take().map(|(header, before)| Step::Begin(header, before)));
    }

    /// Ends the segment and begins the next one; with `gap`, the one after the next.
    fn roll(&mut self, gap: bool) {
        self.close();
        self.begin_segment();
        let header =
            self.end.next_segment(gap, self.end.incarnation).expect("place and skip left room for it");
        self.end.segment = header.segment;
        self.end.next = header.first_batch().expect("place and skip left room for it");
        self.steps.push(Step::Begin(header, std::mem::take(&mut self.index)));
    }
}

/// Stamps a commit's payload. Its earliest time is the engine's, or `unknown`, but never later than
/// its time.
fn stamp(payload: &mut [u8], time: Timestamp, unknown: Option<Timestamp>) {
    let earliest = &mut payload[COMMIT_EARLIEST_OFFSET..COMMIT_FIRST_LSN_OFFSET];
    let given = i64::from_le_bytes(earliest.try_into().expect("the range is eight bytes long"));
    let given = unknown.map_or(given, Timestamp::micros);
    earliest.copy_from_slice(&given.min(time.micros()).to_le_bytes());
    payload[COMMIT_TIME_OFFSET..COMMIT_EARLIEST_OFFSET].copy_from_slice(&time.micros().to_le_bytes());
}

/// Puts the position of the transaction's first record into the payload of a commit or an abort.
fn put_first(kind: RecordKind, payload: &mut [u8], first: Lsn) {
    let offset = if kind == RecordKind::Commit { COMMIT_FIRST_LSN_OFFSET } else { 0 };
    payload[offset..offset + 8].copy_from_slice(&first.get().to_le_bytes());
}

/// Puts the position of the previous checkpoint into the payload of a checkpoint.
fn put_before(payload: &mut [u8], before: Option<Lsn>) {
    let field = CHECKPOINT_BEFORE_OFFSET..CHECKPOINT_BEFORE_OFFSET + 8;
    payload[field].copy_from_slice(&before.unwrap_or(Lsn::ORIGIN).get().to_le_bytes());
}

/// The position `bytes` after `lsn`. `check_room` made sure that it exists.
fn at(lsn: Lsn, bytes: usize) -> Lsn {
    Lsn::new(lsn.get() + bytes as u64)
}

fn aligned(lsn: Lsn, bytes: usize) -> Lsn {
    at(lsn, bytes.next_multiple_of(BATCH_ALIGN as usize))
}

const _: () = assert!(SEGMENT_HEADER_BYTES.is_multiple_of(BATCH_ALIGN));
