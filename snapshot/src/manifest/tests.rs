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
    Manifest { snapshot, files: Arc::new(lens.iter().enumerate().map(file).collect()), leaves: Vec::new() }
}

proptest! {
    #[test]
    fn roots_round_trip(seed: [u8; 16], lens in prop::collection::vec(0..20_000 * EXTENT_BYTES, 0..5), level in 0..23i32) {
        let root = manifest(seed, &lens, level);
        let bytes = root.encode();
        prop_assert_eq!(&decode(&bytes).unwrap(), &root);
        for cut in [0, 1, bytes.len() / 2, bytes.len() - 1] {
            prop_assert!(decode(&bytes[..cut]).is_err());
        }
    }

    #[test]
    fn files_without_blocks_round_trip(
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
    fn damaged_roots_never_panic(at: prop::sample::Index, byte: u8, tail: Vec<u8>) {
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

/// A file with nodes of these lengths. The last node has `last` extents.
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
fn a_newer_root_is_refused_with_a_version_error() {
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
    files_of(&mut root)[0].shape.len = 1 << 40; // too long for one node
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
fn a_root_refers_to_leaves_instead_of_files() {
    // docs/format/manifest.md. A change here is a change of the format.
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
    // docs/format/manifest.md. A change here is a change of the format.
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
        // A mode beyond permission bits is refused: a restore never sets a set-user-ID bit.
        root.snapshot.meta.attributes = Some(Attributes { uid: 1, gid: 2, mode: 0o4640 });
        assert!(decode(&root.encode()).is_err());
    }
}

#[test]
fn the_bytes_of_version_1_stay_as_they_are() {
    // docs/format/manifest.md. A change here is a change of the format.
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
