//! Reads a snapshot.

use crate::assemble::{Parts, check_len};
use crate::cache::ChunkCache;
use crate::differ::Before;
use crate::shape::{EXTENT_BYTES, GROUP_EXTENTS, NODE_EXTENTS, extent_len};
use crate::source::is_zero;
use crate::tree::LoadedNode;
use crate::{Error, FileEntry, FileShape, Manifest, Result};
use pitr_dedup::{ChunkId, ChunkStore, ChunkSums};
use pitr_format::FileId;
use pitr_objects::parallel;
use pitr_vfs::{Buffers, Loan};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex};

/// Size of the overlay chunks that a reader caches, bytes.
const CACHE_BYTES: usize = 64 << 20;
/// Number of nodes that a reader caches.
const NODES_MAX: usize = 4;

type NodeKey = (FileId, u64);

/// An error of the caller's `work`. Errors of reading are converted to it.
struct Failure<E>(E);

impl<E: From<Error>> From<pitr_dedup::Error> for Failure<E> {
    fn from(error: pitr_dedup::Error) -> Self {
        Failure(Error::from(error).into())
    }
}

/// Reads the extents of a snapshot, from any number of threads. It caches up to 64 MiB of overlay
/// chunks and the leaves of four nodes.
#[derive(Debug)]
pub struct SnapshotReader {
    store: ChunkStore,
    sums: ChunkSums,
    manifest: Manifest,
    chunks: ChunkCache,
    nodes: Mutex<VecDeque<(NodeKey, Arc<LoadedNode>)>>,
    buffers: Buffers,
}

impl SnapshotReader {
    /// Creates a reader of this snapshot. Reads nothing yet.
    #[must_use]
    pub fn open(store: ChunkStore, manifest: Manifest) -> Self {
        let (sums, chunks) = (store.sums(), ChunkCache::new(CACHE_BYTES));
        let (nodes, buffers) = (Mutex::default(), Buffers::default());
        SnapshotReader { store, sums, manifest, chunks, nodes, buffers }
    }

    /// The snapshot.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The shape of a file of the snapshot.
    ///
    /// # Errors
    /// [`Error::NoFile`].
    pub fn file(&self, file: FileId) -> Result<&FileShape> {
        Ok(&self.entry(file)?.shape)
    }

    /// Number of extents of a file.
    ///
    /// # Errors
    /// [`Error::NoFile`].
    pub fn extents(&self, file: FileId) -> Result<u64> {
        Ok(self.entry(file)?.extents())
    }

    /// The range of an extent in its file.
    ///
    /// Extents start at multiples of 1 MiB, or at the cuts of a file without blocks. An extent is
    /// not empty and is at most [`EXTENT_BYTES`] long.
    ///
    /// # Errors
    /// [`Error::NoFile`], [`Error::NoExtent`]; errors that name a damaged leaf.
    pub fn span(&self, file: FileId, extent: u64) -> Result<Range<u64>> {
        let entry = self.entry(file)?;
        if entry.shape.has_blocks() && extent < entry.extents() {
            return Ok(span_of_blocks(entry, extent)); // needs no leaf
        }
        Ok(span(entry, &*self.node_of(entry, extent)?, extent))
    }

    /// The extent that contains the byte at `offset`, which must be within the file.
    fn extent_at(&self, entry: &FileEntry, offset: u64) -> Result<u64> {
        let Some(cut) = &entry.cut else { return Ok(offset / EXTENT_BYTES) };
        let node = cut.ends.partition_point(|end| *end <= offset) as u64;
        let bounds = &self.node(entry, node)?.bounds;
        Ok(node * NODE_EXTENTS + bounds.partition_point(|bound| *bound <= offset).saturating_sub(1) as u64)
    }

