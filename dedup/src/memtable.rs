//! The index of chunks that are stored while a store is open.
//!
//! The newest entries are in memory. When they are as many as a run of a [`Table`], they become a
//! table. A new table is merged with the previous one if that is at most twice as long. So there
//! are few tables, and each entry is written once for each doubling.

use crate::ChunkId;
use crate::location::Location;
use crate::table::{RUN_ENTRIES, Table, TableBuilder};
use pitr_vfs::Env;
use std::collections::HashMap;
use std::io;

/// An index to which chunks are added one by one. No chunk is added twice.
#[derive(Debug)]
pub(crate) struct IndexMemtable {
    env: Env,
    /// The tables, largest first.
    tables: Vec<Table>,
    newest: HashMap<ChunkId, Location>,
}

impl IndexMemtable {
    pub(crate) fn new(env: Env) -> Self {
        IndexMemtable { env, tables: Vec::new(), newest: HashMap::new() }
    }

    /// Adds a chunk that is not in the index.
    pub(crate) fn add(&mut self, id: &ChunkId, at: Location) -> io::Result<()> {
        self.newest.insert(*id, at);
        if self.newest.len() == RUN_ENTRIES { self.flush() } else { Ok(()) }
    }

    /// Makes a table of the newest entries.
    fn flush(&mut self) -> io::Result<()> {
        let mut table = TableBuilder::new(&self.env);
        self.newest.drain().try_for_each(|(id, at)| table.add(&id, &at))?;
        let mut last = table.finish()?;
        while let Some(before) = self.tables.pop_if(|before| before.len() <= 2 * last.len()) {
            last = Table::merged(&self.env, &[before, last])?;
        }
        self.tables.push(last);
        Ok(())
    }

    pub(crate) fn get(&self, id: &ChunkId) -> Option<Location> {
        let newest = self.newest.get(id).copied();
        newest.or_else(|| self.tables.iter().find_map(|table| table.get(id)))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (ChunkId, Location)> {
        let newest = self.newest.iter().map(|(id, at)| (*id, *at));
        self.tables.iter().flat_map(Table::iter).chain(newest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::location::PackState;

    #[test]
    fn few_tables_hold_all_entries() {
        const CHUNKS: u32 = 21 * RUN_ENTRIES as u32 + 5;
        let id = |n: u32| ChunkId::of(&n.to_le_bytes());
        let at = |n| {
            let state = PackState::Kept;
            Location { rank: 0, pack: n, frame: 1, offset: 2, stored_len: 3, raw_len: 4, state }
        };
        let mut index = IndexMemtable::new(Env::system());
        (0..CHUNKS).for_each(|n| index.add(&id(n), at(n)).unwrap());
        assert!((0..CHUNKS).all(|n| index.get(&id(n)) == Some(at(n))));
        assert_eq!(index.get(&id(CHUNKS)), None);
        let mut packs: Vec<u32> = index.iter().map(|(_, at)| at.pack).collect();
        packs.sort_unstable();
        assert!(packs.into_iter().eq(0..CHUNKS), "each of them once");
        // Law 9: however many chunks are added, the entries in memory stay few.
        assert_eq!(index.newest.len(), 5);
        assert!(index.tables.len() <= 5, "{}", index.tables.len());
    }
}
