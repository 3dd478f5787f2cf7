//! The chunk store as its users see it.

#![allow(clippy::unwrap_used)] // test helpers fail by panicking

use pitr_codec::{Codec, OBJECT_BYTES_MAX};
use pitr_dedup::*;
use pitr_objects::Objects;
use pitr_objects::object_store::memory::InMemory;
use pitr_testkit::noise;
use proptest::prelude::*;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier, Mutex};

fn memory() -> ChunkStore {
    ChunkStore::open(Objects::memory().unwrap()).unwrap()
}

fn put_all(store: &ChunkStore, chunks: &[Vec<u8>]) -> (Vec<ChunkId>, Written) {
    let writer = store.writer(Codec::default());
    let ids = chunks.iter().map(|raw| writer.put(raw).unwrap()).collect();
    (ids, writer.finish().unwrap())
}

#[test]
fn chunks_are_stored_once_across_writers_and_processes() {
    let shared = Arc::new(InMemory::new());
    let open = || ChunkStore::open(Objects::with_store(shared.clone()).unwrap()).unwrap();
    let chunks: Vec<_> = (0..50).map(|n| noise(n % 40, 10_000)).collect();
    let first = open();
    let (ids, written) = put_all(&first, &chunks);
    assert_eq!((written.chunks_new, written.raw_new, written.packs), (40, 400_000, 1));
    let (again, nothing) = put_all(&first, &chunks);
    assert_eq!((&again, nothing), (&ids, Written::default()));

    let second = open();
    let (again, nothing) = put_all(&second, &chunks);
    assert_eq!((&again, nothing), (&ids, Written::default()));
    let (_, one) = put_all(&second, &[noise(7, 10_000), noise(99, 10_000)]);
    assert_eq!(one.chunks_new, 1);
    for (id, raw) in ids.iter().zip(&chunks) {
        assert_eq!(&second.read(id).unwrap(), raw);
    }
    assert_eq!(first.read(&ChunkId::of(b"?")).unwrap_err().kind(), ErrorKind::Missing);
}

#[test]
fn many_callers_share_few_packs() {
    const CALLERS: usize = 16;
    let store = memory();
    let writer = store.writer(Codec::default());
    let chunks: Vec<_> = (0..CALLERS).map(|n| noise(n as u64, 500_000)).collect();
    let at_once = Barrier::new(CALLERS);
    std::thread::scope(|scope| {
        for raw in &chunks {
            scope.spawn(|| {
                at_once.wait();
                writer.put(raw).unwrap()
            });
        }
    });
    let written = writer.finish().unwrap();
    assert_eq!(written.chunks_new, CALLERS as u64);
    assert!(written.packs <= rayon::current_num_threads() as u64, "{written:?}");
}

#[test]
fn all_bytes_that_were_added_are_counted() {
    let store = memory();
    let chunks: Vec<_> = (0..40).map(|n| noise(n, 700_000)).collect();
    let (_, written) = put_all(&store, &chunks);
    let mut entries = store.objects().list("").unwrap();
    entries.retain(|entry| !entry.path.starts_with("leases/"));
    assert_eq!(entries.iter().map(|entry| entry.size).sum::<u64>(), written.stored);
    let packs: Vec<_> = entries.iter().filter(|entry| entry.path.starts_with("packs/")).collect();
    assert_eq!((packs.len() as u64, written.packs), (2, 2));
    assert!(packs.iter().all(|pack| pack.size <= OBJECT_BYTES_MAX as u64));
    let sums = 40 * 700_000u64.div_ceil(PIECE_BYTES as u64) * 16;
    assert!(written.stored < 40 * 700_000 + sums + 20_000, "{written:?}");
}

#[test]
fn piece_sums_are_known_without_reading_chunks() {
    let folder = tempfile::tempdir().unwrap();
    let store = ChunkStore::open(Objects::create_local(folder.path()).unwrap()).unwrap();
    // Long and short chunks, in more than one pack.
    let mut chunks: Vec<_> = (0..30).map(|n| noise(n, 600_000 + n as usize * 1000)).collect();
    chunks.extend([vec![], vec![1], noise(77, PIECE_BYTES), noise(78, PIECE_BYTES + 1)]);
    let (ids, _) = put_all(&store, &chunks);
    let sums = store.sums();
    for (id, raw) in ids.iter().zip(&chunks) {
        let told: Vec<PieceSum> = sums.of(id).unwrap().to_vec();
        assert_eq!(told, raw.chunks(PIECE_BYTES).map(PieceSum::of).collect::<Vec<_>>());
        assert_eq!(told.len(), Pieces::of(raw).sums().len());
    }
    assert_eq!(sums.of(&ChunkId::of(b"?")).unwrap_err().kind(), ErrorKind::Missing);
    // FAILURES 29: the end of each pack is damaged in turn.
    for path in store.packs().unwrap() {
        let path = folder.path().join(path);
        let mut bytes = std::fs::read(&path).unwrap();
        let at = bytes.len() - 5000;
        bytes[at] ^= 4;
        std::fs::write(&path, bytes).unwrap();
    }
    let fresh = store.sums();
    assert!(ids.iter().all(|id| fresh.of(id).is_err_and(|error| error.kind() == ErrorKind::Corrupt)));
}