    /// Reads an extent.
    ///
    /// # Errors
    /// [`Error::NoFile`], [`Error::NoExtent`]; errors that name a damaged leaf or chunk.
    pub fn read_extent(&self, file: FileId, extent: u64) -> Result<Vec<u8>> {
        let entry = self.entry(file)?;
        let node = self.node_of(entry, extent)?;
        let id = node.ids[(extent % NODE_EXTENTS) as usize]; // a leaf has all extents of its node
        let mut bytes = if id == ChunkId::ZERO { Vec::new() } else { self.store.read(&id)? };
        bytes.resize(self.len_of(entry, &node, extent, bytes.len())?, 0);
        self.apply_overlay(entry, &node, extent, &mut bytes)?;
        Ok(bytes)
    }

    /// Reads extents of a file, given in ascending order, and runs `work` on each, on all threads.
    /// `work` receives the number and the bytes of the extent. Chunks are read ahead in large
    /// requests.
    ///
    /// # Errors
    /// Like [`read_extent`](Self::read_extent); the errors of `work`.
    pub fn read_extents<E: From<Error> + Send>(
        &self,
        file: FileId,
        wanted: &[u64],
        work: impl Fn(u64, Loan) -> Result<(), E> + Sync,
    ) -> Result<(), E> {
        let entry = self.entry(file)?;
        if let Some(extent) = wanted.last().filter(|last| **last >= entry.extents()) {
            return Err(Error::NoExtent { file, extent: *extent }.into());
        }
        for of_node in wanted.chunk_by(|a, b| a / NODE_EXTENTS == b / NODE_EXTENTS) {
            let node = self.node(entry, of_node[0] / NODE_EXTENTS)?; // a run is never empty
            // A leaf has all extents of its node.
            let id = |extent: u64| node.ids[(extent % NODE_EXTENTS) as usize];
            let (zero, stored): (Vec<u64>, Vec<u64>) =
                of_node.iter().partition(|extent| id(**extent) == ChunkId::ZERO);
            let over_zeros = |extent| {
                let mut bytes = self.buffers.lend(self.len_of(entry, &node, extent, 0)?);
                bytes.fill(0);
                self.apply_overlay(entry, &node, extent, &mut bytes)?;
                work(extent, bytes)
            };
            parallel::map::<_, _, Result<(), E>>(self.store.objects().env().spawn, zero, over_zeros)?;
            let ids: Vec<ChunkId> = stored.iter().map(|extent| id(*extent)).collect();
            let read = self.store.read_each(&ids, |place, mut bytes| {
                let extent = stored[place];
                let len = self.len_of(entry, &node, extent, bytes.len()).map_err(|e| Failure(e.into()))?;
                bytes.buffer().resize(len);
                self.apply_overlay(entry, &node, extent, &mut bytes).map_err(|e| Failure(e.into()))?;
                work(extent, bytes).map_err(Failure)
            });
            read.map_err(|Failure(error)| error)?;
        }
        Ok(())
    }

