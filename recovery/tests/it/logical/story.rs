//! A random history of logical and physical records, and a model of it.

use super::ledger::{CELLS, Cell, Cells, Change, PAGE, PHYSICAL, name, page};
use crate::lab::meta;
use crate::world::{Dice, TestClock, content, first_timeline, options};
use pitr_archive::{Archive, Shipper, Writer};
use pitr_dedup::ChunkStore;
use pitr_format::record::Record;
use pitr_format::{FileId, Lsn, PartitionId, SegmentSize, SourceName, Timestamp, TxId};
use pitr_objects::{Location, Objects};
use pitr_snapshot::{BlockSource, BoxError, FileShape, write_full};
use pitr_vfs::sim::SimFs;
use pitr_vfs::{Clock, Env};
use pitr_wal::{BatchBuilder, Start, Wal, WalOptions};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

const LOG: &str = "/log";
const LOG_ID: [u8; 16] = *b"logical records.";
pub(crate) const PARTITIONS: std::ops::Range<u32> = 2..6;
const PAGES: u64 = 3;

/// The state after a commit.
#[derive(Debug, Clone)]
pub(crate) struct State {
    pub(crate) lsn: Lsn,
    pub(crate) tx: TxId,
    pub(crate) time: Timestamp,
    /// First LSN of the log that a restore from this state needs.
    redo_from: Lsn,
    pub(crate) cells: Cells,
    /// LSN of the last commit that changed each page.
    pages: BTreeMap<(u32, u64), Lsn>,
    /// The block images.
    pub(crate) blocks: BTreeMap<u64, u8>,
}

#[derive(Debug)]
struct Open {
    tx: TxId,
    first: Lsn,
    changes: Vec<(u32, Change)>,
    blocks: BTreeMap<u64, u8>,
    locked: BTreeSet<Cell>,
}

pub(crate) struct Story {
    pub(crate) archive: Archive,
    pub(crate) states: Vec<State>,
    wal: Option<Wal>,
    env: Env,
    options: WalOptions,
    shipper: Shipper,
    dice: Dice,
    open: Vec<Open>,
    current: State,
    next_tx: u64,
    /// True if transactions lock the cells that they change.
    locks: bool,
}

impl Story {
    pub(crate) fn new(seed: u64, is_inline: bool, locks: bool) -> Story {
        let (clock, mut dice) = (Arc::new(TestClock::default()), Dice(seed));
        let env = match is_inline {
            true => Env::simulated(Arc::new(SimFs::new()), Arc::clone(&clock) as Arc<dyn Clock>, seed),
            false => Env::system().with_fs(Arc::new(SimFs::new())).with_clock(Arc::clone(&clock) as _),
        };
        let archive =
            Archive::new(Objects::open(&Location::Memory, &env).unwrap(), SourceName::new("app").unwrap());
        let writer = Writer::claim(&archive, clock.now()).unwrap();
        let timeline = writer.claim_timeline(&first_timeline(0)).unwrap();
        let start = Start { segment_size: SegmentSize::new(16 << 10).unwrap(), ..Start::first(LOG_ID) };
        let options_of_log = WalOptions { background: false, ..WalOptions::default() };
        let wal = Wal::create(&env, Path::new(LOG), &start, &options_of_log).unwrap();
        let ship = options(600 + dice.roll(20_000) as u32, 300 + dice.roll(6000) as u32);
        let shipper =
            Shipper::new(writer, &archive.catalog().unwrap(), &wal, timeline, LOG_ID, ship).unwrap();
        let current = State {
            lsn: Lsn::ORIGIN,
            tx: TxId::NONE,
            time: Timestamp::MIN,
            redo_from: Lsn::ORIGIN,
            cells: Cells::new(),
            pages: BTreeMap::new(),
            blocks: BTreeMap::new(),
        };
        Story {
            archive,
            states: Vec::new(),
            wal: Some(wal),
            env,
            options: options_of_log,
            shipper,
            dice,
            open: Vec::new(),
            current,
            next_tx: 1,
            locks,
        }
    }

