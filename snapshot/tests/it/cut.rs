//! Files without blocks, which are cut by their content.

use crate::{Noise, memory, meta, restored};
use pitr_dedup::{ChunkId, ChunkStore};
use pitr_format::FileId;
use pitr_snapshot::*;
use pitr_tracker::{BlockSize, ChangeSet};
use std::collections::HashSet;
use std::sync::Mutex;

/// Files by number: content and block size.
#[derive(Default)]
pub(crate) struct Files {
    pub(crate) files: Vec<(Vec<u8>, u32)>,
    unchanged: HashSet<FileId>,
    changes: ChangeSet,
    read: Mutex<HashSet<FileId>>,
}

impl Files {
    pub(crate) fn of(files: Vec<(Vec<u8>, u32)>) -> Self {
        Files { files, ..Files::default() }
    }

    fn text(bytes: usize) -> Vec<u8> {
        Noise::new(bytes as u64).half_compressible(bytes)
    }

    fn bytes(&self, file: FileId) -> &[u8] {
        &self.files[file.get() as usize].0
    }
}

impl BlockSource for Files {
    fn files(&self) -> Vec<FileShape> {
        let shape = |(number, (bytes, block_bytes)): (usize, &(Vec<u8>, u32))| FileShape {
            file: FileId::new(number as u32),
            name: number.to_string(),
            len: bytes.len() as u64,
            block_bytes: *block_bytes,
        };
        self.files.iter().enumerate().map(shape).collect()
    }

    fn read_at(&self, file: FileId, offset: u64, buf: &mut [u8]) -> std::result::Result<(), BoxError> {
        self.read.lock().unwrap().insert(file);
        buf.copy_from_slice(&self.bytes(file)[offset as usize..][..buf.len()]);
        Ok(())
    }

    fn changes(&self, file: FileId) -> Option<&ChangeSet> {
        self.unchanged.contains(&file).then_some(&self.changes)
    }
}

/// Checks that every read method returns the same bytes, and that the tree is complete.
fn check(store: &ChunkStore, manifest: &Manifest, files: &Files) {
    let reader = SnapshotReader::open(store.clone(), manifest.clone());
    let mut stored = HashSet::new();
    for number in 0..files.files.len() {
        let file = FileId::new(number as u32);
        let bytes = files.bytes(file);
        assert!(restored(store, manifest, file) == bytes, "file {number}");
        let extents = reader.extents(file).unwrap();
        let mut end = 0;
        for extent in 0..extents {
            let span = reader.span(file, extent).unwrap();
            assert!(span.start == end && span.end > end && span.end - end <= EXTENT_BYTES);
            end = span.end;
            let mut part = bytes[span.start as usize..end as usize].to_vec();
            assert!(reader.is_extent(file, extent, &part).unwrap());
            if part.iter().any(|byte| *byte != 0) && file != FileId::new(1) {
                stored.insert(part.clone());
            }
            part[0] ^= 1;
            assert!(!reader.is_extent(file, extent, &part).unwrap());
            assert!(!reader.is_extent(file, extent, &part[1..]).unwrap());
        }
        assert_eq!(end, bytes.len() as u64);
        assert!(matches!(reader.span(file, extents), Err(Error::NoExtent { .. })));
        assert!(matches!(reader.read_extent(file, extents), Err(Error::NoExtent { .. })));
        let seen = Mutex::new(vec![9; bytes.len()]);
        let wanted: Vec<u64> = (0..extents).collect();
        reader
            .read_extents(file, &wanted, |extent, part| {
                let start = reader.span(file, extent)?.start as usize;
                seen.lock().unwrap()[start..start + part.len()].copy_from_slice(&part);
                Ok::<(), Error>(())
            })
            .unwrap();
        assert!(seen.into_inner().unwrap() == bytes);
        for (offset, len) in [(0, 10), (bytes.len() / 2, 2_500_000), (bytes.len(), 5), (bytes.len() + 9, 5)] {
            let mut part = vec![9; len];
            reader.read_at(file, offset as u64, &mut part).unwrap();
            let mut expected = bytes[offset.min(bytes.len())..bytes.len().min(offset + len)].to_vec();
            expected.resize(len, 0);
            assert!(part == expected, "{len} at {offset} of file {number}");
        }
    }
    let mut seen = Seen::default();
    walk(store, &manifest.snapshot, &mut seen).unwrap();
    assert!(seen.0.iter().all(|id| store.place(id).unwrap().is_some()));
    assert!(stored.iter().all(|part| seen.0.contains(&ChunkId::of(part))));
}

#[derive(Default)]
struct Seen(HashSet<ChunkId>);

