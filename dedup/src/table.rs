//! A sorted table of chunk ids and places in a mapped file, with a filter.
//!
//! Each process that reads the index writes its own table, into a file whose name is removed before
//! it is used. Ids are hashes, so they are spread evenly. The filter divides the range of ids into
//! sixteen equal parts for each chunk, and sets the bit of each part that has a chunk. An unknown
//! id meets a set bit once in sixteen times. Since the table is sorted, the filter is written from
//! front to back and is never in memory as a whole.
//!
//! Building a table takes the memory of [`RUN_ENTRIES`] entries. They are sorted and written to a
//! temporary file as a run. Then the runs are merged; each is read [`READ_ENTRIES`] at a time. A
//! table of less than a run stays in memory.

use crate::ChunkId;
use crate::location::{Location, PackState};
use pitr_vfs::{Env, File, View};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// Size of an entry, bytes: the id, then rank, pack, frame, offset, stored and raw length, 4 bytes
/// each. The state takes the place of the two last bits of a rank, and comes first.
const ENTRY_BYTES: usize = ChunkId::BYTES + 6 * 4;
/// Bits of the state in the first field of an entry.
const CONDEMNED: u32 = 1 << 31;
const MISSING: u32 = CONDEMNED | 1 << 30;
/// Number of entries in a run. A table with fewer entries stays in memory.
pub(crate) const RUN_ENTRIES: usize = 4 << 10;
/// Number of entries of a run that are read together.
const READ_ENTRIES: usize = 64;
/// Bits in the filter for each entry.
const FILTER_BITS: u64 = 16;
/// Size of a write, bytes.
const WRITE_BYTES: usize = 64 << 10;

type Entry = [u8; ENTRY_BYTES];

fn encode(id: &ChunkId, at: &Location) -> Entry {
    let mut entry = [0; ENTRY_BYTES];
    let (name, place) = entry.split_at_mut(ChunkId::BYTES);
    name.copy_from_slice(id.as_bytes());
    let state = match at.state {
        PackState::Kept => 0,
        PackState::Condemned => CONDEMNED,
        PackState::Missing => MISSING,
    };
    let fields = [state | at.rank >> 2, at.pack, at.frame, at.offset, at.stored_len, at.raw_len];
    // Big-endian, so that entries of one chunk sort by state and rank: the best place comes first.
    for (bytes, field) in place.chunks_mut(4).zip(fields) {
        bytes.copy_from_slice(&field.to_be_bytes());
    }
    entry
}

fn decode(entry: &Entry) -> (ChunkId, Location) {
    let mut id = [0; ChunkId::BYTES];
    id.copy_from_slice(&entry[..ChunkId::BYTES]);
    let field = |no: usize| {
        let at = ChunkId::BYTES + no * 4;
        u32::from_be_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]])
    };
    let [first, pack, frame, offset, stored_len, raw_len] = std::array::from_fn(field);
    let state = match first & MISSING {
        MISSING => PackState::Missing,
        0 => PackState::Kept,
        _ => PackState::Condemned,
    };
    let rank = first << 2;
    (ChunkId::from_bytes(id), Location { rank, pack, frame, offset, stored_len, raw_len, state })
}

/// A table with each chunk once.
#[derive(Debug)]
pub(crate) struct Table {
    entries: View,
    filter: View,
}

impl Default for Table {
    fn default() -> Self {
        Table { entries: Vec::new().into(), filter: Vec::new().into() }
    }
}

impl Table {
    fn entries(&self) -> &[Entry] {
        self.entries.as_chunks().0
    }

    /// Merges the entries of several tables into one table.
    pub(crate) fn merged(env: &Env, tables: &[Table]) -> io::Result<Table> {
        let mut rest: Vec<&[Entry]> = tables.iter().map(Table::entries).collect();
        let most = rest.iter().map(|entries| entries.len() as u64).sum();
        let sorted = std::iter::from_fn(|| {
            let least = rest.iter_mut().filter(|rest| !rest.is_empty()).min_by_key(|rest| rest[0])?;
            least.split_off_first().map(|entry| Ok(*entry))
        });
        write(sorted, most, Spool::new(env)?, Spool::new(env)?)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries().len()
    }

    pub(crate) fn get(&self, id: &ChunkId) -> Option<Location> {
        let bit = filter_bit(id.as_bytes(), self.filter.len() as u64 * 8)?;
        if self.filter.get(bit / 8)? >> (bit % 8) & 1 == 0 {
            return None;
        }
        let entries = self.entries();
        let at = entries.partition_point(|entry| entry[..ChunkId::BYTES] < id.as_bytes()[..]);
        let (found, location) = decode(entries.get(at)?);
        (found == *id).then_some(location)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (ChunkId, Location)> {
        self.entries().iter().map(decode)
    }
}

/// The part that contains this id, if the range of ids is divided into `parts` parts; `None` for 0.
fn filter_bit(id: &[u8], parts: u64) -> Option<usize> {
    let (head, _) = id.split_first_chunk::<8>()?;
    let scaled = (u128::from(u64::from_be_bytes(*head)) * u128::from(parts)) >> 64;
    (parts > 0).then_some(scaled as usize) // below `parts`, which are bits of a view
}

/// Builds a table.
pub(crate) struct TableBuilder {
    env: Env,
    run_entries: usize,
    run: Vec<Entry>,
    spool: Option<Spool>,
    runs: Vec<Range<u64>>,
    count: u64,
}

impl TableBuilder {
    pub(crate) fn new(env: &Env) -> Self {
        Self::with_run(env, RUN_ENTRIES)
    }