#[test]
fn a_crash_between_packs_and_index_loses_nothing() {
    // FAILURES 23
    let shared = Arc::new(InMemory::new());
    let open = || ChunkStore::open(Objects::with_store(shared.clone()).unwrap()).unwrap();
    let chunks: Vec<_> = (0..5).map(|n| noise(n, 1000)).collect();
    let store = open();
    let writer = store.writer(Codec::default());
    for raw in &chunks {
        writer.put(raw).unwrap();
    }
    writer.flush().unwrap();
    drop(writer);
    let mut paths: Vec<_> = store.objects().list("").unwrap().into_iter().map(|entry| entry.path).collect();
    paths.retain(|path| !path.starts_with("leases/"));
    assert!(paths.len() == 1 && paths[0].starts_with("packs/"), "{paths:?}");

    for store in [store, open()] {
        assert!(store.is_empty().unwrap());
        assert_eq!(store.read(&ChunkId::of(&chunks[0])).unwrap_err().kind(), ErrorKind::Missing);
    }
    let (ids, written) = put_all(&open(), &chunks);
    assert_eq!(written.chunks_new, 5);
    assert_eq!(open().read(&ids[3]).unwrap(), chunks[3]);
}

#[test]
fn indexed_chunks_of_a_dead_writer_are_reused() {
    // FAILURES 23
    const CHUNKS: u64 = 6_000;
    let shared = Arc::new(InMemory::new());
    let open = || ChunkStore::open(Objects::with_store(shared.clone()).unwrap()).unwrap();
    let chunks: Vec<_> = (0..CHUNKS).map(|n| n.to_le_bytes().repeat(2_500)).collect();
    let (first, second) = chunks.split_at(5_800);
    let store = open();
    let writer = store.writer(Codec::None);
    let ids = writer.put_many(first).unwrap();
    let own = |id: &ChunkId| writer.read_into(id, |len| vec![0; len]).unwrap();
    assert!(ids.iter().zip(first).all(|(id, raw)| own(id) == *raw), "named or not, it reads them");
    drop(writer);
    let kept = open().len().unwrap() as u64;
    assert!((800..5_800).contains(&kept), "{kept}");
    assert_eq!(store.len().unwrap() as u64, kept);

    let store = open();
    let writer = store.writer(Codec::None);
    let ids = [writer.put_many(first).unwrap(), writer.put_many(second).unwrap()].concat();
    assert_eq!(writer.finish().unwrap().chunks_new, CHUNKS - kept);
    assert!(ids.iter().zip(&chunks).all(|(id, raw)| store.read(id).unwrap() == *raw));
}

#[test]
fn a_writer_reads_its_own_chunks_before_it_is_finished() {
    let store = memory();
    let writer = store.writer(Codec::default());
    let read = |id: &ChunkId| writer.read_into(id, |len| vec![0; len]);
    let id = writer.put(b"early").unwrap();
    assert_eq!(read(&id).unwrap(), b"early");
    let late = writer.put(b"late").unwrap();
    assert_eq!(read(&late).unwrap(), b"late");
    assert!(!store.contains(&id).unwrap());
    assert!(read(&ChunkId::ZERO).is_err());
    writer.finish().unwrap();
    assert_eq!(store.read(&id).unwrap(), b"early");
}

fn only_pack(folder: &Path) -> PathBuf {
    let mut found = Vec::new();
    for two in std::fs::read_dir(folder.join("packs")).unwrap() {
        found.extend(std::fs::read_dir(two.unwrap().path()).unwrap().map(|file| file.unwrap().path()));
    }
    assert_eq!(found.len(), 1);
    found.remove(0)
}

#[test]
fn a_flipped_byte_in_a_pack_is_refused() {
    // FAILURES 29
    let folder = tempfile::tempdir().unwrap();
    let store = ChunkStore::open(Objects::create_local(folder.path()).unwrap()).unwrap();
    let chunks = [noise(1, 5000), vec![7; 5000], noise(2, 300)];
    let (ids, _) = put_all(&store, &chunks);
    let pack = only_pack(folder.path());
    let sound = std::fs::read(&pack).unwrap();
    let mut refused = HashSet::new();
    for at in (64..sound.len()).step_by(37) {
        let mut bytes = sound.clone();
        bytes[at] ^= 4;
        std::fs::write(&pack, &bytes).unwrap();
        for (no, (id, raw)) in ids.iter().zip(&chunks).enumerate() {
            match store.read(id) {
                Ok(read) => assert_eq!(&read, raw),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
                    assert!(error.to_string().starts_with("packs/"), "{error}");
                    refused.insert(no);
                }
            }
        }
    }
    assert_eq!(refused.len(), 3, "each chunk was damaged");
    // Truncated, empty, missing.
    for (bytes, kind) in [(&sound[..200], ErrorKind::Corrupt), (&[], ErrorKind::Corrupt)] {
        std::fs::write(&pack, bytes).unwrap();
        assert_eq!(store.read(&ids[1]).unwrap_err().kind(), kind);
    }
    std::fs::remove_file(&pack).unwrap();
    assert_eq!(store.read(&ids[1]).unwrap_err().kind(), ErrorKind::Missing);
}

