//! The root of a snapshot: its description and the nodes of its files.
//!
//! The root is the footer of a manifest object without frames. See `docs/format/manifest.md` for
//! the layout.

use crate::shape::{EXTENT_BYTES, NAME_BYTES_MAX, NODE_EXTENTS, NODE_GROUPS, extents};
use crate::{FileShape, SnapshotId};
use pitr_codec::Codec;
use pitr_dedup::ChunkId;
use pitr_format::bytes::{Put, Reader};
use pitr_format::{DecodeError, Epoch, FileId, Lsn, SourceName, TimelineId, Timestamp, TxId};
use pitr_vfs::Attributes;
use std::ops::Range;
use std::sync::Arc;

/// Versions of a root that holds its files, and of a root that refers to leaves of files.
const ROOT_VERSION: u8 = 1;
const ROOT_VERSION_LEAVES: u8 = 2;
/// Added to either version if the root holds the attributes of its source.
const WITH_ATTRIBUTES: u8 = 2;
const ROOT_VERSION_MAX: u8 = ROOT_VERSION_LEAVES + WITH_ATTRIBUTES;
const MODE_MAX: u32 = 0o777;
const ENGINE_BYTES_MAX: usize = 64;
/// Minimum size of a file in a root, bytes.
pub(crate) const FILE_BYTES_MIN: usize = 8;

/// How a snapshot was taken. Either kind can be restored by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum SnapshotKind {
    /// The snapshot was taken without a parent.
    Full = 1,
    /// The snapshot was taken from the changes since its parent.
    Incremental = 2,
}

/// The caller's description of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// Name of the source.
    pub source: SourceName,
    /// Name of the engine, at most 64 bytes.
    pub engine: String,
    /// Timeline of the log that continues the snapshot.
    pub timeline: TimelineId,
    /// Epoch of the writer.
    pub epoch: Epoch,
    /// LSN at which replay begins.
    pub redo_from: Lsn,
    /// LSN at which the replayed files are consistent.
    pub consistent_at: Lsn,
    /// Time of the last commit in the snapshot.
    pub time: Timestamp,
    /// The last transaction in the snapshot.
    pub tx: TxId,
    /// How the chunks are compressed.
    pub codec: Codec,
    /// Time at which the snapshot was taken.
    pub created: Timestamp,
    /// Owner and permissions of the source, if it is a single file with these attributes. A restore
    /// applies them.
    pub attributes: Option<Attributes>,
}

impl SnapshotMeta {
    /// The metadata of a source without a log, taken now. `number` counts its snapshots, from 1: it
    /// stands for the LSN and the transaction.
    ///
    /// A source with a log sets these fields:
    ///
    /// ```
    /// use pitr_format::{Lsn, SourceName, Timestamp, TxId};
    /// use pitr_snapshot::SnapshotMeta;
    ///
    /// # let (now, name) = (Timestamp::from_micros(1), SourceName::new("app").expect("a name"));
    /// let meta = SnapshotMeta {
    ///     redo_from: Lsn::new(4_096),
    ///     consistent_at: Lsn::new(8_192),
    ///     tx: TxId::new(7),
    ///     ..SnapshotMeta::new(name, "my-engine", 1, now)
    /// };
    /// # assert_eq!((meta.tx, meta.time), (TxId::new(7), now));
    /// ```
    #[must_use]
    pub fn new(source: SourceName, engine: &str, number: u64, now: Timestamp) -> Self {
        SnapshotMeta {
            source,
            engine: engine.to_owned(),
            timeline: TimelineId::FIRST,
            epoch: Epoch::FIRST,
            redo_from: Lsn::new(number),
            consistent_at: Lsn::new(number),
            time: now,
            tx: TxId::new(number),
            codec: Codec::default(),
            created: now,
            attributes: None,
        }
    }
}

/// Sizes of a snapshot, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sizes {
    /// Total size of all files.
    pub logical: u64,
    /// Size of the changes since the parent; of all files if there is no parent.
    pub changed: u64,
    /// Size added to the repository: packs, indexes and root.
    pub stored: u64,
}

/// A node of the tree: the leaves of up to 4096 extents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    /// The extent leaf; [`ChunkId::ZERO`] if all extents are zeros.
    pub(crate) extents: ChunkId,
    /// Overlay leaves with the number of their group, in order. Groups without changed blocks have
    /// none.
    pub(crate) overlays: Vec<(u8, ChunkId)>,
}

