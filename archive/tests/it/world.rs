//! A source with known states: random transactions on a real log, and a model of the files.

use pitr_archive::{Archive, ForkReason, ShipOptions, Shipper, Timeline, Writer};
use pitr_format::record::Record;
use pitr_format::{FileId, Lsn, PartitionId, SegmentSize, SourceName, TimelineId, Timestamp, TxId};
use pitr_objects::Objects;
use pitr_vfs::{Clock, Env};
use pitr_wal::{BatchBuilder, Start, Wal, WalOptions};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

pub(crate) const BLOCK: usize = 512;
pub(crate) const LOG_ID: [u8; 16] = *b"the log of tests";

/// A clock that the test sets.
#[derive(Debug, Default)]
pub(crate) struct TestClock(pub(crate) AtomicI64);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

/// Small, fast and the same on every machine (Vigna's splitmix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides.max(1)
    }
}

pub(crate) type Files = BTreeMap<FileId, Vec<u8>>;

/// The state after a commit.
#[derive(Debug, Clone)]
pub(crate) struct State {
    pub(crate) lsn: Lsn,
    pub(crate) tx: TxId,
    pub(crate) time: Timestamp,
    /// First LSN of the log that a restore from this state needs.
    pub(crate) redo_from: Lsn,
    pub(crate) files: Files,
}

#[derive(Debug, Clone)]
enum Op {
    Image { file: FileId, block: u64, fill: u8 },
    SetLength { file: FileId, len: u64 },
}

#[derive(Debug)]
struct Open {
    tx: TxId,
    first: Lsn,
    ops: Vec<Op>,
    blocks: BTreeSet<(FileId, u64)>,
    /// The files whose lengths the transaction changes: no other transaction touches them.
    owns: BTreeSet<FileId>,
}

pub(crate) struct World {
    pub(crate) clock: Arc<TestClock>,
    pub(crate) wal: Wal,
    pub(crate) archive: Archive,
    pub(crate) shipper: Shipper,
    pub(crate) states: Vec<State>,
    pub(crate) aborted: u64,
    dice: Dice,
    open: Vec<Open>,
    files: Files,
    file_count: u64,
    next_tx: u64,
    reuse: Option<u64>,
}

pub(crate) fn options(object_bytes: u32, frame_bytes: u32) -> ShipOptions {
    ShipOptions { object_bytes, frame_bytes, ..ShipOptions::default() }
}

pub(crate) fn first_timeline(time: i64) -> Timeline {
    let created = Timestamp::from_micros(time);
    Timeline {
        parent: None,
        fork: Lsn::ORIGIN,
        reason: ForkReason::First,
        created,
        ambiguous: None,
        root: None,
    }
}

pub(crate) fn create_wal(
    dir: &Path,
    clock: &Arc<TestClock>,
    timeline: TimelineId,
    follows: Lsn,
    gap: bool,
) -> Wal {
    let segment_size = SegmentSize::new(16 << 10).unwrap();
    let start = Start { timeline, segment_size, follows, time: clock.now(), log_id: LOG_ID, gap };
    let options = WalOptions::default();
    Wal::create(&Env::system().with_clock(Arc::clone(clock) as Arc<dyn Clock>), dir, &start, &options)
        .unwrap()
}

pub(crate) fn archive(dir: &Path, source: &str) -> Archive {
    let objects = Objects::create_local(dir.join("repo")).unwrap();
    Archive::new(objects, SourceName::new(source).unwrap())
}

impl World {
    pub(crate) fn new(dir: &Path, seed: u64, file_count: u64, options: ShipOptions) -> World {
        let clock = Arc::new(TestClock(AtomicI64::new(1_000_000)));
        let archive = archive(dir, "app");
        let writer = Writer::claim(&archive, clock.now()).unwrap();
        let timeline = writer.claim_timeline(&first_timeline(1_000_000)).unwrap();
        let wal = create_wal(&dir.join("log"), &clock, timeline, Lsn::ORIGIN, false);
        let catalog = archive.catalog().unwrap();
        let shipper = Shipper::new(writer, &catalog, &wal, timeline, LOG_ID, options).unwrap();
        World {
            clock,
            wal,
            archive,
            shipper,
            states: Vec::new(),
            aborted: 0,
            dice: Dice(seed),
            open: Vec::new(),
            files: Files::new(),
            file_count,
            next_tx: 1,
            reuse: None,
        }
    }

    /// Performs `steps` random operations, ships at random moments, and ships the rest at the end.
    pub(crate) fn live(&mut self, steps: usize) {
        for _ in 0..steps {
            self.step();
        }
        self.wal.sync().unwrap();
        self.shipper.ship(&self.wal).unwrap();
        while self.shipper.compactor().compact().unwrap().is_some() {}
    }

    fn step(&mut self) {
        self.clock.0.fetch_add(self.dice.roll(3) as i64 * 1000, Ordering::Relaxed);
        match self.dice.roll(21) {
            0..9 => self.write(),
            9..11 => self.set_length(),
            11..15 => self.commit(),
            15 => self.abort(),
            16 => {
                let mut builder = BatchBuilder::new();
                let record = Record::Watermark(self.clock.now());
                builder.push(PartitionId::FIRST, TxId::NONE, &record).unwrap();
                self.wal.append(builder).unwrap();
            }
            17 => drop(self.wal.sync().unwrap()),
            18 => drop(self.shipper.compactor().compact().unwrap()),
            _ => drop(self.shipper.ship(&self.wal).unwrap()),
        }
    }