    /// True if an extent has these bytes, according to their hashes. The extent's content is not
    /// read. False may also mean that the hashes cannot tell.
    ///
    /// # Errors
    /// Like [`read_extent`](Self::read_extent), except for damaged content, which equals no bytes.
    pub fn is_extent(&self, file: FileId, extent: u64, bytes: &[u8]) -> Result<bool> {
        let entry = self.entry(file)?;
        let node = self.node_of(entry, extent)?;
        let Range { start, end } = span(entry, &node, extent);
        if bytes.len() as u64 != end - start {
            return Ok(false);
        }
        if !entry.shape.has_blocks() {
            // A leaf has all extents of its node.
            let id = node.ids[(extent % NODE_EXTENTS) as usize];
            return Ok(if id == ChunkId::ZERO { is_zero(bytes) } else { self.store.ids().of(bytes) == id });
        }
        match self.differing(file, extent, bytes) {
            Ok(pieces) => Ok(!pieces.contains(&true)),
            Err(Error::Chunks(error)) if error.kind().is_of_one_object() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// For each 4 KiB piece of `now`: true if it may differ from the snapshot, which continues with
    /// zeros after its end.
    ///
    /// The file must have blocks and must have the extent. Reads leaves and footers of packs, but
    /// no content.
    ///
    /// # Errors
    /// Like [`read_extent`](Self::read_extent).
    pub fn differing(&self, file: FileId, extent: u64, now: &[u8]) -> Result<Vec<bool>> {
        let entry = self.entry(file)?;
        let node = self.node(entry, extent / NODE_EXTENTS)?;
        let base = node.ids[(extent % NODE_EXTENTS) as usize]; // a leaf has all extents of its node
        let parts = parts(entry, &node, extent);
        Before { store: &self.store, sums: &self.sums, base, parts }.differing(now)
    }

    /// Length of an extent whose chunk has `had` bytes.
    fn len_of(&self, entry: &FileEntry, node: &LoadedNode, extent: u64, had: usize) -> Result<usize> {
        let id = node.ids[(extent % NODE_EXTENTS) as usize]; // a leaf has all extents of its node
        let Range { start, end } = span(entry, node, extent);
        let len = (end - start) as usize; // at most EXTENT_BYTES
        if !entry.shape.has_blocks() && id != ChunkId::ZERO && had != len {
            return Err(Error::Misused { id, what: "its length differs from that of its extent" });
        }
        check_len(id, had).map(|()| len)
    }

    /// Applies the overlay of an extent to the bytes of its chunk, which already have the extent's
    /// length.
    fn apply_overlay(
        &self,
        entry: &FileEntry,
        node: &LoadedNode,
        extent: u64,
        bytes: &mut [u8],
    ) -> Result<()> {
        if !entry.shape.has_blocks() {
            return Ok(());
        }
        let read = |id: &ChunkId, buffers: &Buffers| Ok(self.store.read_into(id, |len| buffers.lend(len))?);
        parts(entry, node, extent).assemble(bytes, |id| self.chunks.get(id, read))
    }

    /// Fills `buf` from `offset` of a file. Bytes past the file's end are zeros.
    ///
    /// # Errors
    /// Like [`read_extent`](Self::read_extent).
    pub fn read_at(&self, file: FileId, offset: u64, buf: &mut [u8]) -> Result<()> {
        let entry = self.entry(file)?;
        let there = entry.shape.len.saturating_sub(offset).min(buf.len() as u64) as usize;
        let (mut rest, past_end) = buf.split_at_mut(there);
        past_end.fill(0);
        let mut at = offset;
        while !rest.is_empty() {
            let extent = self.extent_at(entry, at)?;
            let within = (at - self.span(file, extent)?.start) as usize; // less than an extent
            let bytes = self.read_extent(file, extent)?;
            let have = bytes.get(within..).filter(|have| !have.is_empty());
            let have = have.ok_or(Error::NoExtent { file, extent })?;
            let (now, later) = rest.split_at_mut(have.len().min(rest.len()));
            now.copy_from_slice(&have[..now.len()]);
            at += now.len() as u64; // within the file
            rest = later;
        }
        Ok(())
    }

    fn entry(&self, file: FileId) -> Result<&FileEntry> {
        self.manifest.file(file).ok_or(Error::NoFile { file })
    }

    /// The node of an extent.
    fn node_of(&self, entry: &FileEntry, extent: u64) -> Result<Arc<LoadedNode>> {
        if extent >= entry.extents() {
            return Err(Error::NoExtent { file: entry.shape.file, extent });
        }
        self.node(entry, extent / NODE_EXTENTS)
    }

    fn node(&self, entry: &FileEntry, number: u64) -> Result<Arc<LoadedNode>> {
        let key = (entry.shape.file, number);
        let find = |nodes: &VecDeque<(NodeKey, Arc<LoadedNode>)>| {
            nodes.iter().find(|(at, _)| *at == key).map(|(_, node)| Arc::clone(node))
        };
        if let Some(node) = find(&*self.nodes.lock().map_err(|_| Error::Died)?) {
            return Ok(node);
        }
        if number >= entry.nodes.len() as u64 {
            return Err(Error::NoExtent { file: entry.shape.file, extent: number * NODE_EXTENTS });
        }
        let loaded = Arc::new(LoadedNode::load(&self.store, entry, number)?);
        let mut nodes = self.nodes.lock().map_err(|_| Error::Died)?;
        nodes.push_back((key, Arc::clone(&loaded)));
        if nodes.len() > NODES_MAX {
            nodes.pop_front();
        }
        Ok(loaded)
    }
}

/// The range of an extent in its file.
fn span(entry: &FileEntry, node: &LoadedNode, extent: u64) -> Range<u64> {
    if entry.shape.has_blocks() {
        return span_of_blocks(entry, extent);
    }
    let at = (extent % NODE_EXTENTS) as usize;
    node.bounds[at]..node.bounds[at + 1] // there is one more bound than extents
}

fn span_of_blocks(entry: &FileEntry, extent: u64) -> Range<u64> {
    let start = extent * EXTENT_BYTES; // within the file
    start..start + extent_len(entry.shape.len, extent) as u64
}

/// The overlay of an extent.
fn parts<'a>(entry: &FileEntry, node: &'a LoadedNode, extent: u64) -> Parts<'a> {
    let in_node = extent % NODE_EXTENTS;
    let geometry = entry.shape.geometry();
    // A loaded node has all its groups.
    let overlay = &node.overlays[(in_node / GROUP_EXTENTS) as usize];
    let first_block = in_node % GROUP_EXTENTS * geometry.blocks_per_extent();
    Parts {
        geometry,
        len: extent_len(entry.shape.len, extent),
        first_block,
        blocks: overlay.range(first_block, first_block + geometry.blocks_per_extent()),
        chunks: &overlay.chunks,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Cut, Node};
    use crate::{Sizes, Snapshot, SnapshotId, SnapshotKind, SnapshotMeta, extent_leaf};
    use pitr_codec::Codec;
    use pitr_format::{Epoch, Lsn, SourceName, TimelineId, Timestamp, TxId};
    use pitr_objects::Objects;

