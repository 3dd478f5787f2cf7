//! What the seam costs: a write with its sync on the operating system's files, and a surviving disk.

use criterion::{Criterion, criterion_group, criterion_main};
use pitr_vfs::sim::{Mode, SimFs, Survivors};
use pitr_vfs::{FileSystem, OsFs};
use std::path::Path;

fn write_and_sync(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a folder for the bench");
    let file = OsFs.create_new(&dir.path().join("f")).expect("a file in it");
    let block = [7; 4096];
    for block_no in 0..256 {
        file.write_all_at(&block, block_no * 4096).expect("space for 1 MiB");
    }
    file.sync_all().expect("a disk that works");
    let mut at = 0;
    c.bench_function("os: write 4 KiB into a written file, sync", |b| {
        b.iter(|| {
            file.write_all_at(&block, at % 256 * 4096)
                .and_then(|()| file.sync_data())
                .expect("a disk that works");
            at += 1;
        });
    });
}

fn surviving_disk(c: &mut Criterion) {
    let fs = SimFs::new();
    fs.create_dir_all(Path::new("/d")).expect("the simulation has room");
    for number in 0..32 {
        let file = fs.create_new(Path::new(&format!("/d/{number}"))).expect("a new name");
        file.write_all_at(&[1; 64 << 10], 0).and_then(|()| file.sync_all()).expect("no fault is set");
        file.write_all_at(&[2; 1000], 100).expect("no fault is set");
    }
    let trace = fs.trace();
    let survivors = Survivors::at(&trace, trace.ops.len());
    let mut seed = 0;
    c.bench_function("sim: a surviving disk of 2 MiB with 64 ops in doubt", |b| {
        b.iter(|| {
            seed += 1;
            survivors.disk(Mode::TornSector, seed)
        });
    });
}

criterion_group!(benches, write_and_sync, surviving_disk);
criterion_main!(benches);
