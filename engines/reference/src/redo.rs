//! Replays the records of rows: the same implementation for a restore and for opening a store after
//! a crash.
//!
//! A page says which records it [has](Has). So a replay can be killed and run again, and the pages
//! of a fuzzy snapshot can be from different moments.

use crate::error::{Error, Result};
use crate::page::{self, PAGE_BYTES, Page};
use crate::record;
use crate::rows::Has;
use crate::state::{self, PageId, State};
use crate::store::{TableId, lock};
use pitr_format::{FileId, Lsn, PartitionId};
use pitr_recovery::{BoxError, LogicalRecord, Redo};
use pitr_vfs::{Access, File, FileSystem};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Changed pages of a table in memory, at most: 16 MiB.
const PAGES_MAX: usize = 4096;
/// Parts of the map of tables. Workers of different tables rarely use the same lock.
const SHARDS: usize = 16;

/// The pages that a replay changes.
pub(crate) trait Pages: Send + Sync {
    /// A checked page; zeros after the end of the table.
    fn read(&self, table: TableId, number: u64) -> Result<Page>;

    /// Takes over sealed pages, ascending.
    fn write(&self, table: TableId, pages: Vec<(u64, Vec<u8>)>) -> Result<()>;
}

struct Loaded {
    bytes: Vec<u8>,
    has: Has,
    is_changed: bool,
}

/// The pages of a table that a replay changes.
type Loads = HashMap<u64, Loaded>;

/// A replay.
pub(crate) struct RowRedo<P> {
    pages: P,
    tables: [Mutex<BTreeMap<PartitionId, Loads>>; SHARDS],
}

impl<P: Pages> RowRedo<P> {
    pub(crate) fn new(pages: P) -> Self {
        RowRedo { pages, tables: Default::default() }
    }

    fn shard(&self, partition: PartitionId) -> &Mutex<BTreeMap<PartitionId, Loads>> {
        &self.tables[partition.get() as usize % SHARDS]
    }

    /// Changes a row, unless its page has the record. Returns the page.
    pub(crate) fn apply_row(&self, record: &LogicalRecord<'_>) -> Result<PageId> {
        let row = record::decode(record.payload).ok_or(Error::Foreign { lsn: record.lsn })?;
        let table = table_of(record.partition);
        let mut shard = lock(self.shard(record.partition));
        let loads = shard.entry(record.partition).or_default();
        if loads.len() >= PAGES_MAX && !loads.contains_key(&row.page) {
            self.write(table, loads, record.lsn)?;
        }
        let page = match loads.entry(row.page) {
            std::collections::hash_map::Entry::Occupied(page) => page.into_mut(),
            std::collections::hash_map::Entry::Vacant(new) => {
                let bytes = self.pages.read(table, row.page)?.to_vec();
                new.insert(Loaded { has: Has::of(&bytes), bytes, is_changed: false })
            }
        };
        if !page.has.has(record.lsn, record.commit) {
            row.rows.set(&mut page.bytes, row.slot, row.bytes);
            page.is_changed = true;
        }
        Ok((table, row.page))
    }

    /// Writes the changed pages of a table, which have all records of the replay below `upto`.
    pub(crate) fn write_table(&self, partition: PartitionId, upto: Lsn) -> Result<()> {
        match lock(self.shard(partition)).remove(&partition) {
            Some(mut loads) => self.write(table_of(partition), &mut loads, upto),
            None => Ok(()),
        }
    }

    /// Writes the changed pages of all tables, as [`write_table`](Self::write_table).
    pub(crate) fn write_all(&self, upto: Lsn) -> Result<()> {
        for shard in &self.tables {
            for (partition, mut loads) in std::mem::take(&mut *lock(shard)) {
                self.write(table_of(partition), &mut loads, upto)?;
            }
        }
        Ok(())
    }

    fn write(&self, table: TableId, loads: &mut Loads, upto: Lsn) -> Result<()> {
        let changed = loads.drain().filter(|(_, page)| page.is_changed);
        let seal = |(number, mut page): (u64, Loaded)| {
            Has { replayed: upto, ..page.has }.put(&mut page.bytes);
            page::seal_in(&mut page.bytes, table.file(), number);
            (number, page.bytes)
        };
        let mut pages: Vec<(u64, Vec<u8>)> = changed.map(seal).collect();
        pages.sort_unstable_by_key(|(number, _)| *number);
        if pages.is_empty() { Ok(()) } else { self.pages.write(table, pages) }
    }
}

/// The table of a partition: both have the same number.
fn table_of(partition: PartitionId) -> TableId {
    TableId::new(FileId::new(partition.get()))
}

impl<P: Pages> Redo for RowRedo<P> {
    fn apply(&self, record: &LogicalRecord<'_>) -> Result<(), BoxError> {
        self.apply_row(record)?;
        Ok(())
    }

    fn end(&self, partition: PartitionId, upto: Lsn) -> Result<(), BoxError> {
        Ok(self.write_table(partition, upto)?)
    }
}

/// The pages in the files of a restore. Their headers can't be read yet, and pages of rows never
/// touch them.
pub(crate) struct RestoredPages<'a> {
    fs: &'a dyn FileSystem,
    dir: &'a Path,
    files: Mutex<BTreeMap<TableId, Arc<dyn File>>>,
}

impl<'a> RestoredPages<'a> {
    pub(crate) fn new(fs: &'a dyn FileSystem, dir: &'a Path) -> Self {
        RestoredPages { fs, dir, files: Mutex::new(BTreeMap::new()) }
    }

    fn file(&self, table: TableId) -> Result<Arc<dyn File>> {
        let mut files = lock(&self.files);
        if let Some(file) = files.get(&table) {
            return Ok(Arc::clone(file));
        }
        let path = self.dir.join(table.file_name());
        let file = self.fs.open(&path, Access::ReadWrite).map_err(Error::io("open", &path))?;
        files.insert(table, Arc::clone(&file));
        Ok(file)
    }
}

impl Pages for RestoredPages<'_> {
    fn read(&self, table: TableId, number: u64) -> Result<Page> {
        state::read(self.dir, table, Some(self.file(table)?.as_ref()), number)
    }

    fn write(&self, table: TableId, pages: Vec<(u64, Vec<u8>)>) -> Result<()> {
        let file = self.file(table)?;
        // Adjacent pages are one write.
        for run in pages.chunk_by(|(a, _), (b, _)| a + 1 == *b) {
            let bytes = run.iter().map(|(_, page)| page.as_slice()).collect::<Vec<_>>().concat();
            let offset = run.first().map_or(0, |(number, _)| number * PAGE_BYTES as u64);
            let path = || self.dir.join(table.file_name());
            file.write_all_at(&bytes, offset).map_err(|source| Error::Io {
                op: "write",
                path: path(),
                source,
            })?;
        }
        Ok(())
    }
}

/// The pages of a store that is being opened. Changed pages stay in memory until the next
/// checkpoint.
pub(crate) struct RecoveredPages<'a>(pub(crate) Mutex<&'a mut State>);

impl Pages for RecoveredPages<'_> {
    fn read(&self, table: TableId, number: u64) -> Result<Page> {
        lock(&self.0).page(table, number)
    }

    fn write(&self, table: TableId, pages: Vec<(u64, Vec<u8>)>) -> Result<()> {
        let pages = pages.into_iter().map(|(number, page)| ((table, number), page.into()));
        lock(&self.0).apply(pages);
        Ok(())
    }
}
