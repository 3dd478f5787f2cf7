//! An engine of logical records that are not idempotent: amounts that are added to cells.
//!
//! Each file of cells has its own partition, of the same number. A page notes the commit up to
//! which it has everything, and how far a replay came in it.

use crate::story::Files;
use pitr_format::{FileId, Lsn, PartitionId};
use pitr_recovery::{
    BoxError, FilePlace, FolderLayout, Layout, LogicalRecord, Redo, RestoreState, RestoreTarget, Result,
    Unfinished,
};
use pitr_vfs::{Access, FileSystem};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) const PAGE: usize = 512;
/// Few cells of a page, so that transactions meet.
pub(crate) const CELLS: u64 = 6;
/// What a page notes before its cells, bytes.
const NOTES: usize = 16;
/// Number of the first file of cells. Files with lower numbers have block images.
pub(crate) const FIRST_CELLS: u32 = 3;

/// A cell: its file and its number.
pub(crate) type Cell = (FileId, u64);

pub(crate) fn is_cells(file: FileId) -> bool {
    file.get() >= FIRST_CELLS
}

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
    /// Adds the amount to the cell, and takes it from a cell that may be in another file.
    Move {
        cell: u64,
        amount: i64,
        from: Cell,
    },
}

/// What a change does to one cell.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Effect {
    Add(i64),
    Set(i64),
}

impl Change {
    pub(crate) fn encode(self, padding: usize) -> Vec<u8> {
        let (kind, cell, amount, (file, other)) = match self {
            Change::Add { cell, amount } => (0, cell, amount, (FileId::new(0), 0)),
            Change::Set { cell, amount } => (1, cell, amount, (FileId::new(0), 0)),
            Change::Move { cell, amount, from } => (2, cell, amount, from),
        };
        let fields = [kind, cell, amount as u64, file.get().into(), other];
        let mut bytes = fields.map(u64::to_le_bytes).concat();
        bytes.resize(bytes.len() + padding, 0x77);
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Change> {
        let (fields, padding) = bytes.split_at_checked(40)?;
        let (cell, amount) = (word(fields, 1), word(fields, 2) as i64);
        let is_whole = padding.iter().all(|byte| *byte == 0x77);
        match word(fields, 0) {
            0 if is_whole => Some(Change::Add { cell, amount }),
            1 if is_whole => Some(Change::Set { cell, amount }),
            2 if is_whole => {
                let from = (FileId::new(word(fields, 3) as u32), word(fields, 4));
                Some(Change::Move { cell, amount, from })
            }
            _ => None,
        }
    }

    /// The cells that it changes, if it is a record of this file's partition.
    pub(crate) fn effects(self, file: FileId) -> impl Iterator<Item = (Cell, Effect)> {
        let (own, other) = match self {
            Change::Add { cell, amount } => (((file, cell), Effect::Add(amount)), None),
            Change::Set { cell, amount } => (((file, cell), Effect::Set(amount)), None),
            Change::Move { cell, amount, from } => {
                (((file, cell), Effect::Add(amount)), Some((from, Effect::Add(-amount))))
            }
        };
        [own].into_iter().chain(other)
    }

    /// Changes pages as the engine does when a transaction commits.
    pub(crate) fn apply(self, file: FileId, files: &mut Files, commit: Lsn) {
        for ((file, cell), effect) in self.effects(file) {
            let mut page = Page::in_memory(files, file, cell / CELLS);
            page.change(cell, effect);
            page.commit = commit;
            page.put(files, file, cell / CELLS);
        }
    }
}

fn word(bytes: &[u8], no: usize) -> u64 {
    u64::from_le_bytes(bytes[no * 8..no * 8 + 8].try_into().unwrap())
}

/// The cells of a file, without notes and without the zeros at the end.
pub(crate) fn shown(bytes: &[u8]) -> Vec<u8> {
    let cells = bytes.chunks(PAGE).flat_map(|page| page.get(NOTES..).unwrap_or_default());
    let mut cells: Vec<u8> = cells.copied().collect();
    cells.truncate(cells.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
    cells
}

#[derive(Debug, Clone, Copy)]
struct Page {
    /// It has everything that committed at or below it.
    commit: Lsn,
    /// It has the replayed records below it.
    replayed: Lsn,
    cells: [i64; CELLS as usize],
}

impl Page {
    fn of(bytes: &[u8]) -> Page {
        let cells = std::array::from_fn(|cell| word(bytes, 2 + cell) as i64);
        Page { commit: Lsn::new(word(bytes, 0)), replayed: Lsn::new(word(bytes, 1)), cells }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = [self.commit.get(), self.replayed.get()].map(u64::to_le_bytes).concat();
        bytes.extend(self.cells.iter().flat_map(|cell| cell.to_le_bytes()));
        bytes.resize(PAGE, 0);
        bytes
    }

    fn in_memory(files: &Files, file: FileId, number: u64) -> Page {
        let mut bytes = [0; PAGE];
        let at = number as usize * PAGE;
        if let Some(found) = files.get(&file).and_then(|content| content.get(at..at + PAGE)) {
            bytes.copy_from_slice(found);
        }
        Page::of(&bytes)
    }

    fn put(&self, files: &mut Files, file: FileId, number: u64) {
        let (content, at) = (files.entry(file).or_default(), number as usize * PAGE);
        content.resize(content.len().max(at + PAGE), 0);
        content[at..at + PAGE].copy_from_slice(&self.bytes());
    }

    fn change(&mut self, cell: u64, effect: Effect) {
        let cell = &mut self.cells[(cell % CELLS) as usize];
        match effect {
            Effect::Add(amount) => *cell += amount,
            Effect::Set(amount) => *cell = amount,
        }
    }
}

/// How an engine breaks the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Applies what a page has already.
    IgnoresPages,
    /// Notes the last commit that touched a page as if the page had everything up to it.
    NotesOneLsn,
    /// Changes other files too, and says of no record that it does.
    NoBarrier,
}

#[derive(Debug)]
pub(crate) struct Ledger {
    /// Fails at this record.
    pub(crate) fails_at: u64,
}

pub(crate) const SOUND: Ledger = Ledger { fails_at: u64::MAX };

impl RestoreTarget for Ledger {
    fn lay_out(&self, state: &RestoreState<'_>) -> Result<Layout> {
        let place = |file: FileId| FilePlace::new(file, name(file));
        let files = state.files().into_iter().map(place).collect();
        Ok(Layout::Folder(FolderLayout { folders: Vec::new(), files }))
    }

