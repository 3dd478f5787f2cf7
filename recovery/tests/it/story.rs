//! One small random history on a log and a repository in memory, with the model of its files.

use pitr_archive::{Archive, ForkReason, ShipOptions, Shipper, Timeline, Writer};
use pitr_codec::Codec;
use pitr_format::record::Record;
use pitr_format::{FileId, Lsn, PartitionId, SegmentSize, SourceName, TimelineId, Timestamp, TxId};
use pitr_objects::{Location, Objects};
use pitr_vfs::Env;
use pitr_vfs::sim::{Rng, SimClock, SimFs};
use pitr_wal::{BatchBuilder, Start, Wal, WalOptions};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

pub(crate) const BLOCK: usize = 32;

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
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) timeline: TimelineId,
    pub(crate) redo_from: Lsn,
    pub(crate) lsn: Lsn,
    pub(crate) time: Timestamp,
    pub(crate) tx: TxId,
    pub(crate) files: Files,
}

#[derive(Debug, Clone, Copy)]
enum Op {
    Image { file: FileId, block: u64, fill: u8 },
    SetLength { file: FileId, len: u64 },
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
    now: i64,
    wal: Wal,
    shipper: Shipper,
    files: Files,
    open: Vec<Open>,
    next_tx: u64,
    /// Number of an aborted transaction, to be used again.
    reuse: Option<TxId>,
}

fn env(clock: &Arc<SimClock>, seed: u64) -> Env {
    Env::simulated(Arc::new(SimFs::new()), Arc::clone(clock) as Arc<_>, seed)
}

/// A log that continues a history whose last commit is at `follows` and `time`.
fn wal(env: &Env, timeline: TimelineId, follows: Lsn, time: Timestamp) -> Wal {
    let segment_size = SegmentSize::new(SegmentSize::MIN_BYTES).unwrap();
    let log_id = [timeline.get() as u8; 16];
    let start = Start { timeline, segment_size, follows, time, log_id, gap: false };
    let options = WalOptions { background: false, ..WalOptions::default() };
    Wal::create(env, Path::new("/log"), &start, &options).unwrap()
}

impl Story {
    /// The history of this seed.
    pub(crate) fn tell(seed: u64) -> Story {
        let mut rng = Rng::new(seed);
        let now = 1_000_000;
        let clock = Arc::new(SimClock::new(Timestamp::from_micros(now)));
        let env = env(&clock, seed);
        let objects = Objects::open(&Location::Memory, &env).unwrap();
        let archive = Archive::new(objects, SourceName::new("app").unwrap());
        let wal = wal(&env, TimelineId::FIRST, Lsn::ORIGIN, Timestamp::from_micros(now));
        let writer = Writer::claim(&archive, Timestamp::from_micros(now)).unwrap();
        writer.claim_timeline(&Timeline::first(Timestamp::from_micros(now))).unwrap();
        let shipper = shipper(writer, &wal, &mut rng);
        let (states, twice, stated) = (Vec::new(), Vec::new(), Vec::new());
        let line = Line { timeline: TimelineId::FIRST, states, twice, stated };
        let mut story = Story {
            archive,
            lines: vec![line],
            snapshots: Vec::new(),
            rng,
            clock,
            now,
            wal,
            shipper,
            files: Files::new(),
            open: Vec::new(),
            next_tx: 1,
            reuse: None,
        };
        story.live();
        if story.rng.once_in(3) {
            story.fork();
            story.live();
        }
        story
    }

    fn line(&mut self) -> &mut Line {
        self.lines.last_mut().expect("a story has a line")
    }

    fn live(&mut self) {
        for _ in 0..12 + self.rng.below(24) {
            match self.rng.below(20) {
                0..6 => self.write(),
                6..8 => self.set_length(),
                8..13 => self.commit(),
                13 => self.abort(),
                14 => {
                    let now = Timestamp::from_micros(self.now);
                    self.append(TxId::NONE, &[Record::Watermark(now)]);
                }
                15 => self.jump(),
                16 => self.snapshot(),
                _ => self.ship(),
            }
            self.now += self.rng.below(3) as i64 * 1_000;
            self.clock.set(Timestamp::from_micros(self.now));
        }
        self.ship();
    }

