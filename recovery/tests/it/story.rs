//! A random history on a log and a repository in memory, with the model of its files.
//!
//! It has block images, set-lengths and logical records, in the same transactions. Transactions
//! abort, stay open, change several partitions, and interleave in a block, a page and a partition.
//! Processes end and begin again, numbers are used again, clocks jump. The seed decides everything.

use crate::lab::meta;
use crate::ledger::{CELLS, Cell, Change, FIRST_CELLS, PAGE, is_cells, name, shown};
use pitr_archive::{Archive, ForkReason, ShipOptions, Shipper, Timeline, Writer};
use pitr_codec::Codec;
use pitr_dedup::ChunkStore;
use pitr_format::record::Record;
use pitr_format::{FileId, Lsn, PartitionId, SegmentSize, SourceName, TimelineId, Timestamp, TxId};
use pitr_objects::{Location, Objects};
use pitr_snapshot::{BlockSource, BoxError, FileShape, SnapshotMeta, write_full};
use pitr_vfs::Env;
use pitr_vfs::sim::{Rng, SimClock, SimFs};
use pitr_wal::{BatchBuilder, Start, Wal, WalOptions};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

pub(crate) const BLOCK: usize = PAGE;
/// Pages of a file of cells.
const PAGES: u64 = 2;
/// Number of files of cells.
const CELL_FILES: u64 = 3;
const LOG: &str = "/log";

pub(crate) type Files = BTreeMap<FileId, Vec<u8>>;

/// The state after a commit.
#[derive(Debug, Clone)]
pub(crate) struct State {
    pub(crate) lsn: Lsn,
    pub(crate) tx: TxId,
    pub(crate) time: Timestamp,
    /// First LSN that a replay over this state needs.
    redo_from: Lsn,
    pub(crate) files: Files,
}

/// A path of timelines.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) timeline: TimelineId,
    pub(crate) states: Vec<State>,
    /// Times that the clock showed twice: first and last of each span.
    pub(crate) twice: Vec<(Timestamp, Timestamp)>,
    /// Positions of the records that state them.
    stated: Vec<Lsn>,
}

/// A snapshot.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    pub(crate) timeline: TimelineId,
    pub(crate) redo_from: Lsn,
    pub(crate) lsn: Lsn,
    pub(crate) time: Timestamp,
    pub(crate) tx: TxId,
    pub(crate) files: Files,
}

impl Taken {
    pub(crate) fn meta(&self, archive: &Archive) -> SnapshotMeta {
        let Taken { timeline, redo_from, lsn, time, tx, .. } = *self;
        SnapshotMeta { timeline, ..meta(archive, redo_from, lsn, time, tx) }
    }
}

impl BlockSource for Taken {
    fn files(&self) -> Vec<FileShape> {
        let shape = |(file, bytes): (&FileId, &Vec<u8>)| {
            let (name, len) = (name(*file), bytes.len() as u64);
            FileShape { file: *file, name, len, block_bytes: BLOCK as u32 }
        };
        self.files.iter().map(shape).collect()
    }

    fn read_at(&self, file: FileId, offset: u64, buf: &mut [u8]) -> Result<(), BoxError> {
        buf.copy_from_slice(&self.files[&file][offset as usize..offset as usize + buf.len()]);
        Ok(())
    }
}

#[derive(Debug, Clone, Copy)]
enum Op {
    Image {
        file: FileId,
        block: u64,
        fill: u8,
    },
    SetLength {
        file: FileId,
        len: u64,
    },
    /// A logical record. The file and its partition have the same number.
    Cells {
        file: FileId,
        change: Change,
    },
}

impl Op {
    /// True if two transactions that are open at the same time must not do both.
    fn conflicts(self, other: Op, locks_cells: bool) -> bool {
        use Op::{Cells, Image, SetLength};
        match (self, other) {
            (Image { file: a, block, .. }, Image { file: b, block: other, .. }) => a == b && block == other,
            (SetLength { file: a, .. }, Image { file: b, .. } | SetLength { file: b, .. })
            | (Image { file: a, .. }, SetLength { file: b, .. }) => a == b,
            (Cells { file: a, change }, Cells { file: b, change: other }) => {
                let own: Vec<Cell> = change.effects(a).map(|(cell, _)| cell).collect();
                locks_cells && other.effects(b).any(|(cell, _)| own.contains(&cell))
            }
            _ => false,
        }
    }

    fn apply(self, files: &mut Files, commit: Lsn) {
        match self {
            Op::Image { file, block, fill } => {
                let (content, at) = (files.entry(file).or_default(), block as usize * BLOCK);
                content.resize(content.len().max(at + BLOCK), 0);
                content[at..at + BLOCK].fill(fill);
            }
            Op::SetLength { file, len } => files.entry(file).or_default().resize(len as usize, 0),
            Op::Cells { file, change } => change.apply(file, files, commit),
        }
    }
}

