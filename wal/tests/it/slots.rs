//! Who keeps segments, and what gives way at the cap.

use crate::help::{batches, options, start, transaction};
use pitr_format::{Lsn, Timestamp};
use pitr_vfs::sim::{SimClock, SimFs};
use pitr_wal::{Error, Event, Wal, WalOptions};
use std::path::Path;
use std::sync::Arc;

const SEGMENT_BYTES: u64 = 16 << 10;

fn dir() -> &'static Path {
    Path::new("/log")
}

fn create(fs: &SimFs, segments_max: Option<u32>) -> Result<Wal, Error> {
    let clock = Arc::new(SimClock::new(Timestamp::from_micros(1)));
    let options = WalOptions { segments_max, ..options() };
    Wal::create(Arc::new(fs.clone()), clock, dir(), &start(SEGMENT_BYTES as u32), &options)
}

/// Commits until this many segments were begun in all; returns the end.
fn fill(wal: &Wal, segments: u64) -> Lsn {
    while wal.end() < Lsn::new(segments * SEGMENT_BYTES) {
        wal.commit(transaction(1, &[&[7; 1_000]])).unwrap();
    }
    wal.end()
}

fn files(fs: &SimFs) -> usize {
    let of_log = |name: &&Path| name.to_str().is_some_and(|name| name.contains(".seg"));
    fs.durable_disk().names().filter(of_log).count()
}

#[test]
fn nothing_that_a_slot_needs_is_removed() {
    let fs = SimFs::new();
    let wal = create(&fs, None).unwrap();
    let begin = wal.first();
    let archiver = wal.slot("archiver", begin).unwrap();
    let snapshot = wal.slot("snapshot", fill(&wal, 3)).unwrap();
    let end = fill(&wal, 6);
    assert_eq!(wal.remove_below(end).unwrap(), 0);
    assert_eq!((wal.first(), wal.stats().needed_from, archiver.position().unwrap()), (begin, begin, begin));

    archiver.advance(end).unwrap();
    archiver.advance(begin).unwrap();
    assert_eq!(archiver.position().unwrap(), end, "a slot never goes back");
    assert_eq!(wal.remove_below(end).unwrap(), 2 * SEGMENT_BYTES, "the two segments below the snapshot's");
    assert!(wal.first() <= snapshot.position().unwrap());
    drop(snapshot);
    assert!(
        wal.remove_below(Lsn::ORIGIN).unwrap() > 0,
        "a lower redo point than stated before changes nothing"
    );
    assert_eq!(wal.first(), Lsn::new(6 * SEGMENT_BYTES + 4096));
    assert!(wal.take_events().is_empty());
}

#[test]
fn at_the_cap_a_slot_gives_way_and_everyone_is_told() {
    // FAILURES 34
    let fs = SimFs::new();
    let wal = create(&fs, Some(4)).unwrap();
    let archiver = wal.slot("archiver", wal.first()).unwrap();
    let replica = wal.slot("replica", wal.first()).unwrap();
    fill(&wal, 4);
    replica.advance(wal.end()).unwrap();
    wal.remove_below(wal.end()).unwrap();
    assert!(wal.take_events().is_empty() && archiver.position().is_ok(), "not over the cap yet");

    for segments in 5..=9 {
        fill(&wal, segments);
        replica.advance(wal.end()).unwrap();
        wal.remove_below(wal.end()).unwrap();
    }
    assert!(wal.stats().segments <= 4 && files(&fs) <= 4 && wal.stats().slots_dropped == 1);
    let events = wal.take_events();
    let [Event::SlotDropped { name, position, below }] = &events[..] else { panic!("{events:?}") };
    assert_eq!((name.as_str(), *position), ("archiver", Lsn::new(SEGMENT_BYTES + 4096)));
    assert!(*below > *position && *below <= wal.first());
    for told in [archiver.advance(wal.end()), archiver.position().map(drop)] {
        assert!(matches!(told, Err(Error::SlotDropped { name, .. }) if name == "archiver"));
    }
    assert!(replica.position().is_ok() && wal.take_events().is_empty(), "told once");
    drop(archiver);
    wal.slot("archiver", wal.end()).unwrap();
}

#[test]
fn the_redo_point_never_gives_way() {
    // FAILURES 34
    let fs = SimFs::new();
    let wal = create(&fs, Some(2)).unwrap();
    let archiver = wal.slot("archiver", wal.first()).unwrap();
    let redo = fill(&wal, 3);
    wal.remove_below(redo).unwrap();
    fill(&wal, 7);
    let events = wal.take_events();
    assert!(
        matches!(&events[..], [Event::SlotDropped { .. }, Event::OverCap { segments: 5, segments_max: 2, redo: r }] if *r == redo),
        "{events:?}"
    );
    assert!(archiver.position().is_err() && wal.first() <= redo);
    assert!(batches(&mut wal.reader(redo).unwrap()).unwrap().len() > 4);
    assert_eq!(wal.remove_below(wal.end()).unwrap(), 4 * SEGMENT_BYTES);
}

#[test]
fn slots_that_cannot_be_had_are_refused() {
    let fs = SimFs::new();
    assert!(matches!(create(&fs, Some(1)), Err(Error::Options { .. })));
    let wal = create(&fs, None).unwrap();
    let held = wal.slot("archiver", Lsn::ORIGIN).unwrap();
    assert_eq!(held.name(), "archiver");
    assert!(matches!(wal.slot("archiver", wal.end()), Err(Error::SlotTaken { name }) if name == "archiver"));
    drop(held);
    wal.remove_below(fill(&wal, 3)).unwrap();
    assert!(matches!(wal.slot("archiver", Lsn::ORIGIN), Err(Error::Removed { .. })));
    let beyond = Lsn::new(wal.end().get() + 1);
    assert!(matches!(wal.slot("archiver", beyond), Err(Error::Beyond { .. })));
}

#[test]
fn what_was_done_is_counted() {
    let fs = SimFs::new();
    let wal = create(&fs, None).unwrap();
    let (before, syncs) = (wal.stats(), fs.syncs());
    assert_eq!((before.batches, before.syncs, before.segments, before.segments_begun), (0, 0, 1, 0));
    let placed = wal.append(transaction(1, &[b"x"])).unwrap();
    assert_eq!(wal.stats().waiting_bytes, (placed.end.get() - placed.first.get()) as usize);
    wal.sync().unwrap();
    let stats = wal.stats();
    assert_eq!((stats.batches, stats.syncs, stats.waiting_bytes), (1, fs.syncs() - syncs, 0));
    assert_eq!(stats.batch_bytes, stats.end.get() - before.end.get());
    assert!(stats.sync_time >= stats.sync_time_max && stats.durable == stats.end);
    wal.remove_below(fill(&wal, 3)).unwrap();
    fill(&wal, 4);
    let stats = wal.stats();
    assert_eq!((stats.segments_begun, stats.segments_recycled, stats.segments), (3, 1, 2));
}