    /// A snapshot of one file without blocks. The file is one extent of `len` bytes, stored as this
    /// chunk.
    fn cut_file(store: &ChunkStore, chunk: &[u8], len: u32) -> SnapshotReader {
        let writer = store.writer(Codec::None);
        let id = writer.put(chunk).unwrap();
        let leaf = writer.put(&extent_leaf::encode_cut(&[(id, len)])).unwrap();
        writer.finish().unwrap();
        let (file, len) = (FileId::FIRST, u64::from(len));
        let shape = FileShape { file, name: "text".into(), len, block_bytes: 0 };
        let nodes = vec![Node { extents: leaf, overlays: Vec::new() }];
        let files = vec![FileEntry { shape, nodes, cut: Some(Cut { extents: 1, ends: vec![len] }) }];
        let meta = SnapshotMeta {
            source: SourceName::new("s").unwrap(),
            engine: "e".into(),
            timeline: TimelineId::FIRST,
            epoch: Epoch::FIRST,
            redo_from: Lsn::new(1),
            consistent_at: Lsn::new(1),
            time: Timestamp::MIN,
            tx: TxId::new(1),
            codec: Codec::None,
            created: Timestamp::MIN,
            attributes: None,
        };
        let (id, sizes) = (SnapshotId([1; 16]), Sizes::default());
        let manifest = Manifest {
            snapshot: Snapshot { id, kind: SnapshotKind::Full, parent: None, meta, sizes },
            files: Arc::new(files),
            leaves: Vec::new(),
        };
        SnapshotReader::open(store.clone(), manifest)
    }

    #[test]
    fn a_chunk_of_another_length_than_its_extent_is_refused() {
        let store = ChunkStore::open(Objects::memory().unwrap()).unwrap();
        assert_eq!(cut_file(&store, b"hello", 5).read_extent(FileId::FIRST, 0).unwrap(), b"hello");
        for len in [4, 6] {
            let error = cut_file(&store, b"hello", len).read_extent(FileId::FIRST, 0).unwrap_err();
            assert!(matches!(error, Error::Misused { .. }), "{error}");
            let nothing = |_, _| Ok::<(), Error>(());
            let read = cut_file(&store, b"hello", len).read_extents(FileId::FIRST, &[0], nothing);
            assert!(matches!(read, Err(Error::Misused { .. })));
        }
    }
}
