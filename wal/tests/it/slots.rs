//! Slots and the redo point keep segments; slots are dropped at the cap.

use crate::help::{batches, env, options, start, transaction};
use pitr_format::{Lsn, Timestamp};
use pitr_vfs::sim::{Fault, Mode, Op, SimClock, SimFs, Survivors};
use pitr_vfs::{Access, FileSystem};
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
    Wal::create(&env(Arc::new(fs.clone()), clock), dir(), &start(SEGMENT_BYTES as u32), &options)
}

/// Commits until this number of segments were begun in total; returns the end.
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
    snapshot.release().unwrap();
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
    assert!(
        matches!(wal.slot("archiver", wal.end()), Err(Error::SlotDropped { .. })),
        "not taken up silently"
    );
    assert!(wal.drop_slot("archiver").unwrap());
    wal.slot("archiver", wal.end()).unwrap();
}

#[test]
fn the_redo_point_is_never_dropped() {
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
    held.release().unwrap();
    wal.remove_below(fill(&wal, 3)).unwrap();
    assert!(matches!(wal.slot("archiver", Lsn::ORIGIN), Err(Error::Removed { .. })));
    let beyond = Lsn::new(wal.end().get() + 1);
    assert!(matches!(wal.slot("archiver", beyond), Err(Error::Beyond { .. })));
    for name in [String::new(), "x".repeat(256)] {
        assert!(matches!(wal.slot(&name, wal.end()), Err(Error::SlotRefused { .. })));
    }
    (0..100).for_each(|nth| drop(wal.slot(&format!("slot {nth}"), wal.end()).unwrap()));
    assert!(matches!(wal.slot("one too many", wal.end()), Err(Error::SlotRefused { .. })));
}

fn open(fs: &SimFs, segments_max: Option<u32>) -> Result<Wal, Error> {
    let clock = Arc::new(SimClock::new(Timestamp::from_micros(1)));
    let options = WalOptions { segments_max, ..options() };
    Wal::open(&env(Arc::new(fs.clone()), clock), dir(), Lsn::ORIGIN, &options).map(|(wal, _)| wal)
}

#[test]
fn a_slot_holds_the_log_after_a_reopen_until_it_is_dropped() {
    // FAILURES 54
    let fs = SimFs::new();
    let wal = create(&fs, None).unwrap();
    let (begin, archiver) = (wal.first(), wal.slot("archiver", wal.first()).unwrap());
    let gone = wal.slot("a replica that is gone", fill(&wal, 3)).unwrap();
    fill(&wal, 5);
    drop((archiver, gone, wal));

    let wal = open(&fs, None).unwrap();
    // The engine removes log that it no longer needs before a slot is claimed.
    assert_eq!((wal.remove_below(wal.end()).unwrap(), wal.first()), (0, begin));
    let archiver = wal.slot("archiver", wal.end()).unwrap();
    assert_eq!(
        archiver.position().unwrap(),
        begin,
        "a slot is taken up where it was, whatever the claim says"
    );
    archiver.advance(wal.end()).unwrap();
    assert_eq!(wal.remove_below(wal.end()).unwrap(), 2 * SEGMENT_BYTES, "the replica's slot holds the rest");
    assert!(wal.remove_below(wal.end()).unwrap() == 0);
    let listed: Vec<_> =
        wal.slots().into_iter().map(|slot| (slot.name, slot.is_claimed, slot.is_dropped)).collect();
    let expected = [("a replica that is gone", false), ("archiver", true)];
    assert!(listed.iter().map(|(name, claimed, _)| (name.as_str(), *claimed)).eq(expected) && !listed[0].2);
    assert!(matches!(wal.drop_slot("archiver"), Err(Error::SlotTaken { .. })));
    assert!(wal.drop_slot("a replica that is gone").unwrap() && !wal.drop_slot("nobody").unwrap());
    assert!(wal.remove_below(wal.end()).unwrap() > 0);
    let position = archiver.position().unwrap();
    archiver.release().unwrap();
    drop(wal);
    let wal = open(&fs, None).unwrap();
    assert!(wal.slots().is_empty() && position <= wal.end());
}

