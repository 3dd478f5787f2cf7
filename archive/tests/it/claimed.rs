//! A shipper that claims its source itself.

use crate::world::{LOG_ID, TestClock, archive, create_wal, options};
use pitr_archive::{Error, ForkReason, Shipper, Timeline};
use pitr_format::record::Record;
use pitr_format::{FileId, Lsn, PartitionId, TimelineId, Timestamp, TxId};
use pitr_wal::{BatchBuilder, Wal};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

fn commit(wal: &Wal, tx: u64) {
    let mut batch = BatchBuilder::new();
    let image = Record::Image { file: FileId::FIRST, block: tx, data: &[tx as u8; 512] };
    batch.push(PartitionId::FIRST, TxId::new(tx), &image).unwrap();
    batch.push_commit(PartitionId::FIRST, TxId::new(tx), None, None, b"").unwrap();
    wal.commit(batch).unwrap();
}

#[test]
fn a_second_claim_continues_the_archive_and_fences_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let (archive, clock) = (archive(dir.path(), "app"), Arc::new(TestClock(AtomicI64::new(1_000_000))));
    let log = |name: &str, timeline| create_wal(&dir.path().join(name), &clock, timeline, Lsn::ORIGIN, false);
    let (wal, second_timeline) = (log("log", TimelineId::FIRST), log("second", TimelineId::new(2)));
    assert_eq!((wal.timeline(), wal.log_id()), (TimelineId::FIRST, LOG_ID));
    let claim = |wal| Shipper::claim(&archive, wal, options(1 << 20, 1 << 20));
    // Only the first timeline begins by itself.
    let unknown = claim(&second_timeline).unwrap_err();
    assert!(matches!(unknown, Error::UnknownTimeline { .. }), "{unknown}");

    let mut first = claim(&wal).unwrap();
    commit(&wal, 1);
    assert_eq!(first.ship(&wal).unwrap().objects, 1);
    let timelines = archive.catalog().unwrap().timelines().clone();
    let begun = timelines[&TimelineId::FIRST];
    assert_eq!(begun, Timeline::first(begun.created));
    assert_eq!((begun.reason, begun.fork), (ForkReason::First, Lsn::ORIGIN));
    assert!(begun.created > Timestamp::MIN);

    let mut second = claim(&wal).unwrap();
    assert_eq!(second.archived(), first.archived());
    assert_eq!(*archive.catalog().unwrap().timelines(), timelines, "no second timeline");
    commit(&wal, 2);
    assert!(matches!(first.ship(&wal), Err(Error::Fenced { .. })));
    second.ship(&wal).unwrap();
    assert_eq!(second.archived(), Some(wal.durable()));
}
