//! Collection: how much of each pack is needed, and removing packs from the index.

use crate::index::{is_index_path, put_index, read_index, take_full};
use crate::pack::Pack;
use crate::store::read_indexes;
use crate::{ChunkId, ChunkStore, Result, Written};
use pitr_codec::{Codec, OBJECT_BYTES_MAX};
use pitr_objects::layout::{INDEX, ObjectName};
use std::collections::{BTreeSet, HashSet};

/// The needed chunks of a store: one bit for each chunk.
#[derive(Debug)]
pub struct Marks {
    store: ChunkStore,
    /// One bit for each chunk, by pack and frame.
    packs: Vec<Vec<u64>>,
}

/// How much of a pack is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackUse {
    /// Path of the pack.
    pub path: String,
    /// Needed chunks that are read from this pack.
    pub live: u64,
    /// Stored bytes of the needed chunks.
    pub live_bytes: u64,
    /// Stored bytes of chunks that are not needed, or that are read from another pack.
    pub dead_bytes: u64,
}

impl Marks {
    /// Marks a chunk as needed.
    ///
    /// # Errors
    /// [`Error::Unknown`](crate::Error::Unknown).
    pub fn mark(&mut self, id: &ChunkId) -> Result<()> {
        let at = self.store.locate(id)?;
        let word = &mut self.packs[at.pack as usize][at.frame as usize / 64]; // made for this index
        *word |= 1 << (at.frame % 64);
        Ok(())
    }

    fn is_marked(&self, pack: u32, frame: u32) -> bool {
        // Packs that were added later have no marks.
        self.packs.get(pack as usize).is_some_and(|words| words[frame as usize / 64] >> (frame % 64) & 1 == 1)
    }

    /// How much of each pack in the index is needed.
    ///
    /// # Errors
    /// [`Error::Died`](crate::Error::Died).
    pub fn usage(&self) -> Result<Vec<PackUse>> {
        let index = self.store.index()?;
        let paths = index.pack_paths().into_iter();
        let mut usage: Vec<PackUse> =
            paths.map(|path| PackUse { path, live: 0, live_bytes: 0, dead_bytes: 0 }).collect();
        for (_, at) in index.iter().filter(|(_, at)| self.is_marked(at.pack, at.frame)) {
            let pack = &mut usage[at.pack as usize]; // locations come from this index
            pack.live += 1;
            pack.live_bytes += u64::from(at.stored_len);
        }
        let all = index.stored_of_packs().into_iter();
        usage.iter_mut().zip(all).for_each(|(pack, all)| pack.dead_bytes = all - pack.live_bytes);
        Ok(usage)
    }

    /// Copies the needed chunks of these packs to as few new packs as possible. These packs are
    /// then not needed any more. A chunk that another needed pack has too is not copied.
    ///
    /// # Errors
    /// Errors of reading and storing chunks.
    pub fn repack(&self, packs: &BTreeSet<String>, codec: Codec) -> Result<Written> {
        let (numbers, mut wanted, mut stored) = (self.numbers(packs)?, Vec::new(), 0);
        let elsewhere = self.in_other_packs(&numbers)?;
        {
            let index = self.store.index()?;
            let needed = index.iter().filter(|(id, at)| {
                numbers.contains(&at.pack) && self.is_marked(at.pack, at.frame) && !elsewhere.contains(id)
            });
            wanted.extend(needed.map(|(id, at)| {
                stored += u64::from(at.stored_len);
                (at.pack, at.frame, id)
            }));
        }
        wanted.sort_unstable();
        let ids: Vec<ChunkId> = wanted.into_iter().map(|(_, _, id)| id).collect();
        // At most as many packs are open as will be full, so that small packs become large ones.
        let full = usize::try_from(stored / OBJECT_BYTES_MAX as u64).unwrap_or(usize::MAX);
        let writer = self.store.writer_replacing(numbers, codec, full.max(1));
        self.store.read_each(&ids, |_, raw| writer.put(&raw).map(drop))?;
        writer.finish()
    }

