//! The root of a snapshot: what it is a snapshot of, and the nodes of its files.
//!
//! It is the footer of a manifest object without frames; `docs/format/manifest.md` has the layout.

use crate::FileShape;
use crate::shape::{EXTENT_BYTES, NAME_BYTES_MAX, NODE_EXTENTS, NODE_GROUPS, extents};
use pitr_codec::Codec;
use pitr_dedup::ChunkId;
use pitr_format::bytes::{Put, Reader};
use pitr_format::{DecodeError, Epoch, FileId, Lsn, SourceName, TimelineId, Timestamp, TxId};
use pitr_vfs::Attributes;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

/// Of a root that holds its files, and of one that names leaves of them.
const ROOT_VERSION: u8 = 1;
const ROOT_VERSION_LEAVES: u8 = 2;
/// Added to either version in a root that holds the attributes of its source.
const WITH_ATTRIBUTES: u8 = 2;
const ROOT_VERSION_MAX: u8 = ROOT_VERSION_LEAVES + WITH_ATTRIBUTES;
const MODE_MAX: u32 = 0o777;
const ENGINE_BYTES_MAX: usize = 64;
/// Fewest bytes of a file in a root.
pub(crate) const FILE_BYTES_MIN: usize = 8;

/// Random identity of a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId(pub [u8; 16]);

impl SnapshotId {
    /// The first eight hexadecimal digits, for people.
    #[must_use]
    pub fn short(&self) -> String {
        self.to_string()[..8].to_owned()
    }

    /// The first bytes, which the path of the root holds.
    #[must_use]
    pub fn front(&self) -> [u8; 4] {
        let (quarters, _) = self.0.as_chunks();
        quarters[0] // of 16 bytes
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for SnapshotId {
    type Err = NoSnapshotId;

    /// From its 32 hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, NoSnapshotId> {
        let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id = is_hex.then(|| u128::from_str_radix(text, 16).ok()).flatten().ok_or(NoSnapshotId)?;
        Ok(SnapshotId(id.to_be_bytes()))
    }
}

/// The text is none of a snapshot's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the id of a snapshot has 32 hexadecimal digits")]
pub struct NoSnapshotId;

impl fmt::Debug for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How a snapshot was taken. Each can be restored by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum SnapshotKind {
    /// Without regard to another one.
    Full = 1,
    /// By what changed since its parent.
    Incremental = 2,
}

/// What the taker of a snapshot says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// The source.
    pub source: SourceName,
    /// Name of the engine, at most 64 bytes.
    pub engine: String,
    /// Timeline whose log goes with it.
    pub timeline: TimelineId,
    /// Epoch of the writer.
    pub epoch: Epoch,
    /// Replay begins here.
    pub redo_from: Lsn,
    /// Once the log is replayed to here the files are one state.
    pub consistent_at: Lsn,
    /// Time of the last commit in it.
    pub time: Timestamp,
    /// The last transaction in it.
    pub tx: TxId,
    /// How its chunks are compressed.
    pub codec: Codec,
    /// When it was taken.
    pub created: Timestamp,
    /// Owner and permissions of the source, if it is a single file that has them. A restored file is given them.
    pub attributes: Option<Attributes>,
}

/// Sizes of a snapshot, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sizes {
    /// Of all files together.
    pub logical: u64,
    /// Of what differs from the parent; of all files when there is none.
    pub changed: u64,
    /// Added to the repository: packs, index and root.
    pub stored: u64,
}

/// A node of the tree: the leaves of up to 4096 extents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    /// The extent leaf; [`ChunkId::ZERO`] if all extents are zeros.
    pub(crate) extents: ChunkId,
    /// Overlay leaves by number of their group, in order; groups without changed blocks have none.
    pub(crate) overlays: Vec<(u8, ChunkId)>,
}

/// A file in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// The file as it was.
    pub shape: FileShape,
    pub(crate) nodes: Vec<Node>,
    /// How it was cut, if it has no blocks.
    pub(crate) cut: Option<Cut>,
}

/// Where a file without blocks was cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) extents: u64,
    /// Where each node ends, bytes from the file's begin.
    pub(crate) ends: Vec<u64>,
}