    fn tx(&mut self) -> usize {
        if self.open.is_empty() || (self.open.len() < 3 && self.dice.roll(4) == 0) {
            // The number of an aborted transaction may be reused.
            let tx = TxId::new(self.reuse.take().unwrap_or(self.next_tx));
            self.next_tx = self.next_tx.max(tx.get() + 1);
            let (blocks, ops) = (BTreeSet::new(), Vec::new());
            self.open.push(Open { tx, first: Lsn::MAX, ops, blocks, owns: BTreeSet::new() });
        }
        self.dice.roll(self.open.len() as u64) as usize
    }

    fn append(&mut self, at: usize, ops: Vec<Op>) {
        let open = &mut self.open[at];
        let mut builder = BatchBuilder::new();
        for op in &ops {
            let data;
            let record = match *op {
                Op::Image { file, block, fill } => {
                    data = content(file, block, fill);
                    Record::Image { file, block, data: &data }
                }
                Op::SetLength { file, len } => Record::SetLength { file, len },
            };
            builder.push(PartitionId::FIRST, open.tx, &record).unwrap();
        }
        let appended = self.wal.append(builder).unwrap();
        open.first = open.first.min(appended.first);
        open.ops.extend(ops);
    }

    fn write(&mut self) {
        let at = self.tx();
        let mut ops = Vec::new();
        for _ in 0..=self.dice.roll(12) {
            let file = FileId::new(self.dice.roll(self.file_count) as u32);
            let block = self.dice.roll(40);
            let taken = |other: &Open| other.blocks.contains(&(file, block)) || other.owns.contains(&file);
            if self.open.iter().enumerate().any(|(no, other)| no != at && taken(other)) {
                continue;
            }
            self.open[at].blocks.insert((file, block));
            ops.push(Op::Image { file, block, fill: self.dice.roll(256) as u8 });
        }
        if !ops.is_empty() {
            self.append(at, ops);
        }
    }

    fn set_length(&mut self) {
        let at = self.tx();
        let file = FileId::new(self.dice.roll(self.file_count) as u32);
        let touches =
            |other: &Open| other.owns.contains(&file) || other.blocks.iter().any(|(f, _)| *f == file);
        if self.open.iter().enumerate().any(|(no, other)| no != at && touches(other)) {
            return;
        }
        self.open[at].owns.insert(file);
        // The length need not be a multiple of the block size.
        let len = self.dice.roll(40) * BLOCK as u64 + self.dice.roll(2) * self.dice.roll(BLOCK as u64);
        self.append(at, vec![Op::SetLength { file, len }]);
    }

    /// Takes one of the open transactions, if it did something.
    fn end_one(&mut self) -> Option<Open> {
        if self.open.is_empty() {
            return None;
        }
        let at = self.dice.roll(self.open.len() as u64) as usize;
        (!self.open[at].ops.is_empty()).then(|| self.open.swap_remove(at))
    }

    fn commit(&mut self) {
        let Some(open) = self.end_one() else { return };
        let earliest = Timestamp::from_micros(self.clock.now().micros() - 10);
        let mut builder = BatchBuilder::new();
        builder.push_commit(PartitionId::FIRST, open.tx, Some(earliest), Some(open.first), b"note").unwrap();
        let done = self.wal.append(builder).unwrap().commits[0];
        open.ops.iter().for_each(|op| apply(&mut self.files, op));
        let redo_from = self.open.iter().map(|open| open.first).fold(done.lsn, Lsn::min);
        let files = self.files.clone();
        self.states.push(State { lsn: done.lsn, tx: done.tx, time: done.time, redo_from, files });
    }

    fn abort(&mut self) {
        let Some(open) = self.end_one() else { return };
        let mut builder = BatchBuilder::new();
        builder.push(PartitionId::FIRST, open.tx, &Record::Abort { first_lsn: open.first }).unwrap();
        self.wal.append(builder).unwrap();
        self.aborted += 1;
        if self.dice.roll(2) == 0 {
            self.reuse = Some(open.tx.get());
        }
    }
}

/// Commits one transaction of block images and, if given, a length.
pub(crate) fn commit(wal: &Wal, tx: u64, blocks: &[(u64, u8)], len: Option<u64>) -> pitr_wal::Committed {
    let mut builder = BatchBuilder::new();
    let (file, tx) = (FileId::FIRST, TxId::new(tx));
    for (block, fill) in blocks {
        let data = content(file, *block, *fill);
        builder.push(PartitionId::FIRST, tx, &Record::Image { file, block: *block, data: &data }).unwrap();
    }
    if let Some(len) = len {
        builder.push(PartitionId::FIRST, tx, &Record::SetLength { file, len }).unwrap();
    }
    builder.push_commit(PartitionId::FIRST, tx, Some(Timestamp::MAX), None, b"").unwrap();
    wal.commit(builder).unwrap().commits[0]
}

pub(crate) fn content(file: FileId, block: u64, fill: u8) -> Vec<u8> {
    let mut data = vec![fill; BLOCK];
    data[0] = file.get() as u8;
    data[1..9].copy_from_slice(&block.to_le_bytes());
    data
}

fn apply(files: &mut Files, op: &Op) {
    match *op {
        Op::Image { file, block, fill } => {
            let (bytes, at) = (files.entry(file).or_default(), block as usize * BLOCK);
            bytes.resize(bytes.len().max(at + BLOCK), 0);
            bytes[at..at + BLOCK].copy_from_slice(&content(file, block, fill));
        }
        Op::SetLength { file, len } => files.entry(file).or_default().resize(len as usize, 0),
    }
}
