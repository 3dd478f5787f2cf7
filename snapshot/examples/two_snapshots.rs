//! Takes a full and an incremental snapshot of a file, and reads both back.

use pitr_dedup::ChunkStore;
use pitr_format::{FileId, SourceName};
use pitr_objects::Objects;
use pitr_snapshot::{FileSource, Manifest, SnapshotMeta, SnapshotReader, write_full};
use std::error::Error;
use std::fs;
use std::path::Path;

const BLOCK: usize = 4096;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let objects = Objects::create_local(dir.path().join("repo"))?;
    objects.init_repository(objects.env().clock.now())?;
    let chunks = ChunkStore::open(objects)?;

    let path = dir.path().join("app.db");
    let before = noise(8 << 20);
    fs::write(&path, &before)?;
    let first = take(&chunks, &path, 1, None)?;
    show("first snapshot", &first);

    // Three of its 2048 blocks change.
    let mut after = before.clone();
    for block in [5, 700, 2000] {
        after[block * BLOCK..][..BLOCK].fill(b'x');
    }
    fs::write(&path, &after)?;
    let second = take(&chunks, &path, 2, Some(&first))?;
    show("second snapshot", &second);

    // Each snapshot can be read by itself.
    for (manifest, expected) in [(first, before), (second, after)] {
        let id = manifest.snapshot.id;
        let mut bytes = vec![0; expected.len()];
        SnapshotReader::open(chunks.clone(), manifest).read_at(FileId::FIRST, 0, &mut bytes)?;
        if bytes != expected {
            return Err(format!("snapshot {id} has other bytes than the file had").into());
        }
        println!("snapshot {id}: {} bytes, as the file was", bytes.len());
    }
    Ok(())
}

fn take(
    chunks: &ChunkStore,
    path: &Path,
    number: u64,
    parent: Option<&Manifest>,
) -> Result<Manifest, Box<dyn Error>> {
    let source = FileSource::open(path)?;
    let now = chunks.objects().env().clock.now();
    let meta = SnapshotMeta::new(SourceName::new("app")?, "example", number, now);
    Ok(write_full(chunks, &source, meta, parent)?.publish(chunks)?)
}

fn show(what: &str, manifest: &Manifest) {
    let sizes = manifest.snapshot.sizes;
    println!("{what}: {} bytes, {} changed, {} stored", sizes.logical, sizes.changed, sizes.stored);
}

/// Bytes that do not compress.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..len).map(|_| next()).collect()
}
