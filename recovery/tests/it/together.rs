//! A common moment of several sources.

use crate::lab::history;
use crate::world::{World, options};
use pitr_format::record::Record;
use pitr_format::{FileId, PartitionId, Timestamp, TxId};
use pitr_recovery::{Error, History, RecoveryTarget, Target, Why, earliest_watermark, newest_common};
use pitr_wal::BatchBuilder;
use std::path::Path;
use std::sync::atomic::Ordering;

/// A source with a watermark and with commits at these times, each with the earliest time at which
/// the commit may have happened.
fn source(dir: &Path, commits: &[(i64, i64)], watermark: i64) -> History {
    let mut world = World::new(dir, 1, 1, options(1 << 20, 1 << 16));
    for (tx, (earliest, time)) in (1..).zip(commits) {
        world.clock.0.store(*time, Ordering::Relaxed);
        let mut builder = BatchBuilder::new();
        let image = Record::Image { file: FileId::FIRST, block: tx, data: &[1; 512] };
        builder.push(PartitionId::FIRST, TxId::new(tx), &image).unwrap();
        let earliest = Timestamp::from_micros(*earliest);
        builder.push_commit(PartitionId::FIRST, TxId::new(tx), Some(earliest), None, b"").unwrap();
        world.wal.commit(builder).unwrap();
    }
    let mut builder = BatchBuilder::new();
    let watermark = Record::Watermark(Timestamp::from_micros(watermark));
    builder.push(PartitionId::FIRST, TxId::NONE, &watermark).unwrap();
    world.wal.commit(builder).unwrap();
    world.shipper.ship(&world.wal).unwrap();
    history(&world.archive)
}

#[test]
fn the_newest_common_moment_is_certain_in_each_source() {
    let dir = tempfile::tempdir().unwrap();
    let second = 1_000_000;
    let first =
        source(&dir.path().join("a"), &[(2 * second, 2 * second), (3 * second, 6 * second)], 10 * second);
    let other = source(&dir.path().join("b"), &[(2 * second, 2 * second)], 5 * second);
    let both = [first, other];
    assert_eq!(earliest_watermark(&both).unwrap(), Timestamp::from_micros(5 * second));
    // The second commit of the first source may have happened on either side of the watermark.
    let moment = newest_common(&both).unwrap();
    assert_eq!(moment, Timestamp::from_micros(3 * second - 1));
    for history in &both {
        let stop = history.resolve(&Target::at(RecoveryTarget::Timestamp(moment))).unwrap();
        assert_eq!(stop.reached.tx, TxId::new(1));
    }
    let [first, _] = both;
    assert_eq!(newest_common(&[first]).unwrap(), Timestamp::from_micros(10 * second));
}

#[test]
fn sources_without_a_common_moment_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let half = 500_000;
    // Each commit may have happened at any time since the previous commit, and no moment is certain
    // in both sources.
    let busy = |offset: i64| (5..105).map(move |no| ((2 * no - 2) * half + offset, 2 * no * half + offset));
    let first = source(&dir.path().join("a"), &busy(0).collect::<Vec<_>>(), 104 * 2 * half);
    let other = source(&dir.path().join("b"), &busy(half).collect::<Vec<_>>(), 104 * 2 * half + half);
    let refused = newest_common(&[first, other]).unwrap_err().1;
    assert!(
        matches!(&refused, Error::TargetUnreachable(found) if matches!(found.why, Why::Uncertain { .. })),
        "{refused}"
    );
    // A source without data is named by its number.
    let empty = World::new(&dir.path().join("c"), 1, 1, options(1 << 20, 1 << 16));
    let nothing = History::load(empty.archive.objects(), empty.archive.source(), None).unwrap();
    let first = source(&dir.path().join("d"), &[(2_000_000, 2_000_000)], 3_000_000);
    let (number, refused) = newest_common(&[first, nothing]).unwrap_err();
    assert_eq!(number, 1, "{refused}");
}