    fn wal(&self) -> &Wal {
        self.wal.as_ref().unwrap()
    }

    pub(crate) fn live(&mut self, steps: usize) {
        for _ in 0..steps {
            match self.dice.roll(40) {
                0..24 => self.write(),
                24..33 => self.end_one(true),
                33 | 34 => self.end_one(false),
                35 | 36 => self.ship(),
                37 => self.restart(),
                _ => self.snapshot(),
            }
        }
        self.ship();
    }

    fn ship(&mut self) {
        self.wal().sync().unwrap();
        let wal = self.wal.take().unwrap();
        self.shipper.ship(&wal).unwrap();
        self.wal = Some(wal);
    }

    /// The process ends and begins again: open transactions die, and their numbers are used again.
    fn restart(&mut self) {
        self.wal().sync().unwrap();
        drop(self.wal.take());
        let died = self.open.iter().map(|open| open.tx.get()).min();
        self.open.clear();
        self.next_tx = died.unwrap_or(self.next_tx);
        // A number that committed is never used again.
        let last = self.states.iter().map(|state| state.tx.get()).max().unwrap_or(0);
        self.next_tx = self.next_tx.max(last + 1);
        self.wal = Some(Wal::open(&self.env, Path::new(LOG), Lsn::ORIGIN, &self.options).unwrap().0);
    }

    fn write(&mut self) {
        if self.open.is_empty() || self.open.len() < 4 && self.dice.roll(4) == 0 {
            let (tx, first) = (TxId::new(self.next_tx), Lsn::MAX);
            self.next_tx += 1;
            let (changes, blocks, locked) = (Vec::new(), BTreeMap::new(), BTreeSet::new());
            self.open.push(Open { tx, first, changes, blocks, locked });
        }
        let at = self.dice.roll(self.open.len() as u64) as usize;
        let mut batch = BatchBuilder::new();
        let tx = self.open[at].tx;
        for _ in 0..=self.dice.roll(5) {
            if self.dice.roll(6) == 0 {
                let (block, fill) = (self.dice.roll(10), self.dice.roll(256) as u8);
                if self.open.iter().enumerate().all(|(no, o)| no == at || !o.blocks.contains_key(&block)) {
                    let file = FileId::new(PHYSICAL);
                    let data = content(file, block, fill);
                    batch
                        .push(PartitionId::new(PHYSICAL), tx, &Record::Image { file, block, data: &data })
                        .unwrap();
                    self.open[at].blocks.insert(block, fill);
                }
                continue;
            }
            let (partition, change) = self.change();
            let cells = change.cells(partition);
            let is_taken =
                |no: usize, other: &Open| no != at && cells.iter().any(|cell| other.locked.contains(cell));
            if self.locks && self.open.iter().enumerate().any(|(no, other)| is_taken(no, other)) {
                continue;
            }
            let padding = if self.dice.roll(20) == 0 { self.dice.roll(30_000) } else { self.dice.roll(40) };
            let payload = change.encode(padding as usize);
            batch.push(PartitionId::new(partition), tx, &Record::Data(&payload)).unwrap();
            self.open[at].locked.extend(cells);
            self.open[at].changes.push((partition, change));
        }
        if !batch.is_empty() {
            let first = self.wal().append(batch).unwrap().first;
            self.open[at].first = self.open[at].first.min(first);
        }
    }

    fn change(&mut self) -> (u32, Change) {
        let cell = |dice: &mut Dice| {
            let partition = PARTITIONS.start + dice.roll(PARTITIONS.len() as u64) as u32;
            (partition, dice.roll(PAGES * CELLS))
        };
        let ((partition, no), amount) = (cell(&mut self.dice), self.dice.roll(1000) as i64 + 1);
        match self.dice.roll(12) {
            0 => (partition, Change::Move { cell: no, amount, from: cell(&mut self.dice) }),
            1..4 => (partition, Change::Set { cell: no, amount }),
            _ => (partition, Change::Add { cell: no, amount }),
        }
    }

