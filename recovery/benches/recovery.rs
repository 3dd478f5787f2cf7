//! Restoring a file from a snapshot and a log that changes a tenth of it, in MB of the file per
//! second.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pitr_archive::{Archive, ForkReason, ShipOptions, Shipper, Timeline, Writer};
use pitr_codec::Codec;
use pitr_dedup::ChunkStore;
use pitr_format::record::Record;
use pitr_format::{FileId, Lsn, PartitionId, SourceName, Timestamp, TxId};
use pitr_objects::Objects;
use pitr_recovery::{
    Error, History, Layout, RecoveryTarget, RestoreOptions, RestoreState, RestoreTarget, Restorer, Target,
};
use pitr_snapshot::{BlockSource, BoxError, FileShape, SnapshotMeta, write_full};
use pitr_vfs::{Env, OsFs, SystemClock};
use pitr_wal::{BatchBuilder, Start, Wal, WalOptions};
use std::sync::Arc;

const BLOCK: usize = 4096;
const LEN: u64 = 256 << 20;

#[derive(Debug)]
struct OneFile;

impl RestoreTarget for OneFile {
    fn lay_out(&self, state: &RestoreState<'_>) -> Result<Layout, Error> {
        state.single_file()
    }
}

struct Memory(Vec<u8>);

impl BlockSource for Memory {
    fn files(&self) -> Vec<FileShape> {
        let (file, name, len) = (FileId::FIRST, "bench".to_owned(), self.0.len() as u64);
        vec![FileShape { file, name, len, block_bytes: BLOCK as u32 }]
    }

    fn read_at(&self, _: FileId, offset: u64, buf: &mut [u8]) -> Result<(), BoxError> {
        let at = offset as usize;
        buf.copy_from_slice(&self.0[at..at + buf.len()]);
        Ok(())
    }
}

struct Noise(u64);

impl Noise {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Half of each block is noise.
    fn fill(&mut self, data: &mut [u8]) {
        data.chunks_exact_mut(16).for_each(|part| part[..8].copy_from_slice(&self.roll().to_le_bytes()));
    }
}

fn prepare(dir: &std::path::Path) -> (Objects, SourceName) {
    let objects = Objects::create_local(dir.join("repo")).expect("a folder");
    let source = SourceName::new("bench").expect("a valid name");
    let archive = Archive::new(objects.clone(), source.clone());
    let writer = Writer::claim(&archive, Timestamp::MIN).expect("no other writer claims");
    let (created, reason) = (Timestamp::MIN, ForkReason::First);
    let first = Timeline { parent: None, fork: Lsn::ORIGIN, reason, created, ambiguous: None, root: None };
    let timeline = writer.claim_timeline(&first).expect("no other writer claims");
    let start = Start { timeline, gap: true, ..Start::first([1; 16]) };
    let (clock, options) = (Arc::new(SystemClock::new()), WalOptions::default());
    let wal =
        Wal::create(&Env::system().with_clock(clock), &dir.join("log"), &start, &options).expect("a log");

    let mut noise = Noise(88_172_645_463_325_252);
    let mut content = vec![0; LEN as usize];
    noise.fill(&mut content);
    let at = wal.durable();
    let meta = SnapshotMeta {
        source: source.clone(),
        engine: "bench".to_owned(),
        timeline,
        epoch: writer.epoch(),
        redo_from: at,
        consistent_at: at,
        time: Timestamp::MIN,
        tx: TxId::NONE,
        codec: Codec::default(),
        created: Timestamp::MIN,
        attributes: None,
    };
    let chunks = ChunkStore::open(objects.clone()).expect("a store");
    let manifest = write_full(&chunks, &Memory(content), meta, None).expect("a snapshot");
    manifest.publish(&chunks).expect("a root");

    let mut data = vec![0; BLOCK];
    for tx in 1..=LEN / BLOCK as u64 / 10 / 64 {
        let mut builder = BatchBuilder::new();
        for _ in 0..64 {
            noise.fill(&mut data);
            let block = noise.roll() % (LEN / BLOCK as u64);
            let image = Record::Image { file: FileId::FIRST, block, data: &data };
            builder.push(PartitionId::FIRST, TxId::new(tx), &image).expect("a valid record");
        }
        builder.push_commit(PartitionId::FIRST, TxId::new(tx), None, None, b"").expect("a valid commit");
        wal.append(builder).expect("the disk works");
    }
    wal.sync().expect("the disk works");
    let catalog = archive.catalog().expect("an archive");
    let options = ShipOptions::default();
    let mut shipper = Shipper::new(writer, &catalog, &wal, timeline, [1; 16], options).expect("the same log");
    shipper.ship(&wal).expect("shipped");
    (objects, source)
}

fn bench(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a folder");
    let (objects, source) = prepare(dir.path());
    let history = History::load(&objects, &source, None).expect("a history");
    let chunks = ChunkStore::open(objects).expect("a store");
    let (clock, progress) = (SystemClock::new(), |_| {});
    let restorer = Restorer {
        history: &history,
        chunks: &chunks,
        target: &OneFile,
        fs: &OsFs,
        clock: &clock,
        progress: &progress,
    };
    let target = Target::at(RecoveryTarget::Latest);
    let mut group = c.benchmark_group("recovery");
    group.sample_size(10).throughput(Throughput::BytesDecimal(LEN));
    group.bench_function("restore", |b| {
        b.iter(|| {
            let plan = history.plan(&history.resolve(&target).expect("reachable")).expect("a plan");
            let output = dir.path().join("restored");
            let options = RestoreOptions::to(&output);
            let done = restorer.restore(&plan, &options).expect("restored");
            std::fs::remove_file(output).expect("removed");
            done.bytes
        });
    });
    group.bench_function("resolve and plan", |b| {
        b.iter(|| history.plan(&history.resolve(&target).expect("reachable")).expect("a plan"));
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
