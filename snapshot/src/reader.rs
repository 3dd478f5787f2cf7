//! Reading a snapshot back.

use crate::assemble::Parts;
use crate::cache::ChunkCache;
use crate::differ::Before;
use crate::shape::{EXTENT_BYTES, GROUP_EXTENTS, NODE_EXTENTS, extent_len, extents, extents_of_node};
use crate::tree::LoadedNode;
use crate::{Error, FileEntry, FileShape, Manifest, Result};
use pitr_dedup::{ChunkId, ChunkStore, ChunkSums};
use pitr_format::FileId;
use rayon::prelude::*;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

/// Bytes of overlay chunks that a reader keeps.
const CACHE_BYTES: usize = 64 << 20;
/// Nodes that a reader keeps.
const NODES_MAX: usize = 4;

type NodeKey = (FileId, u64);

/// An error of whoever works on what is read; those of reading become one.
struct Failure<E>(E);

impl<E: From<Error>> From<pitr_dedup::Error> for Failure<E> {
    fn from(error: pitr_dedup::Error) -> Self {
        Failure(Error::from(error).into())
    }
}

/// Reads the extents of a snapshot, from any number of threads. It keeps up to 64 MiB of overlay chunks and the leaves
/// of four nodes.
#[derive(Debug)]
pub struct SnapshotReader {
    store: ChunkStore,
    sums: ChunkSums,
    manifest: Manifest,
    chunks: ChunkCache,
    nodes: Mutex<VecDeque<(NodeKey, Arc<LoadedNode>)>>,
}

impl SnapshotReader {
    /// A reader of this snapshot; nothing is read yet.
    #[must_use]
    pub fn open(store: ChunkStore, manifest: Manifest) -> Self {
        let (sums, chunks) = (store.sums(), ChunkCache::new(CACHE_BYTES));
        SnapshotReader { store, sums, manifest, chunks, nodes: Mutex::default() }
    }