/// A file in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// Shape of the file at the time of the snapshot.
    pub shape: FileShape,
    pub(crate) nodes: Vec<Node>,
    /// The cuts of the file, if it has no blocks.
    pub(crate) cut: Option<Cut>,
}

/// Where a file without blocks was cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) extents: u64,
    /// End of each node, bytes from the start of the file.
    pub(crate) ends: Vec<u64>,
}

impl Cut {
    /// The range of the file that a node covers.
    pub(crate) fn span(&self, node: u64) -> Range<u64> {
        let end = |node: u64| self.ends.get(node as usize).copied().unwrap_or_default();
        node.checked_sub(1).map_or(0, end)..end(node)
    }
}

/// A snapshot as described by its root, without its files: a few hundred bytes for any size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Identity of the snapshot.
    pub id: SnapshotId,
    /// How the snapshot was taken.
    pub kind: SnapshotKind,
    /// The snapshot that this one is based on.
    pub parent: Option<SnapshotId>,
    /// The caller's description. It may still be changed between writing and publishing, because a
    /// fuzzy snapshot learns only at its end where it is consistent.
    pub meta: SnapshotMeta,
    /// Sizes of the snapshot.
    pub sizes: Sizes,
}

/// A snapshot with its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// The files, sorted by number. All clones share them, because there may be hundreds of
    /// thousands.
    pub files: Arc<Vec<FileEntry>>,
    /// The leaves that hold the files. Empty if the root holds them.
    pub(crate) leaves: Vec<ChunkId>,
}

impl Manifest {
    /// The file with this number.
    #[must_use]
    pub fn file(&self, file: FileId) -> Option<&FileEntry> {
        let at = self.files.binary_search_by_key(&file, |entry| entry.shape.file);
        at.ok().and_then(|at| self.files.get(at))
    }

    /// Values that are known last have a fixed width, so that setting `stored` does not change the
    /// length.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let Snapshot { id, kind, parent, meta, sizes } = &self.snapshot;
        let mut out = Vec::new();
        let version = if self.leaves.is_empty() { ROOT_VERSION } else { ROOT_VERSION_LEAVES };
        out.put_u8(version + if meta.attributes.is_some() { WITH_ATTRIBUTES } else { 0 });
        out.put(&id.0);
        out.put_u8(*kind as u8);
        out.put_u8(u8::from(parent.is_some()));
        out.put(&parent.map_or([0; 16], |parent| parent.0));
        meta.encode(&mut out);
        out.put_u64(sizes.logical);
        out.put_u64(sizes.changed);
        out.put_u64(sizes.stored);
        if self.leaves.is_empty() {
            out.put_varint(self.files.len() as u64);
            self.files.iter().for_each(|file| file.encode(&mut out));
        } else {
            out.put_varint(self.leaves.len() as u64);
            self.leaves.iter().for_each(|leaf| out.put(leaf.as_bytes()));
        }
        out
    }
}

impl Snapshot {
    /// Decodes a root. Returns the leaves of files that it refers to.
    ///
    /// Files that the root itself holds are passed to `take` one by one. A caller that does not
    /// keep them needs no memory for them.
    pub(crate) fn decode(
        bytes: &[u8],
        take: impl FnMut(FileEntry),
    ) -> Result<(Self, Vec<ChunkId>), DecodeError> {
        let mut reader = Reader::new(bytes);
        let version = reader.u8("root version")?;
        if !(ROOT_VERSION..=ROOT_VERSION_MAX).contains(&version) {
            let (found, known) = (u32::from(version), u32::from(ROOT_VERSION_MAX));
            return Err(DecodeError::Version { what: "root of a snapshot", found, known });
        }
        let id = SnapshotId(reader.array("snapshot id")?);
        let kind = match reader.u8("snapshot kind")? {
            1 => SnapshotKind::Full,
            2 => SnapshotKind::Incremental,
            other => return Err(DecodeError::Range { what: "snapshot kind", value: u64::from(other) }),
        };
        let has_parent = reader.u8("snapshot parent")?;
        let parent = SnapshotId(reader.array("snapshot parent")?);
        let parent = match has_parent {
            0 => None,
            1 => Some(parent),
            other => return Err(DecodeError::Range { what: "snapshot parent", value: u64::from(other) }),
        };
        let has_attributes = version > WITH_ATTRIBUTES;
        let version = if has_attributes { version - WITH_ATTRIBUTES } else { version };
        let meta = SnapshotMeta::decode(&mut reader, has_attributes)?;
        let sizes = Sizes {
            logical: reader.u64("logical bytes")?,
            changed: reader.u64("changed bytes")?,
            stored: reader.u64("stored bytes")?,
        };
        let mut leaves = Vec::new();
        if version == ROOT_VERSION {
            let count = reader.count(FILE_BYTES_MIN, "files of a snapshot")?;
            decode_files(&mut reader, count, take)?;
        } else {
            let count = reader.count(ChunkId::BYTES, "leaves of files")?;
            let ids = (0..count).map(|_| Ok(ChunkId::from_bytes(reader.array("leaf of files")?)));
            leaves = ids.collect::<Result<_, DecodeError>>()?;
        }
        reader.finish("root of a snapshot")?;
        Ok((Snapshot { id, kind, parent, meta, sizes }, leaves))
    }
}

