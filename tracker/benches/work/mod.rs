//! Work that both benches share: marks and deltas of 100 GB, and simple implementations as their
//! bounds.

use pitr_format::log::{Assembler, Batch, BatchHeader, Frame, Part, Seed};
use pitr_format::record::Record;
use pitr_format::{FileId, Incarnation, Lsn, PartitionId, SegmentNo, TimelineId, Timestamp, TxId};
use pitr_tracker::{BlockSize, Extractor, LsnRange, PAGE_BLOCKS, Tracker};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub(crate) const FILE: FileId = FileId::FIRST;
pub(crate) const SIZE: BlockSize = BlockSize::DEFAULT;
/// Number of blocks in 100 GB.
pub(crate) const BLOCKS: u64 = 100_000_000_000 / 4096;
/// Number of marks per timing.
pub(crate) const ROUND: u64 = 1 << 16;

/// Maps `nth` to a block anywhere in the file. The order looks random but is reproducible.
pub(crate) fn scatter(nth: u64) -> u64 {
    nth.wrapping_mul(0x9e37_79b9_7f4a_7c15) % BLOCKS
}

/// The blocks that a round marks.
pub(crate) fn orders() -> [(&'static str, Vec<u64>); 2] {
    [("in a row", (1_000_000..1_000_000 + ROUND).collect()), ("scattered", (0..ROUND).map(scatter).collect())]
}

/// Marks the blocks in one pass.
pub(crate) fn mark(tracker: &Tracker, blocks: impl IntoIterator<Item = u64>) {
    let pass = tracker.enter();
    let marks = pass.file(FILE, SIZE);
    blocks.into_iter().for_each(|block| marks.mark(black_box(block)));
    pass.done(Lsn::ORIGIN);
}

/// Creates a tracker in which all of 100 GB are marked.
pub(crate) fn full() -> Tracker {
    let tracker = Tracker::new(Lsn::ORIGIN);
    mark(&tracker, 0..BLOCKS);
    tracker
}

/// Begins an epoch in which every page exists and has one bit set.
pub(crate) fn begin_epoch(tracker: &Tracker) {
    tracker.freeze(|| Lsn::ORIGIN).expect("a freeze");
    mark(tracker, (0..BLOCKS).step_by(PAGE_BLOCKS as usize));
}

/// The bound of a mark: one flat slice of the same number of bits, which cannot grow.
pub(crate) struct Flat(Vec<AtomicU64>);

impl Flat {
    pub(crate) fn new() -> Self {
        Flat((0..BLOCKS.div_ceil(64)).map(|_| AtomicU64::new(u64::MAX)).collect())
    }

    pub(crate) fn clear(&self) {
        self.0.iter().for_each(|word| word.store(0, Relaxed));
    }

    pub(crate) fn mark(&self, blocks: impl IntoIterator<Item = u64>) {
        for block in blocks {
            let block = black_box(block);
            let (word, mask) = (&self.0[(block / 64) as usize], 1 << (block % 64));
            if word.load(Relaxed) & mask == 0 {
                word.fetch_or(mask, Relaxed);
            }
        }
    }
}

/// Content of the logs of [`log`].
#[derive(Debug, Clone, Copy)]
pub(crate) enum Content {
    /// Images of scattered blocks, of this many bytes.
    Images(usize),
    /// Records of an engine, of this many bytes. They change no block.
    Data(usize),
}

impl Content {
    fn payload(self, nth: u64) -> (u8, Vec<u8>) {
        let (bytes, mut payload) = (vec![7; 4096], Vec::new());
        let record = match self {
            Content::Images(len) => Record::Image { file: FILE, block: scatter(nth), data: &bytes[..len] },
            Content::Data(len) => Record::Data(&bytes[..len]),
        };
        record.encode(&mut payload);
        (record.kind() as u8, payload)
    }
}

/// Builds a log of this many bytes in memory, in batches of about 1 MiB.
pub(crate) fn log(bytes: usize, content: Content) -> Vec<u8> {
    let seed = Seed::new(TimelineId::FIRST, SegmentNo::FIRST, Incarnation::FIRST);
    let (mut out, mut last, mut nth) = (vec![0; 8], Lsn::ORIGIN, 0);
    while out.len() < bytes {
        let (mut body, mut frames) = (Vec::new(), 0);
        loop {
            let (kind, payload) = content.payload(nth);
            if body.len() + payload.len() + 24 > 1 << 20 {
                break;
            }
            let frame = Frame {
                lsn: Lsn::ORIGIN,
                kind,
                part: Part::Full,
                partition: PartitionId::FIRST,
                tx: TxId::FIRST,
                total_len: payload.len() as u32,
                bytes: &payload,
            };
            frame.encode(&mut body);
            (nth, frames) = (nth + 1, frames + 1);
        }
        let lsn = Lsn::new(out.len() as u64);
        let header = BatchHeader {
            lsn,
            prev: last,
            durable: lsn,
            time: Timestamp::MIN,
            body_len: body.len() as u32,
            frames,
            body_crc: seed.crc(&body),
        };
        out.extend(header.encode(seed));
        out.append(&mut body);
        out.resize(out.len().next_multiple_of(8), 0);
        last = lsn;
    }
    out
}

/// Reads the log with every check of the format and, if `extracting`, collects the changes. The
/// bound is to read only.
pub(crate) fn extract(log: &[u8], extracting: bool) -> u64 {
    let seed = Seed::new(TimelineId::FIRST, SegmentNo::FIRST, Incarnation::FIRST);
    let whole = LsnRange::new(Lsn::ORIGIN, Lsn::MAX).expect("a range");
    let (mut extractor, mut assembler) = (Extractor::new(whole), Assembler::new());
    let (mut at, mut bytes) = (8, 0);
    while at < log.len() {
        let batch = Batch::decode(&log[at..], seed).expect("a batch");
        for frame in batch.frames() {
            let record = assembler.push(&frame.expect("a frame")).expect("in order").expect("whole");
            bytes += record.payload.len() as u64;
            if extracting {
                extractor.push(&record).expect("a record");
            }
        }
        at += batch.header.span() as usize;
    }
    let changes = extractor.finish(whole).expect("all of it");
    bytes + changes.set.blocks(FILE, SIZE, BLOCKS * 4096).count() as u64
}
