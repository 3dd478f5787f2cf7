//! An engine of logical records that are not idempotent: amounts that are added to cells.
//!
//! Each partition is a file of pages of 8 cells. A page notes the commit up to which it has
//! everything, and how far a replay came in it.

use pitr_format::{FileId, Lsn, PartitionId};
use pitr_recovery::{
    BoxError, FilePlace, FolderLayout, Layout, LogicalRecord, Redo, RestoreState, RestoreTarget, Result,
    Unfinished,
};
use pitr_vfs::{Access, File, FileSystem};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

pub(crate) const PAGE: usize = 512;
pub(crate) const CELLS: u64 = 8;
/// The partition of block images, and their file.
pub(crate) const PHYSICAL: u32 = 1;

/// A cell: its partition and its number.
pub(crate) type Cell = (u32, u64);
pub(crate) type Cells = BTreeMap<Cell, i64>;

/// A change, as it is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Add {
        cell: u64,
        amount: i64,
    },
    Set {
        cell: u64,
        amount: i64,
    },
    /// Adds the amount to the cell, and takes it from a cell of another partition.
    Move {
        cell: u64,
        amount: i64,
        from: Cell,
    },
}

impl Change {
    pub(crate) fn encode(self, padding: usize) -> Vec<u8> {
        let (kind, cell, amount, from) = match self {
            Change::Add { cell, amount } => (0, cell, amount, (0, 0)),
            Change::Set { cell, amount } => (1, cell, amount, (0, 0)),
            Change::Move { cell, amount, from } => (2, cell, amount, from),
        };
        let fields = [kind, cell, amount as u64, from.0.into(), from.1];
        let mut bytes: Vec<u8> = fields.iter().flat_map(|field| field.to_le_bytes()).collect();
        bytes.resize(bytes.len() + padding, 0x77);
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Change> {
        let (fields, padding) = bytes.split_at_checked(40)?;
        let field = |no: usize| u64::from_le_bytes(fields[no * 8..no * 8 + 8].try_into().unwrap());
        let (cell, amount) = (field(1), field(2) as i64);
        let is_whole = padding.iter().all(|byte| *byte == 0x77);
        match field(0) {
            0 if is_whole => Some(Change::Add { cell, amount }),
            1 if is_whole => Some(Change::Set { cell, amount }),
            2 if is_whole => Some(Change::Move { cell, amount, from: (field(3) as u32, field(4)) }),
            _ => None,
        }
    }

    pub(crate) fn apply(self, partition: u32, cells: &mut Cells) {
        match self {
            Change::Add { cell, amount } => *cells.entry((partition, cell)).or_default() += amount,
            Change::Set { cell, amount } => drop(cells.insert((partition, cell), amount)),
            Change::Move { cell, amount, from } => {
                *cells.entry((partition, cell)).or_default() += amount;
                *cells.entry(from).or_default() -= amount;
            }
        }
    }

    /// The cells that it changes.
    pub(crate) fn cells(self, partition: u32) -> Vec<Cell> {
        match self {
            Change::Add { cell, .. } | Change::Set { cell, .. } => vec![(partition, cell)],
            Change::Move { cell, from, .. } => vec![(partition, cell), from],
        }
    }
}

/// Lsn of the last complete commit, position of the replay, cells.
pub(crate) fn page(commit: Lsn, replayed: Lsn, cells: &[i64]) -> Vec<u8> {
    let mut page: Vec<u8> = [commit.get(), replayed.get()].iter().flat_map(|n| n.to_le_bytes()).collect();
    page.extend(cells.iter().flat_map(|cell| cell.to_le_bytes()));
    page.resize(PAGE, 0);
    page
}

/// How an engine breaks the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Applies what a page has already.
    IgnoresPages,
    /// Notes the last commit that touched a page as if the page had everything up to it.
    NotesOneLsn,
}

#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) fault: Fault,
    /// Fails at this record.
    pub(crate) fails_at: u64,
}

pub(crate) const SOUND: Ledger = Ledger { fault: Fault::None, fails_at: u64::MAX };

impl RestoreTarget for Ledger {
    fn lay_out(&self, state: &RestoreState<'_>) -> Result<Layout> {
        let place = |file: FileId| FilePlace::new(file, name(file.get()));
        let files = state.files().into_iter().map(place).collect();
        Ok(Layout::Folder(FolderLayout { folders: Vec::new(), files }))
    }

    fn replays(&self, partition: PartitionId) -> bool {
        partition.get() != PHYSICAL
    }

    fn redo<'a>(&'a self, unfinished: &Unfinished<'a>) -> Result<Option<Box<dyn Redo + 'a>>> {
        Ok(Some(Box::new(LedgerRedo::new(unfinished.fs, unfinished.path, self.fault, self.fails_at))))
    }
}

pub(crate) fn name(partition: u32) -> String {
    format!("cells-{partition}")
}

/// A page in memory: what it notes, and its cells.
struct Loaded {
    commit: Lsn,
    replayed: Lsn,
    cells: Vec<i64>,
    /// The last commit that changed it in this batch.
    touched: Lsn,
}

struct Open {
    file: Arc<dyn File>,
    pages: BTreeMap<u64, Loaded>,
}

