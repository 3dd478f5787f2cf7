//! Shipping a log and merging it, in MB of log per second, on a local folder.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use pitr_archive::{Archive, Error, ForkReason, Merged, ShipOptions, Shipper, Timeline, Writer};
use pitr_format::record::Record;
use pitr_format::{FileId, Lsn, PartitionId, SourceName, TimelineId, Timestamp, TxId};
use pitr_objects::Objects;
use pitr_vfs::Env;
use pitr_wal::{BatchBuilder, Start, Wal, WalOptions};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

const BLOCK: usize = 4096;
const TRANSACTIONS: u64 = 400;
const BLOCKS: u64 = 64;

/// Blocks, half of each noise, written all over a file: about four times each.
fn write(wal: &Wal) -> u64 {
    let mut noise = 0x2545_f491_4f6c_dd1du64;
    let mut roll = || {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        noise
    };
    let mut data = vec![0; BLOCK];
    for tx in 1..=TRANSACTIONS {
        let mut builder = BatchBuilder::new();
        for _ in 0..BLOCKS {
            data.chunks_mut(16).for_each(|part| part[..8].copy_from_slice(&roll().to_le_bytes()));
            let block = roll() % (TRANSACTIONS * BLOCKS / 4);
            let image = Record::Image { file: FileId::FIRST, block, data: &data };
            builder.push(PartitionId::FIRST, TxId::new(tx), &image).expect("a valid record");
        }
        builder.push_commit(PartitionId::FIRST, TxId::new(tx), None, None, b"").expect("a valid commit");
        wal.append(builder).expect("the disk works");
    }
    wal.sync().expect("the disk works").get()
}

fn shipper(dir: &Path, wal: &Wal, name: u64) -> Shipper {
    let objects = Objects::create_local(dir.join("repo")).expect("a folder");
    let archive = Archive::new(objects, SourceName::new(&format!("s{name}")).expect("a valid name"));
    let writer = Writer::claim(&archive, Timestamp::MIN).expect("the only writer");
    let (created, reason) = (Timestamp::MIN, ForkReason::First);
    let first = Timeline { parent: None, fork: Lsn::ORIGIN, reason, created, ambiguous: None, root: None };
    let timeline = writer.claim_timeline(&first).expect("the only writer");
    let catalog = archive.catalog().expect("an archive");
    Shipper::new(writer, &catalog, wal, timeline, [1; 16], ShipOptions::default()).expect("the same log")
}

fn bench(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a folder");
    let start = Start::first([1; 16]);
    let options = WalOptions::default();
    let wal = Wal::create(&Env::system(), &dir.path().join("log"), &start, &options).expect("a log");
    let end = write(&wal);
    let bytes = TRANSACTIONS * BLOCKS * BLOCK as u64;
    let mut group = c.benchmark_group("archive");
    group.sample_size(10).throughput(Throughput::BytesDecimal(bytes));

    let mut name = 0;
    group.bench_function("ship", |b| {
        let fresh = || {
            name += 1;
            shipper(dir.path(), &wal, name)
        };
        b.iter_batched(fresh, |mut shipper| shipper.ship(&wal).expect("shipped"), BatchSize::PerIteration);
    });

    let mut shipper = shipper(dir.path(), &wal, 0);
    shipper.ship(&wal).expect("shipped");
    let archive = shipper.writer().archive();
    let catalog = archive.catalog().expect("an archive");
    let pieces = catalog.pieces(&catalog.lineage(TimelineId::FIRST).expect("a timeline"));
    let merge = || Merged::new(archive, &pieces, Lsn::ORIGIN, Lsn::new(end)).expect("no hole");
    group.bench_function("select", |b| b.iter(|| merge().survivors()));
    group.bench_function("select and stream", |b| {
        b.iter(|| {
            let sum = AtomicU64::new(0);
            let add = |image: pitr_archive::Image<'_>| -> Result<(), Error> {
                sum.fetch_add(image.data.len() as u64, Ordering::Relaxed);
                Ok(())
            };
            merge().par_for_each(add).expect("whole");
            sum.into_inner()
        });
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
