//! The cost of the file-system interface: a write with its sync on the operating system's files,
//! and building a surviving disk.

use criterion::{Criterion, criterion_group, criterion_main};
use pitr_vfs::sim::{Mode, SimFs, Survivors};
use pitr_vfs::{FileSystem, OsFs};
use std::path::Path;

fn write_and_sync(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = OsFs.create_new(&dir.path().join("f")).expect("a new file");
    let block = [7; 4096];
    for block_no in 0..256 {
        file.write_all_at(&block, block_no * 4096).expect("1 MiB of free space");
    }
    file.sync_all().expect("a working disk");
    let mut at = 0;
    c.bench_function("os: write 4 KiB into a written file, sync", |b| {
        b.iter(|| {
            file.write_all_at(&block, at % 256 * 4096)
                .and_then(|()| file.sync_data())
                .expect("a working disk");
            at += 1;
        });
    });
}

fn surviving_disk(c: &mut Criterion) {
    let fs = SimFs::new();
    fs.create_dir_all(Path::new("/d")).expect("the simulated disk has space");
    for number in 0..32 {
        let file = fs.create_new(Path::new(&format!("/d/{number}"))).expect("a new name");
        file.write_all_at(&[1; 64 << 10], 0).and_then(|()| file.sync_all()).expect("no injected fault");
        file.write_all_at(&[2; 1000], 100).expect("no injected fault");
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