    /// The snapshot.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// A file of the snapshot.
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
        Ok(extents(self.file(file)?.len))
    }

    /// The bytes of an extent, 1 MiB or what the file has of the last one.
    ///
    /// # Errors
    /// [`Error::NoFile`], [`Error::NoExtent`]; what is damaged in the tree or in the chunks, by name.
    pub fn read_extent(&self, file: FileId, extent: u64) -> Result<Vec<u8>> {
        let entry = self.entry(file)?;
        let len = entry.shape.len;
        if extent >= extents(len) {
            return Err(Error::NoExtent { file, extent });
        }
        let node = self.node(entry, extent / NODE_EXTENTS)?;
        let id = node.ids[(extent % NODE_EXTENTS) as usize]; // a leaf has all extents of its node
        let mut bytes = if id == ChunkId::ZERO { Vec::new() } else { self.store.read(&id)? };
        self.assemble(entry, &node, extent, &mut bytes)?;
        Ok(bytes)
    }

    /// Reads extents of a file, in ascending order, and has `work` done on each by all threads: its number, and its
    /// bytes. Their chunks are read ahead, in large requests.
    ///
    /// # Errors
    /// As [`read_extent`](Self::read_extent); what `work` returns.
    pub fn read_extents<E: From<Error> + Send>(
        &self,
        file: FileId,
        wanted: &[u64],
        work: impl Fn(u64, &[u8]) -> Result<(), E> + Sync,
    ) -> Result<(), E> {
        let entry = self.entry(file)?;
        if let Some(extent) = wanted.last().filter(|last| **last >= extents(entry.shape.len)) {
            return Err(Error::NoExtent { file, extent: *extent }.into());
        }
        for of_node in wanted.chunk_by(|a, b| a / NODE_EXTENTS == b / NODE_EXTENTS) {
            let node = self.node(entry, of_node[0] / NODE_EXTENTS)?; // a run is not empty
            let id = |extent: u64| node.ids[(extent % NODE_EXTENTS) as usize]; // a leaf has all of its node
            let (zero, stored): (Vec<u64>, Vec<u64>) =
                of_node.iter().partition(|extent| id(**extent) == ChunkId::ZERO);
            zero.into_par_iter().try_for_each(|extent| {
                let mut bytes = Vec::new();
                self.assemble(entry, &node, extent, &mut bytes)?;
                work(extent, &bytes)
            })?;
            let ids: Vec<ChunkId> = stored.iter().map(|extent| id(*extent)).collect();
            let read = self.store.read_each(&ids, |place, bytes| {
                self.assemble(entry, &node, stored[place], bytes).map_err(|e| Failure(e.into()))?;
                work(stored[place], bytes).map_err(Failure)
            });
            read.map_err(|Failure(error)| error)?;
        }
        Ok(())
    }

    /// True if these are the bytes of an extent, by their hashes; what it holds is not read. False may also mean that hashes
    /// don't tell.
    ///
    /// # Errors
    /// As [`read_extent`](Self::read_extent), but for damage of content, which is nobody's bytes.
    pub fn is_extent(&self, file: FileId, extent: u64, bytes: &[u8]) -> Result<bool> {
        if bytes.len() != extent_len(self.file(file)?.len, extent) {
            return Ok(false);
        }
        match self.differing(file, extent, bytes) {
            Ok(pieces) => Ok(!pieces.contains(&true)),
            Err(Error::Chunks(error)) if error.kind().is_of_one_object() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// For each piece of 4 KiB of `now`, which stands in the place of an extent that the file has: true if it may differ from
    /// what the snapshot has, behind whose end there are zeros. Leaves and footers of packs are read, and no content.
    pub(crate) fn differing(&self, file: FileId, extent: u64, now: &[u8]) -> Result<Vec<bool>> {
        let entry = self.entry(file)?;
        let node = self.node(entry, extent / NODE_EXTENTS)?;
        let base = node.ids[(extent % NODE_EXTENTS) as usize]; // a leaf has all extents of its node
        let parts = parts(entry, &node, extent);
        Before { store: &self.store, sums: &self.sums, base, parts }.differing(now)
    }

    /// Lays what lies over an extent over the content of its chunk.
    fn assemble(&self, entry: &FileEntry, node: &LoadedNode, extent: u64, bytes: &mut Vec<u8>) -> Result<()> {
        let id = node.ids[(extent % NODE_EXTENTS) as usize]; // a leaf has all extents of its node
        let fetch = |id: &ChunkId| self.chunks.get(id, || Ok(self.store.read(id)?));
        parts(entry, node, extent).assemble(id, bytes, fetch)
    }

    /// Fills `buf` from `offset` of a file; past the file's end with zeros.
    ///
    /// # Errors
    /// As [`read_extent`](Self::read_extent).
    pub fn read_at(&self, file: FileId, offset: u64, buf: &mut [u8]) -> Result<()> {
        let extents = self.extents(file)?;
        let mut at = offset;
        let mut rest = buf;
        while !rest.is_empty() {
            let (extent, within) = (at / EXTENT_BYTES, (at % EXTENT_BYTES) as usize);
            let step = rest.len().min(EXTENT_BYTES as usize - within);
            let (now, later) = rest.split_at_mut(step);
            now.fill(0);
            if extent < extents {
                let bytes = self.read_extent(file, extent)?;
                let have = bytes.get(within..).unwrap_or(&[]);
                let have = &have[..have.len().min(step)];
                now[..have.len()].copy_from_slice(have);
            }
            rest = later;
            at = at.saturating_add(step as u64);
        }
        Ok(())
    }

    fn entry(&self, file: FileId) -> Result<&FileEntry> {
        self.manifest.file(file).ok_or(Error::NoFile { file })
    }

    fn node(&self, entry: &FileEntry, number: u64) -> Result<Arc<LoadedNode>> {
        let key = (entry.shape.file, number);
        let find = |nodes: &VecDeque<(NodeKey, Arc<LoadedNode>)>| {
            nodes.iter().find(|(at, _)| *at == key).map(|(_, node)| Arc::clone(node))
        };
        if let Some(node) = find(&*self.nodes.lock().map_err(|_| Error::Died)?) {
            return Ok(node);
        }
        let node = entry.nodes.get(number as usize);
        let node = node.ok_or(Error::NoExtent { file: entry.shape.file, extent: number * NODE_EXTENTS })?;
        let extents = extents_of_node(entry.shape.len, number);
        let loaded = Arc::new(LoadedNode::load(&self.store, node, extents, entry.shape.geometry())?);
        let mut nodes = self.nodes.lock().map_err(|_| Error::Died)?;
        nodes.push_back((key, Arc::clone(&loaded)));
        if nodes.len() > NODES_MAX {
            nodes.pop_front();
        }
        Ok(loaded)
    }
}

/// What lies over an extent of a node.
fn parts<'a>(entry: &FileEntry, node: &'a LoadedNode, extent: u64) -> Parts<'a> {
    let in_node = extent % NODE_EXTENTS;
    let geometry = entry.shape.geometry();
    let overlay = &node.overlays[(in_node / GROUP_EXTENTS) as usize]; // a node has all of its groups
    let first_block = in_node % GROUP_EXTENTS * geometry.blocks_per_extent();
    Parts {
        geometry,
        len: extent_len(entry.shape.len, extent),
        first_block,
        blocks: overlay.range(first_block, first_block + geometry.blocks_per_extent()),
        chunks: &overlay.chunks,
    }
}