impl Cut {
    /// The bytes of the file that a node covers.
    pub(crate) fn span(&self, node: u64) -> Range<u64> {
        let end = |node: u64| self.ends.get(node as usize).copied().unwrap_or_default();
        node.checked_sub(1).map_or(0, end)..end(node)
    }
}

/// A snapshot, as its root tells of it without its files: a few hundred bytes, however large it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its identity.
    pub id: SnapshotId,
    /// How it was taken.
    pub kind: SnapshotKind,
    /// The snapshot that it was compared with.
    pub parent: Option<SnapshotId>,
    /// What its taker says. May still be set between writing and publishing, as a fuzzy snapshot learns only at its end
    /// where it is consistent.
    pub meta: SnapshotMeta,
    /// Its sizes.
    pub sizes: Sizes,
}

/// A snapshot with its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Its files, in the order of their numbers. All clones share them: there may be hundreds of thousands.
    pub files: Arc<Vec<FileEntry>>,
    /// The leaves that hold them; none if the root does.
    pub(crate) leaves: Vec<ChunkId>,
}

impl Manifest {
    /// The file with this number.
    #[must_use]
    pub fn file(&self, file: FileId) -> Option<&FileEntry> {
        let at = self.files.binary_search_by_key(&file, |entry| entry.shape.file);
        at.ok().and_then(|at| self.files.get(at))
    }

    /// All numbers have a fixed width where their value is known last, so that writing `stored` changes no length.
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
    /// Decodes a root, and returns the leaves of files that it names. Files that it holds itself are handed out one by one: who
    /// does not keep them needs no memory for them.
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

/// Decodes so many files, which stand in the order of their numbers.
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
        let codec = Codec::of(codec, level).ok_or(unknown)?;
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

    /// Extents of one of its nodes.
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
            // What has no blocks has its leaf, in which the lengths are, and nothing over it.
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

