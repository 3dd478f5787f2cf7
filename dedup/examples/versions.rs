//! Stores three versions of a file. Each one costs what is new in it, and each can be read alone.

use pitr_dedup::{ChunkId, ChunkStore, Codec, Error, Objects};
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

const CHUNK_BYTES: usize = 64 << 10;

/// Bytes that no codec makes smaller.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..len).map(|_| byte()).collect()
}

/// Stores a version. Returns its chunks, which are all that is needed to read it.
fn store(folder: &Path, file: &[u8]) -> Result<Vec<ChunkId>, Error> {
    let store = ChunkStore::open(Objects::local(folder)?)?;
    let writer = store.writer(Codec::default());
    let ids = file.chunks(CHUNK_BYTES).map(|chunk| writer.put(chunk)).collect::<Result<_, _>>()?;
    let written = writer.finish()?;
    println!("{} bytes; new chunks: {}, bytes stored: {}", file.len(), written.chunks_new, written.stored);
    Ok(ids)
}

fn read(folder: &Path, ids: &[ChunkId]) -> Result<Vec<u8>, Error> {
    let store = ChunkStore::open(Objects::local(folder)?)?;
    let chunks = ids.iter().map(|id| store.read(id)).collect::<Result<Vec<_>, _>>()?;
    Ok(chunks.concat())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let temp = tempfile::tempdir()?;
    let folder = temp.path().join("chunks");
    Objects::create_local(&folder)?;

    let first = noise(1, 4 << 20);
    let mut second = first.clone();
    second[1_000_000..1_000_010].copy_from_slice(b"ten bytes!");
    let third = [second.as_slice(), &noise(2, 100_000)].concat();
    let mut versions = Vec::new();
    for file in [&first, &second, &third, &first] {
        versions.push((store(&folder, file)?, file));
    }
    for (ids, file) in &versions {
        assert_eq!(&&read(&folder, ids)?, file);
    }
    println!("all versions are read back");

    // One changed byte in a pack is an error for the chunk that has it, and for no other.
    let store = ChunkStore::open(Objects::local(&folder)?)?;
    let packs = store.packs()?;
    println!("packs: {}", packs.len());
    let pack = OpenOptions::new().read(true).write(true).open(folder.join(&packs[0]))?;
    let mut byte = [0];
    pack.read_exact_at(&mut byte, 5_000)?;
    pack.write_all_at(&[!byte[0]], 5_000)?;
    let all: BTreeSet<&ChunkId> = versions.iter().flat_map(|(ids, _)| ids).collect();
    let errors: Vec<Error> = all.iter().filter_map(|id| store.read(id).err()).collect();
    println!("{} of {} chunks are damaged: {}", errors.len(), all.len(), errors[0]);
    Ok(())
}
