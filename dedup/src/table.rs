//! Chunks and where they lie, sorted by id, in a file that is mapped; and a filter in front of it.
//!
//! The table is made anew each time an index is read, in a file that has lost its name before it is used: it is this process's
//! alone. Ids are hashes, so that they are spread evenly. The filter is a bit for each of sixteen equal parts of the
//! ids' range for each chunk: the bit of a part with a chunk is set. An id that is not there meets a set bit once in
//! sixteen times; and since the table is sorted the filter is written from front to back, without being held in memory.
//!
//! Memory while a table is made: [`RUN_ENTRIES`] entries. They are sorted, written aside as a run, and the runs merged, of which
//! each is read by [`READ_ENTRIES`]. A table that is less than a run is held in memory.

use crate::ChunkId;
use crate::index::{Location, Standing};
use pitr_vfs::{File, FileSystem, OsFs, View};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes of an entry: the id, then pack, frame, offset, stored and raw length, 4 bytes each; the pack's first bit is set if it
/// does not stay, the second one if it is gone.
const ENTRY_BYTES: usize = ChunkId::BYTES + 5 * 4;
/// Set in the first field of an entry: nobody has a thousand million packs.
const CONDEMNED: u32 = 1 << 31;
const GONE: u32 = CONDEMNED | 1 << 30;
/// Entries that are sorted at once. A table of fewer is held in memory.
pub(crate) const RUN_ENTRIES: usize = 4 << 10;
/// Entries of a run that are read at once.
const READ_ENTRIES: usize = 64;
/// Bits of the filter for each entry.
const FILTER_BITS: u64 = 16;
/// Bytes that are written at once.
const WRITE_BYTES: usize = 64 << 10;

type Entry = [u8; ENTRY_BYTES];

fn encode(id: &ChunkId, at: &Location) -> Entry {
    let mut entry = [0; ENTRY_BYTES];
    let (name, place) = entry.split_at_mut(ChunkId::BYTES);
    name.copy_from_slice(id.as_bytes());
    let standing = match at.standing {
        Standing::Stays => 0,
        Standing::Condemned => CONDEMNED,
        Standing::Gone => GONE,
    };
    let pack = at.pack | standing;
    let fields = [pack, at.frame, at.offset, at.stored_len, at.raw_len];
    // Packs in an order that bytes have too, the condemned ones behind them and those that are gone last: of a chunk that is in several the first comes first.
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
    let (first, frame, offset, stored_len, raw_len) = (field(0), field(1), field(2), field(3), field(4));
    let standing = match first & GONE {
        GONE => Standing::Gone,
        0 => Standing::Stays,
        _ => Standing::Condemned,
    };
    let pack = first & !GONE;
    (ChunkId::from_bytes(id), Location { pack, frame, offset, stored_len, raw_len, standing })
}