    fn replays(&self, partition: PartitionId) -> bool {
        partition.get() >= FIRST_CELLS
    }

    fn redo<'a>(&'a self, unfinished: &Unfinished<'a>) -> Result<Option<Box<dyn Redo + 'a>>> {
        let place = Place::Folder(unfinished.fs, unfinished.path.to_owned());
        Ok(Some(Box::new(LedgerRedo::new(place, Fault::None, self.fails_at))))
    }
}

pub(crate) fn name(file: FileId) -> String {
    format!("file-{file}")
}

/// Where the pages of a replay are.
pub(crate) enum Place<'a> {
    Memory(&'a Mutex<Files>),
    Folder(&'a dyn FileSystem, PathBuf),
}

impl Place<'_> {
    fn read(&self, file: FileId, number: u64) -> Result<Page, BoxError> {
        match self {
            Place::Memory(files) => Ok(Page::in_memory(&files.lock().unwrap(), file, number)),
            Place::Folder(fs, root) => {
                let (path, mut bytes) = (root.join(name(file)), [0; PAGE]);
                if fs.exists(&path)? {
                    fs.open(&path, Access::Read)?.read_up_to_at(&mut bytes, number * PAGE as u64)?;
                }
                Ok(Page::of(&bytes))
            }
        }
    }

    fn write(&self, file: FileId, number: u64, page: &Page) -> Result<(), BoxError> {
        match self {
            Place::Memory(files) => page.put(&mut files.lock().unwrap(), file, number),
            Place::Folder(fs, root) => {
                let path = root.join(name(file));
                let file =
                    if fs.exists(&path)? { fs.open(&path, Access::ReadWrite) } else { fs.create_new(&path) };
                file?.write_all_at(&page.bytes(), number * PAGE as u64)?;
            }
        }
        Ok(())
    }
}

/// A page of an open batch, and the last commit that changed it there.
struct Loaded {
    page: Page,
    touched: Lsn,
}

type Batch = BTreeMap<u64, Loaded>;

pub(crate) struct LedgerRedo<'a> {
    place: Place<'a>,
    fault: Fault,
    left: AtomicU64,
    open: Mutex<BTreeMap<FileId, Batch>>,
}

