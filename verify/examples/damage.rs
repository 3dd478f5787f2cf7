//! Verifies a repository, damages one of its files, and verifies it again.

use pitr_dedup::ChunkStore;
use pitr_format::SourceName;
use pitr_objects::Objects;
use pitr_snapshot::{FileSource, SnapshotMeta, write_full};
use pitr_verify::{Options, Report, verify};
use std::error::Error;
use std::fs;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let repository = dir.path().join("repo");
    let objects = Objects::create_local(&repository)?;
    let now = objects.env().clock.now();
    objects.init_repository(now)?;

    let file = dir.path().join("letters.txt");
    fs::write(&file, "Dear Ada, ".repeat(10_000))?;
    let chunks = ChunkStore::open(objects.clone())?;
    let source = FileSource::open(&file)?;
    let meta = SnapshotMeta::new(SourceName::new("letters")?, "example", 1, now);
    write_full(&chunks, &source, meta, None)?.publish(&chunks)?;

    let report = verify(&objects, Options::deep(), &|_| {})?;
    show("a new repository", &report);
    if !report.is_sound() {
        return Err("a new repository has a fault".into());
    }

    // One bit of a pack changes, as on a failing disk.
    let pack = objects.list("packs")?.pop().ok_or("the snapshot is in a pack")?.path;
    let path = repository.join(&pack);
    let mut bytes = fs::read(&path)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(&path)?; // files of a repository are read-only
    fs::write(&path, bytes)?;

    let report = verify(&objects, Options::deep(), &|_| {})?;
    show("with one bit of a pack changed", &report);
    for fault in &report.faults {
        println!("  {}: {} ({:?})", fault.object, fault.what, fault.kind);
        for (source, id) in &fault.snapshots {
            println!("    snapshot {id} of {source} needs it");
        }
    }
    if report.is_sound() { Err("the damage was not found".into()) } else { Ok(()) }
}

fn show(what: &str, report: &Report) {
    let Report { objects, bytes, snapshots, faults, .. } = report;
    println!("{what}: {objects} objects, {bytes} bytes, {snapshots} snapshots, {} faults", faults.len());
}