    fn end_one(&mut self, commits: bool) {
        if self.open.is_empty() {
            return;
        }
        let at = self.dice.roll(self.open.len() as u64) as usize;
        if self.open[at].first == Lsn::MAX {
            return;
        }
        let open = self.open.swap_remove(at);
        let mut batch = BatchBuilder::new();
        if !commits {
            batch.push_abort(PartitionId::FIRST, open.tx, Some(open.first)).unwrap();
            self.wal().append(batch).unwrap();
            return;
        }
        batch.push_commit(PartitionId::FIRST, open.tx, None, Some(open.first), b"").unwrap();
        let done = self.wal().append(batch).unwrap().commits[0];
        let now = &mut self.current;
        for (partition, change) in &open.changes {
            change.apply(*partition, &mut now.cells);
            for (partition, cell) in change.cells(*partition) {
                now.pages.insert((partition, cell / CELLS), done.lsn);
            }
        }
        now.cells.retain(|_, amount| *amount != 0);
        now.blocks.extend(&open.blocks);
        (now.lsn, now.tx, now.time) = (done.lsn, done.tx, done.time);
        now.redo_from = self.open.iter().map(|open| open.first).fold(done.lsn, Lsn::min);
        self.states.push(now.clone());
    }

    /// A fuzzy snapshot: each page is from some state between the first and the last of a few.
    fn snapshot(&mut self) {
        let back = 1 + self.dice.roll(5) as usize;
        let some = self.states.get(self.states.len().saturating_sub(back)..).unwrap_or_default();
        let (Some(first), Some(last)) = (some.first(), some.last()) else { return };
        let mut files = BTreeMap::new();
        for partition in PARTITIONS {
            let bytes: Vec<u8> = (0..PAGES)
                .flat_map(|number| {
                    let of = &some[self.dice.roll(some.len() as u64) as usize];
                    let cell = |no| of.cells.get(&(partition, no)).copied().unwrap_or(0);
                    let cells: Vec<i64> = (number * CELLS..(number + 1) * CELLS).map(cell).collect();
                    let commit = of.pages.get(&(partition, number)).copied().unwrap_or(Lsn::ORIGIN);
                    page(commit, Lsn::ORIGIN, &cells)
                })
                .collect();
            files.insert(partition, bytes);
        }
        files.insert(PHYSICAL, physical(&first.blocks));
        let meta = meta(&self.archive, first.redo_from, last.lsn, last.time, last.tx);
        self.ship();
        let chunks = ChunkStore::open(self.archive.objects().clone()).unwrap();
        write_full(&chunks, &Pages(files), meta, None).unwrap().publish(&chunks).unwrap();
    }
}

/// The file of these blocks.
pub(crate) fn physical(blocks: &BTreeMap<u64, u8>) -> Vec<u8> {
    let mut bytes = vec![0; blocks.last_key_value().map_or(0, |(last, _)| (*last as usize + 1) * PAGE)];
    for (block, fill) in blocks {
        let at = *block as usize * PAGE;
        bytes[at..at + PAGE].copy_from_slice(&content(FileId::new(PHYSICAL), *block, *fill));
    }
    bytes
}

struct Pages(BTreeMap<u32, Vec<u8>>);

impl BlockSource for Pages {
    fn files(&self) -> Vec<FileShape> {
        let shape = |(file, bytes): (&u32, &Vec<u8>)| FileShape {
            file: FileId::new(*file),
            name: name(*file),
            len: bytes.len() as u64,
            block_bytes: PAGE as u32,
        };
        self.0.iter().map(shape).collect()
    }

    fn read_at(&self, file: FileId, offset: u64, buf: &mut [u8]) -> Result<(), BoxError> {
        buf.copy_from_slice(&self.0[&file.get()][offset as usize..offset as usize + buf.len()]);
        Ok(())
    }
}