#[test]
fn swapped_packs_and_damaged_indexes_are_refused() {
    // FAILURES 29
    let folder = tempfile::tempdir().unwrap();
    let store = ChunkStore::open(Objects::create_local(folder.path()).unwrap()).unwrap();
    let (ids, _) = put_all(&store, &[vec![1; 4096]]);
    let pack = only_pack(folder.path());
    let other = tempfile::tempdir().unwrap();
    let store2 = ChunkStore::open(Objects::create_local(other.path()).unwrap()).unwrap();
    put_all(&store2, &[vec![2; 4096]]);
    std::fs::copy(only_pack(other.path()), &pack).unwrap();
    assert!(matches!(store.read(&ids[0]), Err(Error::WrongContent { .. })));

    let index = std::fs::read_dir(folder.path().join("index")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&index).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&index, bytes).unwrap();
    let error = ChunkStore::open(Objects::local(folder.path()).unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().starts_with("index/"), "{error}");
}

#[test]
fn a_failing_store_stops_the_writer() {
    // FAILURES 18
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("repo");
    let store = ChunkStore::open(Objects::create_local(&root).unwrap()).unwrap();
    std::fs::write(root.join("packs"), b"in the way of the folder").unwrap();
    let writer = store.writer(Codec::None);
    let mut failed = None;
    for n in 0..100 {
        if let Err(error) = writer.put(&noise(n, 1 << 20)) {
            failed = Some(error);
            break;
        }
    }
    assert!(matches!(failed, Some(Error::Failed(_))), "{failed:?}");
    assert!(writer.put(b"more").is_err());
    assert!(writer.flush().is_err());
    assert!(writer.finish().is_err());
    assert!(store.is_empty().unwrap());
}

#[test]
fn a_chunk_too_large_is_refused() {
    let store = memory();
    let writer = store.writer(Codec::default());
    assert_eq!(writer.put(&vec![0; CHUNK_BYTES_MAX + 1]).unwrap_err().kind(), ErrorKind::Limit);
    writer.put(&vec![0; CHUNK_BYTES_MAX]).unwrap();
    writer.finish().unwrap();
}

#[test]
fn an_error_ends_a_batch() {
    let store = memory();
    let chunks: Vec<_> = (0..60).map(|n| noise(n, 500_000)).collect();
    let (mut ids, written) = put_all(&store, &chunks);
    assert_eq!(written.packs, 2);
    let refused = store.read_each(&ids, |place, _| if place == 33 { Err(Error::Died) } else { Ok(()) });
    assert!(matches!(refused, Err(Error::Died)));
    ids[7] = ChunkId::of(b"?");
    let unknown = store.read_each(&ids, |_, _| Ok::<_, Error>(()));
    assert!(matches!(unknown, Err(Error::Unknown { id }) if id == ids[7]));
    assert!(store.read_each(&[], |_, _| Err(Error::Died)).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_is_put_is_read(
        chunks in prop::collection::vec((0..12u64, 0..200_000usize, any::<bool>()), 0..30),
        order: Vec<prop::sample::Index>,
    ) {
        let chunks: Vec<_> =
            chunks.into_iter().map(|(seed, len, plain)| if plain { vec![seed as u8; len] } else { noise(seed, len) }).collect();
        let store = memory();
        let writer = store.writer(Codec::default());
        let ids = writer.put_many(&chunks).unwrap();
        let written = writer.finish().unwrap();
        let different: HashSet<_> = chunks.iter().collect();
        prop_assert_eq!(written.chunks_new, different.len() as u64);
        let store = ChunkStore::open(store.objects().clone()).unwrap();

        let wanted: Vec<usize> = order.iter().filter(|_| !ids.is_empty()).map(|at| at.index(ids.len())).collect();
        let wanted_ids: Vec<_> = wanted.iter().map(|at| ids[*at]).collect();
        let read = Mutex::new(wanted.iter().map(|_| None).collect::<Vec<_>>());
        store.read_each(&wanted_ids, |place, raw| {
            assert!(read.lock().unwrap()[place].replace(raw).is_none());
            Ok::<_, Error>(())
        }).unwrap();
        for (at, raw) in wanted.iter().zip(read.into_inner().unwrap()) {
            prop_assert_eq!(&raw.unwrap()[..], &chunks[*at][..]);
        }
    }
}