pub(crate) struct LedgerRedo<'a> {
    fs: &'a dyn FileSystem,
    root: PathBuf,
    fault: Fault,
    left: AtomicU64,
    open: Mutex<BTreeMap<u32, Open>>,
}

impl<'a> LedgerRedo<'a> {
    pub(crate) fn new(fs: &'a dyn FileSystem, root: &Path, fault: Fault, fails_at: u64) -> Self {
        LedgerRedo {
            fs,
            root: root.to_owned(),
            fault,
            left: AtomicU64::new(fails_at),
            open: Mutex::new(BTreeMap::new()),
        }
    }

    fn add(&self, open: &mut Open, cell: u64, record: &LogicalRecord<'_>, change: &dyn Fn(i64) -> i64) {
        let page = open.pages.entry(cell / CELLS).or_insert_with(|| load(open.file.as_ref(), cell / CELLS));
        let is_there = record.commit <= page.commit || record.lsn < page.replayed;
        if !is_there || self.fault == Fault::IgnoresPages {
            let cell = &mut page.cells[(cell % CELLS) as usize];
            *cell = change(*cell);
            page.touched = page.touched.max(record.commit);
        }
    }

    fn flush(&self, open: &mut Open, upto: Lsn) -> Result<(), BoxError> {
        for (number, loaded) in std::mem::take(&mut open.pages) {
            let bytes = match self.fault {
                Fault::NotesOneLsn => page(loaded.commit.max(loaded.touched), Lsn::ORIGIN, &loaded.cells),
                _ => page(loaded.commit, upto.max(loaded.replayed), &loaded.cells),
            };
            open.file.write_all_at(&bytes, number * PAGE as u64)?;
        }
        Ok(())
    }

    fn file(&self, partition: u32) -> Result<Arc<dyn File>, BoxError> {
        let path = self.root.join(name(partition));
        match self.fs.exists(&path)? {
            true => Ok(self.fs.open(&path, Access::ReadWrite)?),
            false => Ok(self.fs.create_new(&path)?),
        }
    }
}

fn load(file: &dyn File, number: u64) -> Loaded {
    let mut bytes = vec![0; PAGE];
    file.read_up_to_at(&mut bytes, number * PAGE as u64).unwrap();
    let word = |no: usize| u64::from_le_bytes(bytes[no * 8..no * 8 + 8].try_into().unwrap());
    let cells = (0..CELLS as usize).map(|cell| word(2 + cell) as i64).collect();
    Loaded { commit: Lsn::new(word(0)), replayed: Lsn::new(word(1)), cells, touched: Lsn::ORIGIN }
}

impl Redo for LedgerRedo<'_> {
    fn is_barrier(&self, record: &LogicalRecord<'_>) -> bool {
        matches!(Change::decode(record.payload), Some(Change::Move { .. }))
    }

    fn begin(&self, partition: PartitionId) -> Result<(), BoxError> {
        let opened = Open { file: self.file(partition.get())?, pages: BTreeMap::new() };
        assert!(self.open.lock().unwrap().insert(partition.get(), opened).is_none(), "one batch at a time");
        Ok(())
    }

    fn apply(&self, record: &LogicalRecord<'_>) -> Result<(), BoxError> {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 0 {
            return Err("killed".into());
        }
        let change = Change::decode(record.payload).ok_or("an unknown record")?;
        let mut open = self.open.lock().unwrap();
        let own = open.get_mut(&record.partition.get()).unwrap();
        match change {
            Change::Add { cell, amount } => self.add(own, cell, record, &|cell| cell + amount),
            Change::Set { cell, amount } => self.add(own, cell, record, &|_| amount),
            Change::Move { cell, amount, from } => {
                self.add(own, cell, record, &|cell| cell + amount);
                if from.0 == record.partition.get() {
                    self.add(own, from.1, record, &|cell| cell - amount);
                } else {
                    // A barrier: no other partition has a batch.
                    assert_eq!(open.len(), 1);
                    let mut other = Open { file: self.file(from.0)?, pages: BTreeMap::new() };
                    self.add(&mut other, from.1, record, &|cell| cell - amount);
                    self.flush(&mut other, Lsn::new(record.lsn.get() + 1))?;
                }
            }
        }
        Ok(())
    }

    fn end(&self, partition: PartitionId, upto: Lsn) -> Result<(), BoxError> {
        let mut open = self.open.lock().unwrap().remove(&partition.get()).ok_or("no batch")?;
        self.flush(&mut open, upto)
    }

    fn finish(&self) -> Result<(), BoxError> {
        assert!(self.open.lock().unwrap().is_empty(), "all batches are ended");
        Ok(())
    }
}

/// The cells in the files of a folder that are not 0.
pub(crate) fn cells(fs: &dyn FileSystem, root: &Path, partitions: impl IntoIterator<Item = u32>) -> Cells {
    let mut found = Cells::new();
    for partition in partitions {
        let path = root.join(name(partition));
        if !fs.exists(&path).unwrap() {
            continue;
        }
        let file = fs.open(&path, Access::Read).unwrap();
        for number in 0..file.len().unwrap() / PAGE as u64 {
            let loaded = load(file.as_ref(), number);
            let numbered = loaded.cells.into_iter().zip(number * CELLS..);
            found.extend(
                numbered.filter(|(amount, _)| *amount != 0).map(|(amount, no)| ((partition, no), amount)),
            );
        }
    }
    found
}