/// The first file that differs. Of a file of cells, only the cells count.
pub(crate) fn differing(found: &Files, wanted: &Files) -> Option<FileId> {
    let of = |files: &Files, file: FileId| {
        let bytes = files.get(&file).map(Vec::as_slice).unwrap_or_default();
        if is_cells(file) { shown(bytes) } else { bytes.to_vec() }
    };
    found.keys().chain(wanted.keys()).copied().find(|file| of(found, *file) != of(wanted, *file))
}

#[derive(Debug)]
struct Open {
    tx: TxId,
    first: Lsn,
    ops: Vec<Op>,
}

pub(crate) struct Story {
    pub(crate) archive: Archive,
    pub(crate) lines: Vec<Line>,
    pub(crate) snapshots: Vec<Taken>,
    rng: Rng,
    clock: Arc<SimClock>,
    env: Env,
    now: i64,
    wal: Option<Wal>,
    shipper: Shipper,
    files: Files,
    open: Vec<Open>,
    next_tx: u64,
    /// Number of a transaction that was aborted or died, to be used again.
    reuse: Option<TxId>,
    /// True if transactions lock the cells that they change.
    locks_cells: bool,
}

/// A machine with an empty disk.
fn env(clock: &Arc<SimClock>, seed: u64, is_inline: bool) -> Env {
    let (fs, clock) = (Arc::new(SimFs::new()), Arc::clone(clock) as Arc<_>);
    if is_inline { Env::simulated(fs, clock, seed) } else { Env::system().with_fs(fs).with_clock(clock) }
}

fn wal_options() -> WalOptions {
    WalOptions { background: false, ..WalOptions::default() }
}

/// A log that continues a history whose last commit is at `follows` and `time`.
fn wal(env: &Env, timeline: TimelineId, follows: Lsn, time: Timestamp) -> Wal {
    let segment_size = SegmentSize::new(SegmentSize::MIN_BYTES).unwrap();
    let log_id = [timeline.get() as u8; 16];
    let start = Start { timeline, segment_size, follows, time, log_id, gap: false };
    Wal::create(env, Path::new(LOG), &start, &wal_options()).unwrap()
}

impl Story {
    /// A short history, in one thread. Some fork.
    pub(crate) fn tell(seed: u64) -> Story {
        let mut story = Story::begin(seed, true, true);
        let steps = 12 + story.rng.below(24);
        story.live(steps);
        if story.rng.once_in(3) {
            story.fork();
            let steps = 12 + story.rng.below(24);
            story.live(steps);
        }
        story
    }

    /// A history without events.
    pub(crate) fn begin(seed: u64, is_inline: bool, locks_cells: bool) -> Story {
        let mut rng = Rng::new(seed);
        let now = 1_000_000;
        let clock = Arc::new(SimClock::new(Timestamp::from_micros(now)));
        let env = env(&clock, seed, is_inline);
        let objects = Objects::open(&Location::Memory, &env).unwrap();
        let archive = Archive::new(objects, SourceName::new("app").unwrap());
        let wal = wal(&env, TimelineId::FIRST, Lsn::ORIGIN, Timestamp::from_micros(now));
        let writer = Writer::claim(&archive, Timestamp::from_micros(now)).unwrap();
        writer.claim_timeline(&Timeline::first(Timestamp::from_micros(now))).unwrap();
        let shipper = shipper(writer, &wal, &mut rng);
        let (states, twice, stated) = (Vec::new(), Vec::new(), Vec::new());
        let line = Line { timeline: TimelineId::FIRST, states, twice, stated };
        Story {
            archive,
            lines: vec![line],
            snapshots: Vec::new(),
            rng,
            clock,
            env,
            now,
            wal: Some(wal),
            shipper,
            files: Files::new(),
            open: Vec::new(),
            next_tx: 1,
            reuse: None,
            locks_cells,
        }
    }

    /// Writes the snapshots to the repository. A restore reads them there.
    pub(crate) fn publish_snapshots(&self) {
        let chunks = ChunkStore::open(self.archive.objects().clone()).unwrap();
        for taken in &self.snapshots {
            let written = write_full(&chunks, taken, taken.meta(&self.archive), None).unwrap();
            written.publish(&chunks).unwrap();
        }
    }

    fn line(&mut self) -> &mut Line {
        self.lines.last_mut().expect("a story has a line")
    }

