//! Planning a prune: walks every root, and finds out which packs are needed.

use criterion::{Criterion, criterion_group, criterion_main};
use pitr_codec::Codec;
use pitr_dedup::ChunkStore;
use pitr_format::{Epoch, FileId, Lsn, SourceName, TimelineId, Timestamp, TxId};
use pitr_objects::Objects;
use pitr_prune::{Policy, Pruner};
use pitr_snapshot::{BlockSource, BoxError, FileShape, SnapshotMeta, write_full};
use std::num::NonZeroU32;

const SNAPSHOTS: u64 = 20;
const LEN: u64 = 64 << 20;

/// Each block contains its number, and every 50th also the number of the snapshot.
struct Made(u64);

impl BlockSource for Made {
    fn files(&self) -> Vec<FileShape> {
        vec![FileShape { file: FileId::FIRST, name: "made".to_owned(), len: LEN, block_bytes: 4096 }]
    }

    fn read_at(&self, _: FileId, offset: u64, buf: &mut [u8]) -> Result<(), BoxError> {
        for (no, block) in (offset / 4096..).zip(buf.chunks_mut(4096)) {
            block[..8].copy_from_slice(&no.to_le_bytes()[..8]);
            block[8] = if no % 50 == 0 { self.0 as u8 } else { 0 };
        }
        Ok(())
    }
}

fn benches(c: &mut Criterion) {
    let objects = Objects::memory().expect("a store");
    objects.init_repository(Timestamp::MIN).expect("nothing is there");
    let mut parent = None;
    for at in 1..=SNAPSHOTS {
        let store = ChunkStore::open(objects.clone()).expect("a store");
        let meta = SnapshotMeta {
            source: SourceName::new("bench").expect("a name"),
            engine: "bench".to_owned(),
            timeline: TimelineId::FIRST,
            epoch: Epoch::FIRST,
            redo_from: Lsn::new(at),
            consistent_at: Lsn::new(at),
            time: Timestamp::MIN,
            tx: TxId::NONE,
            codec: Codec::default(),
            created: Timestamp::MIN,
            attributes: None,
        };
        let written = write_full(&store, &Made(at), meta, parent.as_ref()).expect("a snapshot");
        parent = Some(written.publish(&store).expect("a root"));
    }
    let policy = Policy { keep_snapshots: NonZeroU32::new(10), ..Policy::default() };
    let pruner = Pruner::new(objects, policy).expect("a rule");
    c.bench_function("prune/plan", |b| b.iter(|| pruner.plan(Timestamp::MIN).expect("a plan")));
}

criterion_group!(all, benches);
criterion_main!(all);
