//! Reading many chunks: a few large requests, ahead of the work on their chunks.

use crate::location::{Location, PackAt};
use crate::store::decode_chunk;
use crate::{ChunkId, ChunkIds, ChunkStore, Error, Result};
use pitr_objects::{Bytes, parallel};
use pitr_vfs::{Buffer, Loan};
use std::collections::HashMap;
use std::ops::Range;

/// Maximum gap between two wanted chunks of a pack that one request reads, bytes.
const GAP_BYTES_MAX: u32 = 256 << 10;
/// Maximum size of a request, bytes.
const REQUEST_BYTES_MAX: u32 = 8 << 20;
/// Number of requests in flight, and of answers that wait for a thread.
const REQUESTS_MAX: usize = 4;
/// Size of most chunks, bytes. The buffer of a thread grows for a longer one.
const RAW_BYTES: usize = 1 << 20;

struct Wanted {
    place: usize,
    id: ChunkId,
    /// Number of the pack, in the order of first use.
    pack: usize,
    location: Location,
}

impl ChunkStore {
    /// Reads many chunks and calls `work` for each, in all threads, with its position in `ids` and
    /// its bytes. Packs are read in the order in which `ids` first needs them, each from front to
    /// back. Memory: up to 64 MiB of stored bytes, and a chunk for each thread.
    ///
    /// # Errors
    /// Those of [`read`](Self::read); errors of `work`. After an error no new work starts.
    pub fn read_each<E: From<Error> + Send>(
        &self,
        ids: &[ChunkId],
        work: impl Fn(usize, Loan) -> Result<(), E> + Sync,
    ) -> Result<(), E> {
        let (wanted, packs) = self.in_order(ids)?;
        let (requests, names) = (requests(&wanted), self.ids());
        let fetch = |request: &Range<usize>| Ok(self.fetch(&wanted[request.clone()], &packs)?);
        let spawn = self.objects().env().spawn;
        parallel::ahead(spawn, REQUESTS_MAX, &requests, fetch, |request, bytes| {
            let some = &wanted[request.clone()];
            some.iter().try_for_each(|one| {
                // Threads are short-lived. The allocator would keep the memory that each of them
                // frees.
                let mut raw = self.buffers.lend(RAW_BYTES);
                decode(one, &names, (some, &bytes), &packs[one.pack], raw.buffer())?;
                work(one.place, raw)
            })
        })
    }

    /// The wanted chunks in the order of reading, and their packs in the order of first use.
    fn in_order(&self, ids: &[ChunkId]) -> Result<(Vec<Wanted>, Vec<PackAt>)> {
        let (mut packs, mut numbers) = (Vec::new(), HashMap::new());
        let mut wanted = Vec::with_capacity(ids.len());
        for (place, id) in ids.iter().enumerate() {
            let location = self.locate(id)?;
            let pack = *numbers.entry(location.pack).or_insert(packs.len());
            if pack == packs.len() {
                packs.push(self.pack(&location)?);
            }
            wanted.push(Wanted { place, id: *id, pack, location });
        }
        wanted.sort_by_key(|one| (one.pack, one.location.offset));
        Ok((wanted, packs))
    }

    /// Reads chunks of one pack with one request.
    fn fetch(&self, some: &[Wanted], packs: &[PackAt]) -> Result<Bytes> {
        let (Some(first), Some(last)) = (some.first(), some.last()) else { return Ok(Bytes::new()) };
        let start = u64::from(first.location.offset);
        let end = u64::from(last.location.offset) + u64::from(last.location.stored_len);
        Ok(self.objects().get_range(&packs[first.pack].path, start..end)?)
    }
}

/// Decodes a chunk of a request into `raw`.
fn decode(
    one: &Wanted,
    ids: &ChunkIds,
    (some, bytes): (&[Wanted], &[u8]),
    pack: &PackAt,
    raw: &mut Buffer,
) -> Result<()> {
    let at = (one.location.offset - some[0].location.offset) as usize; // sorted by offset
    let stored = &bytes[at..at + one.location.stored_len as usize];
    raw.set_len(one.location.raw_len as usize); // at most CHUNK_BYTES_MAX
    decode_chunk(raw, ids, &one.id, pack, &one.location, stored)
}

/// Divides the wanted chunks into ranges of one request each.
fn requests(wanted: &[Wanted]) -> Vec<Range<usize>> {
    let mut requests: Vec<Range<usize>> = Vec::new();
    for (no, one) in wanted.iter().enumerate() {
        let joins = requests.last().is_some_and(|last| {
            let (first, before) = (&wanted[last.start].location, &wanted[no - 1].location);
            if wanted[last.start].pack != one.pack {
                return false;
            }
            let gap = one.location.offset.saturating_sub(before.offset + before.stored_len);
            let whole = one.location.offset + one.location.stored_len - first.offset;
            gap <= GAP_BYTES_MAX && whole <= REQUEST_BYTES_MAX
        });
        match requests.last_mut() {
            Some(last) if joins => last.end = no + 1,
            _ => requests.push(no..no + 1),
        }
    }
    requests
}