    fn with_run(env: &Env, run_entries: usize) -> Self {
        let env = env.clone();
        TableBuilder { env, run_entries, run: Vec::new(), spool: None, runs: Vec::new(), count: 0 }
    }

    pub(crate) fn add(&mut self, id: &ChunkId, at: &Location) -> io::Result<()> {
        self.run.push(encode(id, at));
        self.count += 1;
        if self.run.len() == self.run_entries { self.end_run() } else { Ok(()) }
    }

    fn end_run(&mut self) -> io::Result<()> {
        self.run.sort_unstable();
        if self.spool.is_none() {
            self.spool = Some(Spool::new(&self.env)?);
        }
        if let Some(spool) = &mut self.spool {
            let begin = spool.len;
            self.run.iter().try_for_each(|entry| spool.write(entry))?;
            self.runs.push(begin..spool.len);
        }
        self.run.clear();
        Ok(())
    }

    pub(crate) fn finish(mut self) -> io::Result<Table> {
        if self.runs.is_empty() {
            self.run.sort_unstable();
            return write(self.run.into_iter().map(Ok), self.count, Spool::in_memory(), Spool::in_memory());
        }
        self.end_run()?;
        self.run = Vec::new();
        let Some(spool) = self.spool.map(Spool::finish).transpose()?.flatten() else {
            return Ok(Table::default());
        };
        let (entries, filter) = (Spool::new(&self.env)?, Spool::new(&self.env)?);
        write(Merge::new(spool, self.runs)?, self.count, entries, filter)
    }
}

/// Writes a table of at most `most` sorted entries.
fn write(
    sorted: impl Iterator<Item = io::Result<Entry>>,
    most: u64,
    mut entries: Spool,
    mut bits: Spool,
) -> io::Result<Table> {
    let mut filter = Filter::new(most);
    each_once(sorted, |entry| {
        filter.set(entry, |byte| bits.write(&[byte]))?;
        entries.write(entry)
    })?;
    filter.end(|byte| bits.write(&[byte]))?;
    Ok(Table { entries: entries.view()?, filter: bits.view()? })
}

/// Passes the first of several sorted entries with the same id to `take`.
fn each_once(
    entries: impl Iterator<Item = io::Result<Entry>>,
    mut take: impl FnMut(&Entry) -> io::Result<()>,
) -> io::Result<()> {
    let mut last: Option<Entry> = None;
    for entry in entries {
        let entry = entry?;
        let again = last.is_some_and(|last| last[..ChunkId::BYTES] == entry[..ChunkId::BYTES]);
        if !again {
            take(&entry)?;
        }
        last = Some(entry);
    }
    Ok(())
}

/// Computes the bytes of the filter, one after the other.
struct Filter {
    parts: u64,
    byte: usize,
    bits: u8,
}

impl Filter {
    fn new(entries: u64) -> Self {
        Filter { parts: (entries * FILTER_BITS).next_multiple_of(8), byte: 0, bits: 0 }
    }

    fn set(&mut self, entry: &Entry, mut put: impl FnMut(u8) -> io::Result<()>) -> io::Result<()> {
        let Some(bit) = filter_bit(entry, self.parts) else { return Ok(()) };
        while self.byte < bit / 8 {
            put(std::mem::take(&mut self.bits))?;
            self.byte += 1;
        }
        self.bits |= 1 << (bit % 8);
        Ok(())
    }

    fn end(&mut self, mut put: impl FnMut(u8) -> io::Result<()>) -> io::Result<()> {
        while (self.byte as u64) < self.parts / 8 {
            put(std::mem::take(&mut self.bits))?;
            self.byte += 1;
        }
        Ok(())
    }
}

/// Merges sorted runs.
struct Merge {
    spool: Arc<dyn File>,
    runs: Vec<Run>,
    next: BinaryHeap<Reverse<(Entry, usize)>>,
}

/// The rest of a run.
struct Run {
    /// Range of the unread entries in the file.
    rest: Range<u64>,
    /// Entries that were read, in reverse order.
    read: Vec<Entry>,
}

impl Merge {
    fn new(spool: Arc<dyn File>, runs: Vec<Range<u64>>) -> io::Result<Self> {
        let runs: Vec<Run> = runs.into_iter().map(|rest| Run { rest, read: Vec::new() }).collect();
        let mut merge = Merge { spool, runs, next: BinaryHeap::new() };
        (0..merge.runs.len()).try_for_each(|run| merge.advance(run))?;
        Ok(merge)
    }