#[test]
fn a_crash_keeps_every_acknowledged_slot() {
    // FAILURES 54
    let fs = SimFs::new();
    let wal = create(&fs, None).unwrap();
    let first = wal.slot("first", wal.first()).unwrap();
    fs.ack(1);
    fill(&wal, 3);
    let second = wal.slot("second", wal.end()).unwrap();
    fs.ack(2);
    first.advance(Lsn::new(3 * SEGMENT_BYTES)).unwrap();
    wal.remove_below(wal.end()).unwrap();
    fill(&wal, 4);
    first.release().unwrap();
    fs.ack(3);
    second.advance(wal.end()).unwrap();
    wal.remove_below(wal.end()).unwrap();
    let trace = fs.trace();
    let acks = |cut: usize| trace.ops[..cut].iter().filter(|op| matches!(op, Op::Ack(_))).count();
    let begin = trace.ops.iter().position(|op| matches!(op, Op::Ack(1))).unwrap();
    for (cut, mode) in (begin..=trace.ops.len()).flat_map(|cut| Mode::ALL.map(|mode| (cut, mode))) {
        let fs = SimFs::on(Survivors::at(&trace, cut).disk(mode, cut as u64));
        let wal = open(&fs, None).unwrap();
        let whole = wal.slots().iter().all(|slot| !slot.is_dropped) && wal.take_events().is_empty();
        assert!(whole, "something that a slot needed was removed at {cut}");
        let has = |name: &str| wal.slots().iter().any(|slot| slot.name == name);
        assert_eq!((has("first") || acks(cut) != 1, has("second") || acks(cut) < 2), (true, true), "{cut}");
        assert!(acks(cut) < 3 || !has("first"), "a released slot came back at {cut}");
        if acks(cut) >= 1 && has("first") {
            let from = wal.slot("first", Lsn::ORIGIN).unwrap().position().unwrap();
            batches(&mut wal.reader(from).unwrap()).unwrap();
        }
    }
}

#[test]
fn a_dropped_slot_is_reported_after_a_reopen() {
    // FAILURES 34, 54
    let fs = SimFs::new();
    let wal = create(&fs, Some(3)).unwrap();
    drop(wal.slot("archiver", wal.first()).unwrap());
    wal.remove_below(fill(&wal, 3)).unwrap();
    wal.remove_below(fill(&wal, 6)).unwrap();
    assert_eq!(wal.stats().slots_dropped, 1);
    drop(wal);
    let fs = SimFs::on(fs.durable_disk());
    let wal = open(&fs, None).unwrap();
    assert!(wal.slots()[0].is_dropped);
    assert!(matches!(wal.slot("archiver", wal.end()), Err(Error::SlotDropped { .. })));
    assert!(wal.drop_slot("archiver").unwrap());
    wal.slot("archiver", wal.end()).unwrap();
}

#[test]
fn slots_are_dropped_on_a_full_disk_too() {
    // FAILURES 18, 34: dropping and advancing a slot need no new space.
    let fs = SimFs::new();
    let wal = create(&fs, Some(4)).unwrap();
    let archiver = wal.slot("archiver", wal.first()).unwrap();
    let replica = wal.slot("replica", wal.first()).unwrap();
    fill(&wal, 4);
    fs.inject(Fault::NoSpace);
    replica.advance(wal.end()).unwrap();
    assert!(wal.slot("one more", wal.end()).is_ok(), "the file is there");
    archiver.advance(Lsn::new(2 * SEGMENT_BYTES + 4096)).unwrap();
    assert_eq!(wal.remove_below(wal.end()).unwrap(), SEGMENT_BYTES);
    wal.drop_slot("one more").unwrap();
    fill(&wal, 5);
    replica.advance(wal.end()).unwrap();
    archiver.release().unwrap();
    assert!(wal.remove_below(wal.end()).unwrap() > 0);
}

#[test]
fn segments_that_somebody_deleted_are_missed_by_their_slot() {
    // FAILURES 54
    let fs = SimFs::new();
    let wal = create(&fs, None).unwrap();
    drop(wal.slot("archiver", wal.first()).unwrap());
    fill(&wal, 4);
    drop(wal);
    fs.remove_file(&dir().join("0000000000000001.seg")).unwrap();
    let wal = open(&fs, None).unwrap();
    assert!(matches!(&wal.take_events()[..], [Event::SlotDropped { name, .. }] if name == "archiver"));
    assert!(matches!(wal.slot("archiver", wal.end()), Err(Error::SlotDropped { .. })));
}

#[test]
fn damage_to_the_file_of_slots_is_found_and_named() {
    // FAILURES 29: either copy of the table is enough; without both, the kept positions are
    // unknown.
    let fs = SimFs::new();
    let wal = create(&fs, None).unwrap();
    drop(wal.slot("archiver", wal.first()).unwrap());
    drop(wal.slot("replica", wal.first()).unwrap());
    drop(wal);
    let path = dir().join("slots");
    let half = 32 << 10;
    for damaged in [&[40][..], &[half + 40], &[40, half + 40]] {
        let fs = SimFs::on(fs.durable_disk());
        let file = fs.open(&path, Access::ReadWrite).unwrap();
        damaged.iter().for_each(|offset| file.write_all_at(&[0xff], *offset).unwrap());
        match open(&fs, None) {
            Ok(wal) if damaged.len() == 1 => assert_eq!(wal.slots().len(), 2),
            Err(Error::SlotFile { path: named, .. }) if damaged.len() == 2 => assert_eq!(named, path),
            other => panic!("{other:?}"),
        }
    }
    // A new log in the same folder has none of these slots.
    fs.remove_file(&dir().join("0000000000000001.seg")).unwrap();
    assert!(create(&fs, None).unwrap().slots().is_empty());
    assert!(open(&fs, None).unwrap().slots().is_empty());
}

#[test]
fn stats_count_operations() {
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