/// Decodes `count` files, which must be sorted by number.
pub(crate) fn decode_files(
    reader: &mut Reader<'_>,
    count: usize,
    mut take: impl FnMut(FileEntry),
) -> Result<(), DecodeError> {
    let mut before = None;
    for _ in 0..count {
        let file = FileEntry::decode(reader)?;
        let number = Some(file.shape.file);
        if before >= number {
            let value = u64::from(file.shape.file.get());
            return Err(DecodeError::Range { what: "order of files", value });
        }
        before = number;
        take(file);
    }
    Ok(())
}

impl SnapshotMeta {
    fn encode(&self, out: &mut Vec<u8>) {
        out.put_blob(self.source.as_str().as_bytes());
        out.put_blob(self.engine.as_bytes());
        out.put_u32(self.timeline.get());
        out.put_u64(self.epoch.get());
        out.put_u64(self.redo_from.get());
        out.put_u64(self.consistent_at.get());
        out.put_i64(self.time.micros());
        out.put_u64(self.tx.get());
        out.put_u8(self.codec.id());
        out.put_u32(self.codec.level());
        out.put_i64(self.created.micros());
        if let Some(Attributes { uid, gid, mode }) = self.attributes {
            [uid, gid, mode].into_iter().for_each(|number| out.put_u32(number));
        }
    }

    fn decode(reader: &mut Reader<'_>, has_attributes: bool) -> Result<Self, DecodeError> {
        let source = SourceName::new(reader.text(SourceName::BYTES_MAX, "source name")?)
            .map_err(|_| DecodeError::Range { what: "source name", value: 0 })?;
        let engine = reader.text(ENGINE_BYTES_MAX, "engine")?.to_owned();
        let timeline = TimelineId::new(reader.u32("timeline")?);
        let epoch = Epoch::new(reader.u64("epoch")?);
        let redo_from = Lsn::new(reader.u64("redo_from")?);
        let consistent_at = Lsn::new(reader.u64("consistent_at")?);
        let time = Timestamp::from_micros(reader.i64("snapshot time")?);
        let tx = TxId::new(reader.u64("snapshot transaction")?);
        let (codec, level) = (reader.u8("codec")?, reader.u32("codec level")?);
        let unknown = DecodeError::Range { what: "codec", value: u64::from(codec) };
        let codec = Codec::from_parts(codec, level).ok_or(unknown)?;
        let created = Timestamp::from_micros(reader.i64("snapshot created")?);
        let attributes = has_attributes.then(|| decode_attributes(reader)).transpose()?;
        Ok(SnapshotMeta {
            source,
            engine,
            timeline,
            epoch,
            redo_from,
            consistent_at,
            time,
            tx,
            codec,
            created,
            attributes,
        })
    }

    /// True if a root can hold the engine's name.
    pub(crate) fn engine_fits(&self) -> bool {
        self.engine.len() <= ENGINE_BYTES_MAX
    }
}

fn decode_attributes(reader: &mut Reader<'_>) -> Result<Attributes, DecodeError> {
    let (uid, gid) = (reader.u32("owner")?, reader.u32("group")?);
    match reader.u32("permissions")? {
        mode if mode <= MODE_MAX => Ok(Attributes { uid, gid, mode }),
        other => Err(DecodeError::Range { what: "permissions", value: other.into() }),
    }
}