    fn ship(&mut self) {
        self.wal.sync().unwrap();
        self.shipper.ship(&self.wal).unwrap();
    }

    /// Logs records in partitions of their own.
    fn append(&mut self, tx: TxId, records: &[Record<'_>]) -> Lsn {
        let mut batch = BatchBuilder::new();
        for record in records {
            batch.push(PartitionId::new(self.rng.below(3) as u32), tx, record).unwrap();
        }
        let first = self.wal.append(batch).unwrap().first;
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

    /// True if another open transaction changed this block, or any block or the length if `None`.
    fn is_taken(&self, own: usize, file: FileId, block: Option<u64>) -> bool {
        let conflicts = |op: &Op| match *op {
            Op::Image { file: other, block: at, .. } => {
                other == file && block.is_none_or(|block| block == at)
            }
            Op::SetLength { file: other, .. } => other == file,
        };
        self.open.iter().enumerate().any(|(no, open)| no != own && open.ops.iter().any(conflicts))
    }

    fn write(&mut self) {
        let own = self.transaction();
        let mut blocks = BTreeSet::new();
        for _ in 0..=self.rng.below(3) {
            let (file, block) = (FileId::new(1 + self.rng.below(2) as u32), self.rng.below(6));
            if !self.is_taken(own, file, Some(block)) {
                blocks.insert((file, block));
            }
        }
        let tx = self.open[own].tx;
        for (file, block) in blocks {
            let fill = self.rng.below(256) as u8;
            self.append(tx, &[Record::Image { file, block, data: &[fill; BLOCK] }]);
            self.open[own].ops.push(Op::Image { file, block, fill });
        }
    }

    fn set_length(&mut self) {
        let own = self.transaction();
        let (file, len) = (FileId::new(1 + self.rng.below(2) as u32), self.rng.below(6 * BLOCK as u64));
        if !self.is_taken(own, file, None) {
            let tx = self.open[own].tx;
            self.append(tx, &[Record::SetLength { file, len }]);
            self.open[own].ops.push(Op::SetLength { file, len });
        }
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
        let done = self.wal.append(batch).unwrap().commits[0];
        open.ops.iter().for_each(|op| apply(&mut self.files, op));
        let redo_from = self.open.iter().map(|open| open.first).fold(done.lsn, Lsn::min);
        let files = self.files.clone();
        self.line().states.push(State { lsn: done.lsn, tx: done.tx, time: done.time, redo_from, files });
    }

    fn abort(&mut self) {
        let Some(open) = self.end_one() else { return };
        self.append(open.tx, &[Record::Abort { first_lsn: open.first }]);
        self.reuse = self.rng.once_in(2).then_some(open.tx);
    }

    /// The clock is set forwards or back.
    fn jump(&mut self) {
        let from = Timestamp::from_micros(self.now);
        self.now += [50_000, -3_000][self.rng.below(2) as usize];
        let to = Timestamp::from_micros(self.now);
        self.clock.set(to);
        let lsn = self.append(TxId::NONE, &[Record::ClockStep { from, to }]);
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
    fn fork(&mut self) {
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
        self.wal = wal(&env(&self.clock, self.next_tx), timeline, fork, time);
        self.shipper = shipper(writer, &self.wal, &mut self.rng);
        self.lines.push(Line { timeline, states, twice, stated });
    }
}

/// A shipper of small objects and frames.
fn shipper(writer: Writer, wal: &Wal, rng: &mut Rng) -> Shipper {
    let catalog = writer.archive().catalog().unwrap();
    let (object_bytes, frame_bytes) = (1 + rng.below(1_500) as u32, 100 + rng.below(800) as u32);
    let options = ShipOptions { codec: Codec::None, object_bytes, frame_bytes };
    Shipper::new(writer, &catalog, wal, wal.timeline(), wal.log_id(), options).unwrap()
}

fn apply(files: &mut Files, op: &Op) {
    match *op {
        Op::Image { file, block, fill } => {
            let (content, at) = (files.entry(file).or_default(), block as usize * BLOCK);
            content.resize(content.len().max(at + BLOCK), 0);
            content[at..at + BLOCK].fill(fill);
        }
        Op::SetLength { file, len } => files.entry(file).or_default().resize(len as usize, 0),
    }
}