impl Visit for Seen {
    fn leaf(&mut self, id: &ChunkId) -> bool {
        self.0.insert(*id)
    }

    fn content(&mut self, id: &ChunkId) {
        self.0.insert(*id);
    }

    fn broken(&mut self, _: &ChunkId, error: Error) -> Result<()> {
        Err(error)
    }
}

fn taken(store: &ChunkStore, files: &Files, at: u64, parent: Option<&Manifest>) -> Manifest {
    let manifest = write_full(store, files, meta(at), parent).unwrap().publish(store).unwrap();
    assert_eq!(manifest.snapshot.manifest(store).unwrap(), manifest);
    manifest
}

fn some() -> Files {
    let zeros = [Files::text(1_500_000), vec![0; 4_000_000], Files::text(70_000)].concat();
    Files::of(vec![
        (Files::text(12_345_678), 0),
        (Files::text(3 << 20), 4096),
        (Vec::new(), 0),
        (zeros, 0),
        (vec![5], 0),
        (vec![0; 2_000_000], 0),
        (Files::text(99_999), 4096),
    ])
}

#[test]
fn files_with_and_without_blocks_round_trip() {
    let (store, files) = (memory(), some());
    let full = taken(&store, &files, 1, None);
    check(&store, &full, &files);
    assert!(full.snapshot.sizes.stored < 13_000_000, "zeros cost nothing: {:?}", full.snapshot.sizes);
}

#[test]
fn an_insertion_costs_little_more_than_its_size() {
    let (store, mut files) = (memory(), some());
    let full = taken(&store, &files, 1, None);
    let middle = files.files[0].0.len() / 2;
    files.files[0].0.splice(middle..middle, *b"a word");
    files.files[3].0.drain(100..200);
    let next = taken(&store, &files, 2, Some(&full));
    check(&store, &next, &files);
    check(&store, &full, &some());
    assert!((1..3 << 20).contains(&next.snapshot.sizes.changed), "{:?}", next.snapshot.sizes);
    assert!(next.snapshot.sizes.stored < 2_000_000, "{:?}", next.snapshot.sizes);
    assert!(
        next.snapshot.kind == SnapshotKind::Incremental
            && next.snapshot.sizes.logical == full.snapshot.sizes.logical - 94
    );
}

#[test]
fn an_unchanged_file_is_not_read() {
    let (store, mut files) = (memory(), some());
    let full = taken(&store, &files, 1, None);
    files.unchanged = [FileId::new(0), FileId::new(1), FileId::new(4)].into();
    files.files[4].0.push(6); // the file's length shows the change
    files.read.lock().unwrap().clear();
    let next = taken(&store, &files, 2, Some(&full));
    check(&store, &next, &files);
    let read = files.read.lock().unwrap().clone();
    assert!(!read.contains(&FileId::new(0)) && !read.contains(&FileId::new(1)));
    assert!(read.contains(&FileId::new(3)) && read.contains(&FileId::new(4)));
    assert_eq!(next.snapshot.sizes.changed, 2);
    // A file that is known to have changed is read whole.
    for file in [0, 1] {
        files.files[file as usize].0[100] ^= 1;
        files.changes.mark(FileId::new(file), BlockSize::DEFAULT, 0);
    }
    let last = taken(&store, &files, 3, Some(&next));
    check(&store, &last, &files);
    assert!(last.snapshot.sizes.changed > 0);
}

#[test]
fn a_file_may_gain_or_lose_its_blocks() {
    let (store, mut files) = (memory(), some());
    let full = taken(&store, &files, 1, None);
    files.files[0].1 = 512;
    files.files[1].1 = 0;
    files.unchanged = (0..7).map(FileId::new).collect();
    let next = taken(&store, &files, 2, Some(&full));
    check(&store, &next, &files);
    files.files[0].0.truncate(5_000_000);
    files.files[0].1 = 0;
    files.files.pop();
    let last = taken(&store, &files, 3, Some(&next));
    check(&store, &last, &files);
}

#[test]
fn a_delta_with_files_without_blocks_is_refused() {
    struct Nothing(Vec<FileShape>);
    impl Delta for Nothing {
        fn files(&self) -> Vec<FileShape> {
            self.0.clone()
        }
        fn zeroed_from(&self, _: FileId) -> u64 {
            u64::MAX
        }
        fn for_each_image(&mut self, _: ImageSink<'_>) -> Result<()> {
            Ok(())
        }
    }
    let (store, files) = (memory(), some());
    let full = taken(&store, &files, 1, None);
    let error = write_increment(&store, &full, &mut Nothing(files.files()), meta(2)).unwrap_err();
    assert!(matches!(error, Error::Shape { .. }), "{error}");
}