    pub(crate) fn live(&mut self, steps: u64) {
        for _ in 0..steps {
            match self.rng.below(24) {
                0..9 => self.write(),
                9..11 => self.set_length(),
                11..16 => self.commit(),
                16 => self.abort(),
                17 => self.restart(),
                18 => {
                    let now = Timestamp::from_micros(self.now);
                    self.append(TxId::NONE, &Record::Watermark(now));
                }
                19 => self.jump(),
                20 => self.snapshot(),
                _ => self.ship(),
            }
            self.now += self.rng.below(3) as i64 * 1_000;
            self.clock.set(Timestamp::from_micros(self.now));
        }
        self.ship();
    }

    fn ship(&mut self) {
        self.wal().sync().unwrap();
        let Story { shipper, wal, .. } = self;
        shipper.ship(wal.as_ref().unwrap()).unwrap();
    }

    fn wal(&self) -> &Wal {
        self.wal.as_ref().unwrap()
    }

    /// The process ends and begins again: what is open dies.
    fn restart(&mut self) {
        self.wal().sync().unwrap();
        drop(self.wal.take());
        self.reuse = self.open.drain(..).map(|open| open.tx).min().or(self.reuse);
        self.wal = Some(Wal::open(&self.env, Path::new(LOG), Lsn::ORIGIN, &wal_options()).unwrap().0);
    }

    /// Logs a record that is not logical, in a partition of its own.
    fn append(&mut self, tx: TxId, record: &Record<'_>) -> Lsn {
        let partition = PartitionId::new(self.rng.below(u64::from(FIRST_CELLS)) as u32);
        self.append_in(partition, tx, record)
    }

    fn append_in(&mut self, partition: PartitionId, tx: TxId, record: &Record<'_>) -> Lsn {
        let mut batch = BatchBuilder::new();
        batch.push(partition, tx, record).unwrap();
        let first = self.wal().append(batch).unwrap().first;
        if let Some(open) = self.open.iter_mut().find(|open| open.tx == tx) {
            open.first = open.first.min(first);
        }
        first
    }

    /// Index of an open transaction, which may be new.
    fn transaction(&mut self) -> usize {
        if self.open.is_empty() || (self.open.len() < 3 && self.rng.once_in(3)) {
            let tx = self.reuse.take().unwrap_or(TxId::new(self.next_tx));
            self.next_tx = self.next_tx.max(tx.get() + 1);
            self.open.push(Open { tx, first: Lsn::MAX, ops: Vec::new() });
        }
        self.rng.below(self.open.len() as u64) as usize
    }

    /// Logs a change, unless another open transaction prevents it.
    fn log(&mut self, own: usize, op: Op) {
        let prevents = |other: &Op| op.conflicts(*other, self.locks_cells);
        if self.open.iter().enumerate().any(|(no, open)| no != own && open.ops.iter().any(prevents)) {
            return;
        }
        let tx = self.open[own].tx;
        match op {
            Op::Image { file, block, fill } => {
                self.append(tx, &Record::Image { file, block, data: &[fill; BLOCK] })
            }
            Op::SetLength { file, len } => self.append(tx, &Record::SetLength { file, len }),
            Op::Cells { file, change } => {
                // Some records are larger than a frame of the archive.
                let padding = if self.rng.once_in(30) { self.rng.below(3_000) } else { self.rng.below(20) };
                let payload = change.encode(padding as usize);
                self.append_in(PartitionId::new(file.get()), tx, &Record::Data(&payload))
            }
        };
        self.open[own].ops.push(op);
    }

    fn write(&mut self) {
        let own = self.transaction();
        for _ in 0..=self.rng.below(3) {
            let op = if self.rng.once_in(2) { self.image() } else { self.change() };
            self.log(own, op);
        }
    }

    fn file(&mut self) -> FileId {
        FileId::new(1 + self.rng.below(2) as u32)
    }

    fn image(&mut self) -> Op {
        Op::Image { file: self.file(), block: self.rng.below(6), fill: self.rng.below(256) as u8 }
    }

    fn cell(&mut self) -> Cell {
        let file = FIRST_CELLS + self.rng.below(CELL_FILES) as u32;
        (FileId::new(file), self.rng.below(PAGES * CELLS))
    }

    fn change(&mut self) -> Op {
        let ((file, cell), amount) = (self.cell(), 1 + self.rng.below(1_000) as i64);
        let change = match self.rng.below(12) {
            0 => Change::Move { cell, amount, from: self.cell() },
            1..4 => Change::Set { cell, amount },
            _ => Change::Add { cell, amount },
        };
        Op::Cells { file, change }
    }

    fn set_length(&mut self) {
        let own = self.transaction();
        let (file, len) = (self.file(), self.rng.below(6 * BLOCK as u64));
        self.log(own, Op::SetLength { file, len });
    }