impl<'a> LedgerRedo<'a> {
    /// A replay that fails at one of its records.
    pub(crate) fn new(place: Place<'a>, fault: Fault, fails_at: u64) -> Self {
        LedgerRedo { place, fault, left: AtomicU64::new(fails_at), open: Mutex::default() }
    }

    fn change(
        &self,
        batch: &mut Batch,
        (file, cell): Cell,
        effect: Effect,
        record: &LogicalRecord<'_>,
    ) -> Result<(), BoxError> {
        let number = cell / CELLS;
        if let std::collections::btree_map::Entry::Vacant(new) = batch.entry(number) {
            new.insert(Loaded { page: self.place.read(file, number)?, touched: Lsn::ORIGIN });
        }
        let Some(loaded) = batch.get_mut(&number) else { return Ok(()) };
        let is_there = record.commit <= loaded.page.commit || record.lsn < loaded.page.replayed;
        if !is_there || self.fault == Fault::IgnoresPages {
            loaded.page.change(cell, effect);
            loaded.touched = loaded.touched.max(record.commit);
        }
        Ok(())
    }

    fn flush(&self, file: FileId, batch: Batch, upto: Lsn) -> Result<(), BoxError> {
        for (number, Loaded { mut page, touched }) in batch {
            match self.fault {
                Fault::NotesOneLsn => page.commit = page.commit.max(touched),
                _ => page.replayed = page.replayed.max(upto),
            }
            self.place.write(file, number, &page)?;
        }
        Ok(())
    }
}

impl Redo for LedgerRedo<'_> {
    fn is_barrier(&self, record: &LogicalRecord<'_>) -> bool {
        let is_move = matches!(Change::decode(record.payload), Some(Change::Move { .. }));
        is_move && self.fault != Fault::NoBarrier
    }

    fn begin(&self, partition: PartitionId) -> Result<(), BoxError> {
        let before = self.open.lock().unwrap().insert(FileId::new(partition.get()), Batch::new());
        assert!(before.is_none(), "one batch at a time");
        Ok(())
    }

    fn apply(&self, record: &LogicalRecord<'_>) -> Result<(), BoxError> {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 0 {
            return Err("killed".into());
        }
        let change = Change::decode(record.payload).ok_or("an unknown record")?;
        let (own, mut open) = (FileId::new(record.partition.get()), self.open.lock().unwrap());
        for ((file, cell), effect) in change.effects(own) {
            if file == own {
                let batch = open.get_mut(&own).ok_or("no batch")?;
                self.change(batch, (file, cell), effect, record)?;
            } else {
                // A barrier: no other partition has a batch.
                assert!(open.len() == 1 || self.fault == Fault::NoBarrier);
                let mut other = Batch::new();
                self.change(&mut other, (file, cell), effect, record)?;
                self.flush(file, other, Lsn::new(record.lsn.get() + 1))?;
            }
        }
        Ok(())
    }

    fn end(&self, partition: PartitionId, upto: Lsn) -> Result<(), BoxError> {
        let file = FileId::new(partition.get());
        let batch = self.open.lock().unwrap().remove(&file).ok_or("no batch")?;
        self.flush(file, batch, upto)
    }

    fn finish(&self) -> Result<(), BoxError> {
        assert!(self.open.lock().unwrap().is_empty(), "all batches are ended");
        Ok(())
    }
}

/// The files of a folder.
pub(crate) fn files(fs: &dyn FileSystem, root: &Path) -> Files {
    let read = |file: std::ffi::OsString| {
        let number = file.to_str().unwrap().strip_prefix("file-").unwrap().parse().unwrap();
        let file = fs.open(&root.join(&file), Access::Read).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        (FileId::new(number), bytes)
    };
    fs.list(root).unwrap().into_iter().map(read).collect()
}