    /// Chunks of these packs that are also in a needed pack outside of them. The index keeps one
    /// place for each chunk, so this reads the index objects.
    fn in_other_packs(&self, numbers: &BTreeSet<u32>) -> Result<HashSet<ChunkId>> {
        let index = self.store.index()?;
        let is_needed =
            |no: u32| self.packs.get(no as usize).is_some_and(|words| words.iter().any(|w| *w != 0));
        let others = (0..).zip(index.pack_paths());
        let others: HashSet<String> =
            others.filter(|(no, _)| is_needed(*no) && !numbers.contains(no)).map(|(_, path)| path).collect();
        let mut found = HashSet::new();
        read_indexes(self.store.objects(), |pack| {
            if others.contains(&ObjectName::Pack(pack.digest).path()) {
                let ids = pack.chunks.into_iter().map(|chunk| chunk.id);
                found.extend(ids.filter(|id| index.get(id).is_some_and(|at| numbers.contains(&at.pack))));
            }
            Ok(())
        })?;
        Ok(found)
    }

    fn numbers(&self, packs: &BTreeSet<String>) -> Result<BTreeSet<u32>> {
        let paths = self.store.packs()?;
        Ok((0..).zip(paths).filter(|(_, path)| packs.contains(path)).map(|(number, _)| number).collect())
    }
}

impl ChunkStore {
    /// Marks for the chunks of this store. None is marked yet.
    ///
    /// # Errors
    /// [`Error::Died`](crate::Error::Died).
    pub fn marks(&self) -> Result<Marks> {
        let chunks = self.index()?.chunks_of_packs();
        let packs = chunks.into_iter().map(|chunks| vec![0; chunks.div_ceil(64) as usize]).collect();
        Ok(Marks { store: self.clone(), packs })
    }

    /// Puts copies of the index objects that list these packs, without the packs. Returns the paths
    /// of the old index objects. Once those are deleted, no index object lists the packs.
    ///
    /// # Errors
    /// An unreadable index object; errors of the repository.
    pub fn index_without(&self, packs: &BTreeSet<String>) -> Result<Vec<String>> {
        let objects = self.objects();
        let goes = |pack: &Pack| packs.contains(&ObjectName::Pack(pack.digest).path());
        let (mut kept, mut old) = (Vec::new(), Vec::new());
        // A listing may lack objects that another listing shows (FAILURES 20). An index object that
        // is missed here would continue to list deleted packs.
        let mut all = self.index()?.objects.clone();
        let listed = objects.list(INDEX)?.into_iter().map(|entry| entry.path);
        all.extend(listed.filter(|path| is_index_path(path)));
        let owner = self.lease()?.owner();
        for path in all {
            let named = read_index(objects, &path)?;
            if named.iter().any(&goes) {
                kept.extend(named.into_iter().filter(|pack| !goes(pack)));
                old.push(path);
            }
            while let Some(full) = take_full(&mut kept) {
                put_index(objects, owner, &full)?;
            }
        }
        put_index(objects, owner, &kept)?;
        Ok(old)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitr_objects::Objects;

    #[test]
    fn a_chunk_that_another_needed_pack_has_is_not_copied() {
        // FAILURES 23: a run died after it had repacked, so chunks are in two packs.
        for (both, copied) in [(true, 1), (false, 2)] {
            let objects = Objects::memory().unwrap();
            // Two writers that do not know of each other store the same chunk.
            let open = || ChunkStore::open(objects.clone()).unwrap();
            let writers = [open(), open()].map(|store| store.writer(Codec::None));
            let ids = [b"first_", b"second"].map(|own: &[u8; 6]| [own, b"shared"]);
            let ids: Vec<[ChunkId; 2]> = writers
                .iter()
                .zip(ids)
                .map(|(writer, raw)| raw.map(|raw| writer.put(raw).unwrap()))
                .collect();
            writers.into_iter().for_each(|writer| _ = writer.finish().unwrap());

            let store = open();
            let pack = |id: &ChunkId| store.place(id).unwrap().unwrap().pack;
            let shared = ids[0][1];
            let mut marks = store.marks().unwrap();
            marks.mark(&shared).unwrap();
            let is_needed = |own: &ChunkId| both || pack(own) == pack(&shared);
            ids.iter()
                .map(|[own, _]| own)
                .filter(|own| is_needed(own))
                .for_each(|own| marks.mark(own).unwrap());
            let old = BTreeSet::from([store.packs().unwrap()[pack(&shared) as usize].clone()]);
            assert_eq!(marks.repack(&old, Codec::None).unwrap().chunks_new, copied, "{both}");
        }
    }
}