    fn advance(&mut self, run: usize) -> io::Result<()> {
        let Run { rest, read } = &mut self.runs[run];
        if read.is_empty() {
            let bytes = (READ_ENTRIES * ENTRY_BYTES).min((rest.end - rest.start) as usize);
            let mut buffer = [0; READ_ENTRIES * ENTRY_BYTES];
            self.spool.read_exact_at(&mut buffer[..bytes], rest.start)?;
            read.extend(buffer[..bytes].as_chunks().0.iter().rev());
            rest.start += bytes as u64;
        }
        if let Some(entry) = read.pop() {
            self.next.push(Reverse((entry, run)));
        }
        Ok(())
    }
}

impl Iterator for Merge {
    type Item = io::Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        let Reverse((entry, run)) = self.next.pop()?;
        Some(self.advance(run).map(|()| entry))
    }
}

/// Bytes that are written once, from front to back, and then read: in memory, or in a file without
/// a name.
struct Spool {
    file: Option<Arc<dyn File>>,
    buffer: Vec<u8>,
    len: u64,
    written: u64,
}

impl Spool {
    fn in_memory() -> Self {
        Spool { file: None, buffer: Vec::new(), len: 0, written: 0 }
    }

    fn new(env: &Env) -> io::Result<Self> {
        let number = u64::from_be_bytes(env.random_bytes()?);
        let folder = std::env::temp_dir();
        let path = folder.join(format!("pitr-index-{number:016x}"));
        let file = match env.fs.create_private(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                env.fs.create_dir_all(&folder)?;
                env.fs.create_private(&path)?
            }
            created => created?,
        };
        env.fs.remove_file(&path)?;
        Ok(Spool { file: Some(file), buffer: Vec::with_capacity(WRITE_BYTES), len: 0, written: 0 })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.buffer.len() + bytes.len() > WRITE_BYTES {
            self.flush()?;
        }
        self.buffer.extend_from_slice(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Some(file) = &self.file {
            file.write_all_at(&self.buffer, self.written)?;
            self.written += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }

    /// The complete file.
    fn finish(mut self) -> io::Result<Option<Arc<dyn File>>> {
        self.flush()?;
        Ok(self.file)
    }

    /// The file has no name and gets no more writes, so it can be mapped.
    fn view(mut self) -> io::Result<View> {
        self.flush()?;
        match self.file {
            Some(file) => file.view(self.len),
            None => Ok(self.buffer.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn at(pack: u32) -> Location {
        Location {
            rank: rank(pack),
            pack,
            frame: pack + 1,
            offset: pack + 2,
            stored_len: pack + 3,
            raw_len: pack + 4,
            state: state(pack),
        }
    }

    /// Higher packs have lower ranks, and four neighbours share a rank.
    fn rank(pack: u32) -> u32 {
        !pack & !3
    }

    fn state(pack: u32) -> PackState {
        [PackState::Kept, PackState::Missing, PackState::Condemned][pack as usize % 3]
    }

    fn id(n: u16) -> ChunkId {
        ChunkId::of(&n.to_le_bytes())
    }

    proptest! {
        #[test]
        fn a_table_has_the_best_place_of_each_chunk(added in prop::collection::vec((0..200u16, 0..50u32), 0..300), run in prop_oneof![1..40usize, 40..400usize]) {
            let mut builder = TableBuilder::with_run(&Env::system(), run);
            let mut model: HashMap<ChunkId, u32> = HashMap::new();
            for (n, pack) in &added {
                builder.add(&id(*n), &at(*pack)).unwrap();
                let first = model.entry(id(*n)).or_insert(*pack);
                *first = [*first, *pack].into_iter().min_by_key(|pack| (state(*pack), rank(*pack), *pack)).unwrap();
            }
            let table = builder.finish().unwrap();
            prop_assert_eq!(table.len(), model.len());
            for n in 0..250 {
                prop_assert_eq!(table.get(&id(n)), model.get(&id(n)).map(|pack| at(*pack)));
            }
            let all: HashMap<ChunkId, u32> = table.iter().map(|(id, at)| (id, at.pack)).collect();
            prop_assert_eq!(all, model);
        }
    }

    #[test]
    fn the_filter_rejects_most_unknown_ids() {
        for run in [700, 10_000] {
            let mut builder = TableBuilder::with_run(&Env::system(), run);
            (0..5000).for_each(|n| builder.add(&id(n), &at(0)).unwrap());
            let table = builder.finish().unwrap();
            assert_eq!(table.filter.len(), 10_000);
            let set: u32 = table.filter.iter().map(|byte| byte.count_ones()).sum();
            assert!((4_600..=5_000).contains(&set), "{set}");
        }
    }

    #[test]
    fn the_ends_of_the_range_are_found() {
        for run in [1, 10] {
            let ends = [ChunkId::from_bytes([0; 32]), ChunkId::from_bytes([255; 32])];
            let mut builder = TableBuilder::with_run(&Env::system(), run);
            ends.iter().for_each(|id| builder.add(id, &at(7)).unwrap());
            let table = builder.finish().unwrap();
            assert!(ends.iter().all(|id| table.get(id) == Some(at(7))));
            assert_eq!(Table::default().get(&ends[0]), None);
        }
    }
}