    /// Reads how many bytes a node covers, if that is not known otherwise.
    fn decode_span(&mut self, node: u64, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        let extents = self.extents_of_node(node);
        let Some(cut) = &mut self.cut else { return Ok(()) };
        let bytes = reader.varint("length of a node")?;
        if !(extents..=extents * EXTENT_BYTES).contains(&bytes) {
            return Err(DecodeError::Range { what: "length of a node", value: bytes });
        }
        let begin = cut.ends.last().copied().unwrap_or_default();
        // Each is at most 4 GiB, and there are fewer than a root has bytes.
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
mod tests {
    use super::*;
    use crate::EXTENT_BYTES;
    use proptest::prelude::*;

    fn files_of(root: &mut Manifest) -> &mut Vec<FileEntry> {
        Arc::make_mut(&mut root.files)
    }

    fn decode(bytes: &[u8]) -> Result<Manifest, DecodeError> {
        let mut files = Vec::new();
        let (snapshot, leaves) = Snapshot::decode(bytes, |file| files.push(file))?;
        Ok(Manifest { snapshot, files: Arc::new(files), leaves })
    }

    fn manifest(seed: [u8; 16], lens: &[u64], level: i32) -> Manifest {
        let file = |(number, len): (usize, &u64)| FileEntry {
            shape: FileShape {
                file: FileId::new(number as u32),
                name: format!("f{number}"),
                len: *len,
                block_bytes: 512 << (number % 8),
            },
            nodes: (0..extents(*len).div_ceil(NODE_EXTENTS))
                .map(|n| Node {
                    extents: ChunkId::of(&n.to_le_bytes()),
                    overlays: (0..(n % 3) as u8).map(|g| (g * 5, ChunkId::of(&[g]))).collect(),
                })
                .collect(),
            cut: None,
        };
        let snapshot = Snapshot {
            id: SnapshotId(seed),
            kind: if level > 0 { SnapshotKind::Full } else { SnapshotKind::Incremental },
            parent: (level < 3).then_some(SnapshotId(seed)),
            meta: SnapshotMeta {
                source: SourceName::new("app").unwrap(),
                engine: "sqlite".into(),
                timeline: TimelineId::new(2),
                epoch: Epoch::new(3),
                redo_from: Lsn::new(4),
                consistent_at: Lsn::new(5),
                time: Timestamp::from_micros(-6),
                tx: TxId::new(7),
                codec: if level == 0 { Codec::None } else { Codec::Zstd { level } },
                created: Timestamp::from_micros(8),
                attributes: (level % 2 == 1).then_some(Attributes { uid: 9, gid: 10, mode: 0o640 }),
            },
            sizes: Sizes { logical: 1, changed: 2, stored: 3 },
        };
        Manifest {
            snapshot,
            files: Arc::new(lens.iter().enumerate().map(file).collect()),
            leaves: Vec::new(),
        }
    }

    proptest! {
        #[test]
        fn roots_come_back(seed: [u8; 16], lens in prop::collection::vec(0..20_000 * EXTENT_BYTES, 0..5), level in 0..23i32) {
            let root = manifest(seed, &lens, level);
            let bytes = root.encode();
            prop_assert_eq!(&decode(&bytes).unwrap(), &root);
            for cut in [0, 1, bytes.len() / 2, bytes.len() - 1] {
                prop_assert!(decode(&bytes[..cut]).is_err());
            }
        }

        #[test]
        fn files_without_blocks_come_back(
            mut lens in prop::collection::vec(NODE_EXTENTS..=NODE_EXTENTS * EXTENT_BYTES, 0..5), last in 1..=NODE_EXTENTS,
        ) {
            lens.last_mut().into_iter().for_each(|len| *len = last * 1000);
            let mut root = manifest([1; 16], &[0], 3);
            files_of(&mut root)[0] = without_blocks(&lens, last);
            let bytes = root.encode();
            prop_assert_eq!(&decode(&bytes).unwrap(), &root);
            files_of(&mut root)[0].shape.len += 1;
            prop_assert!(decode(&root.encode()).is_err());
        }

        #[test]
        fn damaged_roots_are_an_error_or_a_value(at: prop::sample::Index, byte: u8, tail: Vec<u8>) {
            let mut root = manifest([1; 16], &[5 << 30, 100], 3);
            files_of(&mut root)[1] = FileEntry {
                shape: FileShape { file: FileId::new(1), ..without_blocks(&[5000, 90], 70).shape },
                ..without_blocks(&[5000, 90], 70)
            };
            let mut bytes = root.encode();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = decode(&bytes);
            bytes.splice(at.., tail);
            let _ = decode(&bytes);
        }
    }

    /// Nodes of such lengths, the last one of so many extents.
    fn without_blocks(lens: &[u64], last: u64) -> FileEntry {
        let ends: Vec<u64> = lens
            .iter()
            .scan(0, |end, len| {
                *end += len;
                Some(*end)
            })
            .collect();
        let extents = (lens.len() as u64 * NODE_EXTENTS).saturating_sub(NODE_EXTENTS - last);
        let extents = if lens.is_empty() { 0 } else { extents };
        let len = ends.last().copied().unwrap_or_default();
        let nodes =
            lens.iter().map(|len| Node { extents: ChunkId::of(&len.to_le_bytes()), overlays: Vec::new() });
        FileEntry {
            shape: FileShape { file: FileId::new(0), name: "text".into(), len, block_bytes: 0 },
            nodes: nodes.collect(),
            cut: Some(Cut { extents, ends }),
        }
    }

    #[test]
    fn a_later_root_is_refused_by_name() {
        // FAILURES 36
        let mut bytes = manifest([1; 16], &[1], 3).encode();
        bytes[0] = 5;
        let error = decode(&bytes).unwrap_err();
        assert!(matches!(error, DecodeError::Version { found: 5, known: 4, .. }), "{error}");
    }

    #[test]
    fn names_and_counts_in_a_root_are_bounded() {
        // FAILURES 31
        let mut root = manifest([1; 16], &[100], 3);
        files_of(&mut root)[0].shape.name = "../../etc/passwd".into();
        assert!(decode(&root.encode()).is_err());
        let mut root = manifest([1; 16], &[100, 100], 3);
        files_of(&mut root).swap(0, 1);
        assert!(decode(&root.encode()).is_err());
        let mut root = manifest([1; 16], &[100], 3);
        files_of(&mut root)[0].shape.len = 1 << 40; // one node can't be that long
        assert!(decode(&root.encode()).is_err());
        let is_refused = |harm: &dyn Fn(&mut FileEntry)| {
            let mut root = manifest([1; 16], &[0], 3);
            files_of(&mut root)[0] = without_blocks(&[5000], 70);
            harm(&mut files_of(&mut root)[0]);
            decode(&root.encode()).is_err()
        };
        assert!(!is_refused(&|_| ()));
        assert!(is_refused(&|file| file.cut.as_mut().unwrap().extents = u64::MAX));
        assert!(is_refused(&|file| file.cut.as_mut().unwrap().extents = 5001));
        assert!(is_refused(&|file| file.nodes[0].extents = ChunkId::ZERO));
        assert!(is_refused(&|file| file.nodes[0].overlays.push((0, ChunkId::of(&[1])))));
        assert!(is_refused(&|file| {
            file.shape.len = 71 << 20;
            file.cut.as_mut().unwrap().ends = vec![71 << 20];
        }));
    }

    #[test]
    fn a_root_names_leaves_of_files_in_place_of_files() {
        // docs/format/manifest.md; a change of this is a change of the format.
        let files = manifest([1; 16], &[], 2).encode();
        let mut root = manifest([1; 16], &[], 2);
        root.leaves = [[7; 32], [9; 32]].map(ChunkId::from_bytes).to_vec();
        let bytes = root.encode();
        assert_eq!(decode(&bytes).unwrap(), root);
        let end = files.len() - 1;
        assert_eq!(bytes, [&[2], &files[1..end], &[2], &[7; 32], &[9; 32]].concat());
        // FAILURES 31
        assert!((end..bytes.len()).all(|cut| decode(&bytes[..cut]).is_err()));
        assert!(decode(&[&bytes[..end], &[0xff, 0xff, 0xff, 0xff, 0x0f]].concat()).is_err());
    }

    #[test]
    fn versions_3_and_4_have_the_attributes_of_the_source() {
        // docs/format/manifest.md; a change of this is a change of the format.
        for leaves in [vec![], vec![ChunkId::from_bytes([7; 32])]] {
            let mut root = manifest([1; 16], &[], 2);
            root.leaves = leaves;
            let without = root.encode();
            root.snapshot.meta.attributes = Some(Attributes { uid: 9, gid: 2, mode: 0o640 });
            let bytes = root.encode();
            assert_eq!(decode(&bytes).unwrap(), root);
            let end =
                without.len() - 1 - bytes[1..].iter().zip(&without[1..]).take_while(|(a, b)| a == b).count();
            let begin = without.len() - end;
            let block = [9u32, 2, 0o640].map(u32::to_le_bytes).concat();
            assert_eq!(bytes, [&[without[0] + 2], &without[1..begin], &block, &without[begin..]].concat());
            // More than permissions is refused: no set-user-ID bit comes out of a repository.
            root.snapshot.meta.attributes = Some(Attributes { uid: 1, gid: 2, mode: 0o4640 });
            assert!(decode(&root.encode()).is_err());
        }
    }

    #[test]
    fn the_bytes_of_version_1_stay_as_they_are() {
        // docs/format/manifest.md; a change of this is a change of the format.
        let mut root = manifest([0xaa; 16], &[EXTENT_BYTES], 2);
        files_of(&mut root)[0].nodes = vec![Node {
            extents: ChunkId::from_bytes([0xee; 32]),
            overlays: vec![(0, ChunkId::from_bytes([0xcc; 32]))],
        }];
        let hex: String = root.encode().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, GOLDEN);
        let mut bytes = Vec::new();
        without_blocks(&[4096, 300], 2).encode(&mut bytes);
        let [first, second] = [4096u64, 300].map(|len| ChunkId::of(&len.to_le_bytes()));
        let head = [&[0, 4][..], b"text", &[0xac, 0x22, 0, 0, 0, 0, 0x82, 0x20, 2]].concat();
        let nodes = [&[0x80, 0x20][..], first.as_bytes(), &[0, 0xac, 2], second.as_bytes(), &[0]].concat();
        assert_eq!(bytes, [head, nodes].concat());
    }

    const GOLDEN: &str = "\
        01aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa0101aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa0361707006\
        73716c69746502000000030000000000000004000000000000000500000000000000faffffffffff\
        ffff0700000000000000010200000008000000000000000100000000000000020000000000000003\
        0000000000000001000266308080400002000001eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee\
        eeeeeeeeeeeeeeeeeeeeeeee0100cccccccccccccccccccccccccccccccccccccccccccccccccccc\
        cccccccccccc";
}