    /// Takes an open transaction that did something.
    fn end_one(&mut self) -> Option<Open> {
        let at = self.rng.below(self.open.len().max(1) as u64) as usize;
        let is_any = self.open.get(at).is_some_and(|open| !open.ops.is_empty());
        is_any.then(|| self.open.swap_remove(at))
    }

    fn commit(&mut self) {
        let Some(open) = self.end_one() else { return };
        let mut batch = BatchBuilder::new();
        let earliest = Some(Timestamp::from_micros(self.now));
        batch.push_commit(PartitionId::new(7), open.tx, earliest, Some(open.first), b"").unwrap();
        let done = self.wal().append(batch).unwrap().commits[0];
        open.ops.iter().for_each(|op| op.apply(&mut self.files, done.lsn));
        let redo_from = self.open.iter().map(|open| open.first).fold(done.lsn, Lsn::min);
        let files = self.files.clone();
        self.line().states.push(State { lsn: done.lsn, tx: done.tx, time: done.time, redo_from, files });
    }

    fn abort(&mut self) {
        let Some(open) = self.end_one() else { return };
        self.append(open.tx, &Record::Abort { first_lsn: open.first });
        self.reuse = self.rng.once_in(2).then_some(open.tx);
    }

    /// The clock is set forwards or back.
    fn jump(&mut self) {
        let from = Timestamp::from_micros(self.now);
        self.now += [50_000, -3_000][self.rng.below(2) as usize];
        let to = Timestamp::from_micros(self.now);
        self.clock.set(to);
        let lsn = self.append(TxId::NONE, &Record::ClockStep { from, to });
        if to < from {
            self.line().twice.push((to, from));
            self.line().stated.push(lsn);
        }
    }

    /// A snapshot that is consistent, or of which each block is of some commit of a span.
    fn snapshot(&mut self) {
        let Some(line) = self.lines.last() else { return };
        let (timeline, states) = (line.timeline, &line.states);
        let Some(newest) = states.last() else { return };
        let begin = states.len() - 1 - self.rng.below(states.len().min(4) as u64) as usize;
        let mut files = states[begin].files.clone();
        for (file, content) in &mut files {
            for (no, block) in content.chunks_mut(BLOCK).enumerate() {
                let of = &states[begin + self.rng.below((states.len() - begin) as u64) as usize];
                let other = of.files.get(file).and_then(|bytes| bytes.get(no * BLOCK..)).unwrap_or_default();
                let len = other.len().min(block.len());
                block[..len].copy_from_slice(&other[..len]);
                block[len..].fill(0);
            }
        }
        let (redo_from, State { lsn, tx, time, .. }) = (states[begin].redo_from, newest);
        let taken = Taken { timeline, redo_from, lsn: *lsn, tx: *tx, time: *time, files };
        self.snapshots.push(taken);
    }

    /// A new timeline begins at a random commit: what was open there is unfinished for good.
    pub(crate) fn fork(&mut self) {
        let line = &self.lines[0];
        let Some(at) = line.states.len().checked_sub(1) else { return };
        let at = self.rng.below(at as u64 + 1) as usize;
        let fork = line.states[at].lsn;
        let (states, time) = (line.states[..=at].to_vec(), line.states[at].time);
        let before = line.stated.partition_point(|lsn| *lsn < fork);
        let (twice, stated) = (line.twice[..before].to_vec(), line.stated[..before].to_vec());
        self.files = states[at].files.clone();
        self.open.clear();
        self.now += 10_000;
        let created = Timestamp::from_micros(self.now);
        self.clock.set(created);
        let writer = Writer::claim(&self.archive, created).unwrap();
        let (parent, reason) = (Some(TimelineId::FIRST), ForkReason::Restored);
        let history = Timeline { parent, fork, reason, created, ambiguous: None, root: None };
        let timeline = writer.claim_timeline(&history).unwrap();
        self.env = env(&self.clock, self.next_tx, self.env.spawn.is_inline());
        let wal = wal(&self.env, timeline, fork, time);
        self.shipper = shipper(writer, &wal, &mut self.rng);
        self.wal = Some(wal);
        self.lines.push(Line { timeline, states, twice, stated });
    }
}

/// A shipper of small objects and frames.
fn shipper(writer: Writer, wal: &Wal, rng: &mut Rng) -> Shipper {
    let catalog = writer.archive().catalog().unwrap();
    let (object_bytes, frame_bytes) = (1 + rng.below(6_000) as u32, 300 + rng.below(3_000) as u32);
    let options = ShipOptions { codec: Codec::None, object_bytes, frame_bytes, ..ShipOptions::default() };
    Shipper::new(writer, &catalog, wal, wal.timeline(), wal.log_id(), options).unwrap()
}
