//! Where chunks lie that are stored while a store is open.
//!
//! The newest stand in memory. When they are as many as a run of a [`Table`] they become one, and a table that is at most twice as
//! long as the one behind it is merged with that: so a few tables hold all, and each chunk is written once for each doubling.

use crate::ChunkId;
use crate::index::Location;
use crate::table::{RUN_ENTRIES, Table, TableBuilder};
use std::collections::HashMap;
use std::io;

/// Chunks that come one by one, each once.
#[derive(Debug, Default)]
pub(crate) struct Grown {
    /// The largest first.
    tables: Vec<Table>,
    newest: HashMap<ChunkId, Location>,
}

impl Grown {
    /// Adds a chunk that is not in here.
    pub(crate) fn add(&mut self, id: &ChunkId, at: Location) -> io::Result<()> {
        self.newest.insert(*id, at);
        if self.newest.len() == RUN_ENTRIES { self.settle() } else { Ok(()) }
    }

    fn settle(&mut self) -> io::Result<()> {
        let mut table = TableBuilder::new();
        self.newest.drain().try_for_each(|(id, at)| table.add(&id, &at))?;
        let mut last = table.finish()?;
        while let Some(before) = self.tables.pop_if(|before| before.len() <= 2 * last.len()) {
            last = Table::merged(&[before, last])?;
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
    use crate::index::Standing;

    #[test]
    fn few_tables_hold_all_that_came() {
        const CHUNKS: u32 = 21 * RUN_ENTRIES as u32 + 5;
        let id = |n: u32| ChunkId::of(&n.to_le_bytes());
        let at = |n| {
            let standing = Standing::Stays;
            Location { pack: n, frame: 1, offset: 2, stored_len: 3, raw_len: 4, standing }
        };
        let mut grown = Grown::default();
        (0..CHUNKS).for_each(|n| grown.add(&id(n), at(n)).unwrap());
        assert!((0..CHUNKS).all(|n| grown.get(&id(n)) == Some(at(n))));
        assert_eq!(grown.get(&id(CHUNKS)), None);
        let mut packs: Vec<u32> = grown.iter().map(|(_, at)| at.pack).collect();
        packs.sort_unstable();
        assert!(packs.into_iter().eq(0..CHUNKS), "each of them once");
        // Law 9: what is in memory does not follow what came.
        assert_eq!(grown.newest.len(), 5);
        assert!(grown.tables.len() <= 5, "{}", grown.tables.len());
    }
}
