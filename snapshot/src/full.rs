//! Taking a snapshot by reading everything.

use crate::compare::Compared;
use crate::extent_leaf;
use crate::increment::{in_order, increment};
use crate::manifest::Node;
use crate::shape::{EXTENT_BYTES, NODE_EXTENTS, extent_len, extents_of_node, nodes};
use crate::source::is_zero;
use crate::{
    BlockSource, Error, FileEntry, FileShape, Kind, Manifest, Result, Sizes, SnapshotId, SnapshotMeta,
};
use pitr_dedup::{ChunkId, ChunkStore, ChunkWriter};

/// Extents that are read before they are hashed together; meanwhile those before are compressed.
pub(crate) const BATCH_EXTENTS: usize = 16;

/// Reads all files of `source` and stores what the repository does not have. With a parent, extents are compared with
/// it and the snapshot is incremental: what did not change costs nothing, and of what did only the blocks are stored.
///
/// The snapshot exists once it is [published](Manifest::publish).
///
/// # Errors
/// [`Error::Parent`] when the parent is damaged: take one without it. [`Error::Source`], [`Error::Shape`]; those of the
/// repository.
pub fn write_full(
    store: &ChunkStore,
    source: &dyn BlockSource,
    meta: SnapshotMeta,
    parent: Option<&Manifest>,
) -> Result<Manifest> {
    if let Some(parent) = parent {
        let mut delta = Compared::new(store, source, parent)?;
        let mut manifest = increment(store, parent, &mut delta, meta)?;
        manifest.sizes.changed = delta.changed();
        return Ok(manifest);
    }
    let shapes = in_order(source.files())?;
    let mut writer = store.writer(meta.codec);
    let mut files = Vec::with_capacity(shapes.len());
    for shape in shapes {
        let nodes = (0..nodes(shape.len))
            .map(|node| write_node(&mut writer, source, &shape, node))
            .collect::<Result<_>>()?;
        files.push(FileEntry { shape, nodes });
    }
    let logical = files.iter().map(|file| file.shape.len).sum();
    let stored = writer.finish()?.stored;
    let id = SnapshotId(pitr_objects::random_bytes()?);
    let sizes = Sizes { logical, changed: logical, stored };
    Ok(Manifest { id, kind: Kind::Full, parent: None, meta, sizes, files })
}

fn write_node(
    writer: &mut ChunkWriter,
    source: &dyn BlockSource,
    shape: &FileShape,
    node: u64,
) -> Result<Node> {
    let first = node * NODE_EXTENTS;
    let mut ids = Vec::new();
    let all: Vec<u64> = (first..first + extents_of_node(shape.len, node)).collect();
    for batch in all.chunks(BATCH_EXTENTS) {
        let extents =
            batch.iter().map(|extent| read_extent(source, shape, *extent)).collect::<Result<Vec<_>>>()?;
        let zeros: Vec<bool> = extents.iter().map(|bytes| is_zero(bytes)).collect();
        let kept =
            extents.into_iter().zip(&zeros).filter(|(_, zero)| !**zero).map(|(bytes, _)| bytes).collect();
        let mut stored = writer.put_many(kept)?.into_iter();
        // One id came for each extent that is not zeros.
        ids.extend(
            zeros.iter().map(|zero| if *zero { None } else { stored.next() }.unwrap_or(ChunkId::ZERO)),
        );
    }
    Ok(Node { extents: put_extents(writer, &ids)?, overlays: Vec::new() })
}

/// Stores an extent leaf; one of zeros only costs nothing.
pub(crate) fn put_extents(writer: &mut ChunkWriter, ids: &[ChunkId]) -> Result<ChunkId> {
    match ids.iter().all(|id| *id == ChunkId::ZERO) {
        true => Ok(ChunkId::ZERO),
        false => Ok(writer.put(&extent_leaf::encode(ids))?),
    }
}

pub(crate) fn read_extent(source: &dyn BlockSource, shape: &FileShape, extent: u64) -> Result<Vec<u8>> {
    let offset = extent * EXTENT_BYTES; // within the file's length, which is bounded
    let mut bytes = vec![0; extent_len(shape.len, extent)];
    let read = source.read_at(shape.file, offset, &mut bytes);
    read.map_err(|source| Error::Source { file: shape.file, offset, source })?;
    Ok(bytes)
}