/// Each chunk once.
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

    /// One table of what is in these.
    pub(crate) fn merged(tables: &[Table]) -> io::Result<Table> {
        let mut rest: Vec<&[Entry]> = tables.iter().map(Table::entries).collect();
        let most = rest.iter().map(|entries| entries.len() as u64).sum();
        let sorted = std::iter::from_fn(|| {
            let least = rest.iter_mut().filter(|rest| !rest.is_empty()).min_by_key(|rest| rest[0])?;
            least.split_off_first().map(|entry| Ok(*entry))
        });
        write(sorted, most, Spool::new()?, Spool::new()?)
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

/// The part of the ids' range, of so many, that an id lies in; `None` of none.
fn filter_bit(id: &[u8], parts: u64) -> Option<usize> {
    let (head, _) = id.split_first_chunk::<8>()?;
    let scaled = (u128::from(u64::from_be_bytes(*head)) * u128::from(parts)) >> 64;
    (parts > 0).then_some(scaled as usize) // below `parts`, which are bits of a view
}

/// Makes a table.
pub(crate) struct TableBuilder {
    run_entries: usize,
    run: Vec<Entry>,
    aside: Option<Spool>,
    runs: Vec<Range<u64>>,
    count: u64,
}

impl TableBuilder {
    pub(crate) fn new() -> Self {
        Self::with_run(RUN_ENTRIES)
    }

    fn with_run(run_entries: usize) -> Self {
        TableBuilder { run_entries, run: Vec::new(), aside: None, runs: Vec::new(), count: 0 }
    }

    pub(crate) fn add(&mut self, id: &ChunkId, at: &Location) -> io::Result<()> {
        self.run.push(encode(id, at));
        self.count += 1;
        if self.run.len() == self.run_entries { self.end_run() } else { Ok(()) }
    }

    fn end_run(&mut self) -> io::Result<()> {
        self.run.sort_unstable();
        if self.aside.is_none() {
            self.aside = Some(Spool::new()?);
        }
        if let Some(aside) = &mut self.aside {
            let begin = aside.len;
            self.run.iter().try_for_each(|entry| aside.write(entry))?;
            self.runs.push(begin..aside.len);
        }
        self.run.clear();
        Ok(())
    }

    pub(crate) fn finish(mut self) -> io::Result<Table> {
        if self.runs.is_empty() {
            self.run.sort_unstable();
            return write(self.run.into_iter().map(Ok), self.count, Spool::held(), Spool::held());
        }
        self.end_run()?;
        self.run = Vec::new();
        let Some(aside) = self.aside.map(Spool::end).transpose()?.flatten() else {
            return Ok(Table::default());
        };
        write(Merge::new(aside, self.runs)?, self.count, Spool::new()?, Spool::new()?)
    }
}

/// Writes a table of sorted entries, of which there are at most so many.
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

/// Hands out the first of entries, in order, that have the same id.
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

/// The filter's bytes, which become known one after the other.
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

/// Entries of several sorted runs, in order.
struct Merge {
    aside: Arc<dyn File>,
    runs: Vec<Run>,
    next: BinaryHeap<Reverse<(Entry, usize)>>,
}

/// What is left of a run.
struct Run {
    /// Where what has not been read lies.
    rest: Range<u64>,
    /// What has been, the next entry last.
    read: Vec<Entry>,
}

impl Merge {
    fn new(aside: Arc<dyn File>, runs: Vec<Range<u64>>) -> io::Result<Self> {
        let runs: Vec<Run> = runs.into_iter().map(|rest| Run { rest, read: Vec::new() }).collect();
        let mut merge = Merge { aside, runs, next: BinaryHeap::new() };
        (0..merge.runs.len()).try_for_each(|run| merge.advance(run))?;
        Ok(merge)
    }

    fn advance(&mut self, run: usize) -> io::Result<()> {
        let Run { rest, read } = &mut self.runs[run];
        if read.is_empty() {
            let bytes = (READ_ENTRIES * ENTRY_BYTES).min((rest.end - rest.start) as usize);
            let mut buffer = [0; READ_ENTRIES * ENTRY_BYTES];
            self.aside.read_exact_at(&mut buffer[..bytes], rest.start)?;
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

/// Bytes that are written once, from front to back, and then read: in memory, or in a file without a name.
struct Spool {
    file: Option<Arc<dyn File>>,
    buffer: Vec<u8>,
    len: u64,
    written: u64,
}

impl Spool {
    fn held() -> Self {
        Spool { file: None, buffer: Vec::new(), len: 0, written: 0 }
    }

    fn new() -> io::Result<Self> {
        let name = pitr_objects::random_id().map_err(io::Error::other)?;
        let path: PathBuf = std::env::temp_dir().join(format!("pitr-index-{name}"));
        let file = OsFs.create_private(&path)?;
        OsFs.remove_file(&path)?;
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

    /// The file, with all of it.
    fn end(mut self) -> io::Result<Option<Arc<dyn File>>> {
        self.flush()?;
        Ok(self.file)
    }

    /// Nobody writes to the file any more, and nobody else ever could.
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
            pack,
            frame: pack + 1,
            offset: pack + 2,
            stored_len: pack + 3,
            raw_len: pack + 4,
            standing: standing(pack),
        }
    }

    fn standing(pack: u32) -> Standing {
        [Standing::Stays, Standing::Gone, Standing::Condemned][pack as usize % 3]
    }

    fn id(n: u16) -> ChunkId {
        ChunkId::of(&n.to_le_bytes())
    }

    proptest! {
        #[test]
        fn a_table_holds_of_each_the_first_that_stays(added in prop::collection::vec((0..200u16, 0..50u32), 0..300), run in prop_oneof![1..40usize, 40..400usize]) {
            let mut builder = TableBuilder::with_run(run);
            let mut model: HashMap<ChunkId, u32> = HashMap::new();
            for (n, pack) in &added {
                builder.add(&id(*n), &at(*pack)).unwrap();
                let first = model.entry(id(*n)).or_insert(*pack);
                *first = [*first, *pack].into_iter().min_by_key(|pack| (standing(*pack), *pack)).unwrap();
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
    fn the_filter_keeps_most_strangers_from_the_table() {
        for run in [700, 10_000] {
            let mut builder = TableBuilder::with_run(run);
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
            let mut builder = TableBuilder::with_run(run);
            ends.iter().for_each(|id| builder.add(id, &at(7)).unwrap());
            let table = builder.finish().unwrap();
            assert!(ends.iter().all(|id| table.get(id) == Some(at(7))));
            assert_eq!(Table::default().get(&ends[0]), None);
        }
    }
}