impl FileEntry {
    /// Number of extents.
    pub(crate) fn extents(&self) -> u64 {
        self.cut.as_ref().map_or_else(|| extents(self.shape.len), |cut| cut.extents)
    }

    /// Number of extents of one of its nodes.
    pub(crate) fn extents_of_node(&self, node: u64) -> u64 {
        self.extents().saturating_sub(node * NODE_EXTENTS).min(NODE_EXTENTS)
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.put_varint(u64::from(self.shape.file.get()));
        out.put_blob(self.shape.name.as_bytes());
        out.put_varint(self.shape.len);
        out.put_u32(self.shape.block_bytes);
        if let Some(cut) = &self.cut {
            out.put_varint(cut.extents);
        }
        out.put_varint(self.nodes.len() as u64);
        for (number, node) in (0..).zip(&self.nodes) {
            if let Some(cut) = &self.cut {
                let span = cut.span(number);
                out.put_varint(span.end - span.start);
            }
            out.put(node.extents.as_bytes());
            out.put_u8(node.overlays.len() as u8); // at most NODE_GROUPS
            for (group, id) in &node.overlays {
                out.put_u8(*group);
                out.put(id.as_bytes());
            }
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let number = reader.varint("file number")?;
        let wrong = DecodeError::Range { what: "file number", value: number };
        let file = FileId::new(u32::try_from(number).map_err(|_| wrong)?);
        let name = reader.text(NAME_BYTES_MAX, "file name")?.to_owned();
        let len = reader.varint("file length")?;
        let block_bytes = reader.u32("block size")?;
        let shape = FileShape { file, name, len, block_bytes };
        if shape.fault().is_some() {
            return Err(DecodeError::Range { what: "shape of a file", value: number });
        }
        let extents = match shape.has_blocks() {
            true => extents(len),
            false => reader.varint("extents of a file")?,
        };
        let count = reader.count(ChunkId::BYTES + 1, "nodes of a file")?;
        if count as u64 != extents.div_ceil(NODE_EXTENTS) {
            return Err(DecodeError::Range { what: "nodes of a file", value: count as u64 });
        }
        let cut = (!shape.has_blocks()).then_some(Cut { extents, ends: Vec::new() });
        let mut file = FileEntry { shape, nodes: Vec::with_capacity(count), cut };
        for number in 0..count as u64 {
            file.decode_span(number, reader)?;
            let node = Node::decode(reader)?;
            // A node of a file without blocks has a leaf, which holds the lengths, and no overlay.
            if file.cut.is_some() && (node.extents == ChunkId::ZERO || !node.overlays.is_empty()) {
                return Err(DecodeError::Range { what: "leaves of a file without blocks", value: number });
            }
            file.nodes.push(node);
        }
        match &file.cut {
            Some(cut) if cut.ends.last().copied().unwrap_or_default() != len => {
                Err(DecodeError::Range { what: "length of a file's nodes", value: len })
            }
            _ => Ok(file),
        }
    }

    /// Reads the number of bytes that a node covers, for a file without blocks.
    fn decode_span(&mut self, node: u64, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        let extents = self.extents_of_node(node);
        let Some(cut) = &mut self.cut else { return Ok(()) };
        let bytes = reader.varint("length of a node")?;
        if !(extents..=extents * EXTENT_BYTES).contains(&bytes) {
            return Err(DecodeError::Range { what: "length of a node", value: bytes });
        }
        let begin = cut.ends.last().copied().unwrap_or_default();
        // No overflow: each is at most 4 GiB, and a root has more bytes than nodes.
        cut.ends.push(begin + bytes);
        Ok(())
    }
}

impl Node {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let extents = ChunkId::from_bytes(reader.array("extent leaf")?);
        let count = reader.u8("overlay leaves")?;
        let mut overlays: Vec<(u8, ChunkId)> = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            let group = reader.u8("group of an overlay")?;
            let follows = overlays.last().is_none_or(|(before, _)| *before < group);
            if !follows || u64::from(group) >= NODE_GROUPS {
                return Err(DecodeError::Range { what: "group of an overlay", value: u64::from(group) });
            }
            overlays.push((group, ChunkId::from_bytes(reader.array("overlay leaf")?)));
        }
        Ok(Node { extents, overlays })
    }
}

#[cfg(test)]
mod tests;
