//! Merged log objects, and objects that are put at the same time.

use crate::world::{LOG_ID, TestClock, World, commit, create_wal, first_timeline, options};
use pitr_archive::{Archive, Error, LogName, Merged, ShipOptions, Shipper, SourceObject, Writer};
use pitr_format::{Lsn, SourceName, TimelineId, Timestamp};
use pitr_objects::Objects;
use pitr_testkit::{Answer, Request, TestStore};
use pitr_wal::Wal;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A log whose archive is in memory.
struct Line {
    archive: Archive,
    wal: Wal,
}

impl Line {
    fn new(dir: &Path, store: TestStore) -> Line {
        let objects = Objects::with_store(Arc::new(store)).unwrap();
        let archive = Archive::new(objects, SourceName::new("app").unwrap());
        let clock = Arc::new(TestClock::default());
        Line { archive, wal: create_wal(&dir.join("log"), &clock, TimelineId::FIRST, Lsn::ORIGIN, false) }
    }

    /// A new writer of the source, which ships objects of about this size.
    fn shipper(&self, object_bytes: u32, count: usize) -> Shipper {
        let writer = Writer::claim(&self.archive, Timestamp::MIN).unwrap();
        if self.archive.catalog().unwrap().timelines().is_empty() {
            writer.claim_timeline(&first_timeline(0)).unwrap();
        }
        let catalog = self.archive.catalog().unwrap();
        let options = ShipOptions { compact_count: count, ..options(object_bytes, 1 << 16) };
        Shipper::new(writer, &catalog, &self.wal, TimelineId::FIRST, LOG_ID, options).unwrap()
    }

    fn line(&self) -> Vec<LogName> {
        let catalog = self.archive.catalog().unwrap();
        catalog.logs(TimelineId::FIRST).iter().map(|(name, _)| *name).collect()
    }

    /// Fails unless the archive holds the log up to its durable end, in objects without faults.
    fn check_whole(&self) {
        let catalog = self.archive.catalog().unwrap();
        let pieces = catalog.pieces(&catalog.lineage(TimelineId::FIRST).unwrap());
        assert!(pieces.windows(2).all(|pair| pair[0].to == pair[1].from()), "{pieces:?}");
        assert_eq!((pieces[0].from(), pieces.last().unwrap().to), (Lsn::ORIGIN, self.wal.durable()));
        self.archive.check_range(&pieces, Lsn::ORIGIN, Lsn::MAX, &|| ()).unwrap();
        Merged::new(&self.archive, &pieces, Lsn::ORIGIN, self.wal.durable()).unwrap();
    }
}

/// Commits transactions of a block each, and ships after each of them.
fn ship_each(line: &Line, shipper: &mut Shipper, txs: std::ops::Range<u64>) {
    for tx in txs {
        commit(&line.wal, tx, &[(tx % 5, tx as u8)], None);
        shipper.ship(&line.wal).unwrap();
    }
}

/// Deletes the objects that were merged into others.
pub(crate) fn delete_replaced(archive: &Archive) {
    for (name, _) in archive.catalog().unwrap().replaced() {
        archive.objects().delete(&archive.folder().path(&SourceObject::Log(*name))).unwrap();
    }
}

fn levels(line: &[LogName]) -> Vec<u8> {
    line.iter().map(|name| name.level).collect()
}

#[test]
fn small_objects_become_one_and_merged_ones_are_merged_again() {
    // FAILURES 24
    let dir = tempfile::tempdir().unwrap();
    let line = Line::new(dir.path(), TestStore::memory());
    let mut shipper = line.shipper(1 << 20, 4);
    ship_each(&line, &mut shipper, 1..20);
    let mut merges = Vec::new();
    while let Some(done) = shipper.compactor().compact().unwrap() {
        assert!(done.bytes_after < done.bytes_before);
        merges.push((done.name.level, done.objects));
    }
    assert_eq!(merges, [(1, 4), (1, 4), (1, 4), (1, 4), (2, 4)]);
    assert_eq!(levels(&line.line()), [2, 0, 0, 0]);
    assert_eq!(line.archive.catalog().unwrap().replaced().len(), 20);
    line.check_whole();
    // Another writer goes on where this one stopped. What two writers stored is not merged.
    let mut next = line.shipper(1 << 20, 4);
    ship_each(&line, &mut next, 20..22);
    assert!(next.compactor().compact().unwrap().is_some());
    assert_eq!(levels(&line.line()), [2, 1, 0, 0]);
    let catalog = line.archive.catalog().unwrap();
    let is_of_its_parts = |(name, _): &(LogName, u64)| catalog.holders(name)[0].0.epoch == name.epoch;
    assert!(catalog.replaced().len() > 20 && catalog.replaced().iter().all(is_of_its_parts));
    line.check_whole();
}

/// A store in memory, and what was asked of it.
fn asked() -> (TestStore, Arc<Mutex<Vec<Request>>>) {
    let asked = Arc::<Mutex<Vec<Request>>>::default();
    let all = Arc::clone(&asked);
    let store = TestStore::memory().answering(move |request| {
        all.lock().unwrap().push(request.clone());
        Answer::Serve
    });
    (store, asked)
}

#[test]
fn what_was_just_shipped_is_not_read_back_to_be_merged() {
    let dir = tempfile::tempdir().unwrap();
    let (store, asked) = asked();
    let line = Line::new(dir.path(), store);
    let mut shipper = line.shipper(1 << 20, 16);
    ship_each(&line, &mut shipper, 1..17);
    let gets = || {
        let asked = std::mem::take(&mut *asked.lock().unwrap());
        asked.into_iter().filter(|one| matches!(one, Request::Get(_))).count()
    };
    gets();
    assert_eq!(shipper.compactor().compact().unwrap().unwrap().objects, 16);
    assert_eq!(gets(), 0);
    // Another process has nothing in memory.
    ship_each(&line, &mut shipper, 17..33);
    let next = line.shipper(1 << 20, 16);
    gets();
    assert_eq!(next.compactor().compact().unwrap().unwrap().objects, 16);
    assert!(gets() >= 16, "the parts, and the footer of the object before them");
    line.check_whole();
}

#[test]
fn what_is_stored_counts_after_a_check_that_several_puts_share() {
    // FAILURES 21
    let dir = tempfile::tempdir().unwrap();
    let (store, asked) = asked();
    let line = Line::new(dir.path(), store);
    let claims = || {
        let asked = std::mem::take(&mut *asked.lock().unwrap());
        asked.iter().filter(|one| matches!(one, Request::Get(path) if path.ends_with("-claim"))).count()
    };
    let every = |check_every| {
        let first = line.shipper(1 << 20, 64);
        let options = ShipOptions { check_every, ..options(1 << 20, 1 << 16) };
        let catalog = line.archive.catalog().unwrap();
        Shipper::new(first.writer().clone(), &catalog, &line.wal, TimelineId::FIRST, LOG_ID, options).unwrap()
    };
    let mut shipper = every(Duration::from_secs(3600));
    claims();
    ship_each(&line, &mut shipper, 1..9);
    assert_eq!((claims(), shipper.archived(), shipper.stored()), (0, None, Some(line.wal.durable())));
    shipper.acknowledge().unwrap();
    assert_eq!((claims(), shipper.archived()), (1, Some(line.wal.durable())));
    shipper.acknowledge().unwrap();
    assert_eq!(claims(), 0, "everything counts");

    // Another writer took over: what was put since then never counts.
    let before = shipper.archived();
    let mut next = every(Duration::from_millis(1));
    ship_each(&line, &mut shipper, 9..12);
    assert!(matches!(shipper.acknowledge(), Err(Error::Fenced { .. })));
    assert_eq!(shipper.archived(), before);
    ship_each(&line, &mut next, 12..13);
    std::thread::sleep(Duration::from_millis(2));
    next.ship(&line.wal).unwrap();
    assert_eq!(next.archived(), Some(line.wal.durable()), "the time has passed");
    line.check_whole();
}

#[test]
fn a_view_neither_lists_nor_shows_what_was_merged() {
    let dir = tempfile::tempdir().unwrap();
    let (store, asked) = asked();
    let line = Line::new(dir.path(), store);
    let mut shipper = line.shipper(1 << 20, 64);
    ship_each(&line, &mut shipper, 1..1101);
    while shipper.compactor().compact().unwrap().is_some() {}
    ship_each(&line, &mut shipper, 1101..1111);
    let live = line.archive.catalog().unwrap();
    assert!(live.replaced().len() > 1000, "{}", live.replaced().len());
    asked.lock().unwrap().clear();
    let view = line.archive.objects().view().unwrap();
    let lists = asked.lock().unwrap().iter().filter(|one| matches!(one, Request::List(_))).count();
    assert_eq!(lists, 2, "the second one begins behind what was merged");
    let viewed = Archive::new(view, SourceName::new("app").unwrap()).catalog().unwrap();
    assert_eq!(viewed.logs(TimelineId::FIRST), live.logs(TimelineId::FIRST));
    let is_merged = |(name, _): &(LogName, u64)| name.level > 0;
    assert!(viewed.replaced().iter().all(is_merged), "{:?}", viewed.replaced());
}

#[test]
fn an_object_is_merged_until_it_is_large() {
    let dir = tempfile::tempdir().unwrap();
    let line = Line::new(dir.path(), TestStore::memory());
    // Each transaction takes about 700 positions; merged objects have at most 4000.
    let mut shipper = line.shipper(4000, 100);
    ship_each(&line, &mut shipper, 1..120);
    while shipper.compactor().compact().unwrap().is_some() {}
    let merged: Vec<LogName> = line.line().into_iter().filter(|name| name.level > 0).collect();
    let spans: Vec<u64> = line.line().iter().map(|name| name.to.since(name.from)).collect();
    assert!(merged.len() > 5 && merged.iter().all(|name| name.to.since(name.from) <= 4000), "{spans:?}");
    // Before a large object no two small ones are left.
    let last = spans.iter().rposition(|span| *span > 1000).unwrap();
    assert!(spans[..last].windows(2).all(|pair| pair[0].max(pair[1]) > 1000), "{spans:?}");
    line.check_whole();
}

#[test]
fn a_writer_that_was_replaced_harms_nothing_by_its_merges() {
    let dir = tempfile::tempdir().unwrap();
    let line = Line::new(dir.path(), TestStore::memory());
    let mut first = line.shipper(1 << 20, 4);
    ship_each(&line, &mut first, 1..11);
    let mut second = line.shipper(1 << 20, 3);
    ship_each(&line, &mut second, 11..14);
    // The first one does not know yet. What it merges counted already.
    assert!(first.compactor().compact().unwrap().is_some());
    while second.compactor().compact().unwrap().is_some() {}
    line.check_whole();
    commit(&line.wal, 14, &[(1, 1)], None);
    assert!(matches!(first.ship(&line.wal), Err(Error::Fenced { .. })));
    assert!(matches!(first.compactor().compact(), Err(Error::Fenced { .. })));
    second.ship(&line.wal).unwrap();
    line.check_whole();
}

#[test]
fn a_gap_stays_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let line = Line::new(dir.path(), TestStore::memory());
    let mut shipper = line.shipper(1 << 20, 3);
    ship_each(&line, &mut shipper, 1..5);
    // Log that was removed before it was archived.
    for tx in 5..60 {
        commit(&line.wal, tx, &[(tx % 5, tx as u8)], None);
    }
    line.wal.remove_below(line.wal.durable()).unwrap();
    shipper.accept_loss();
    ship_each(&line, &mut shipper, 60..66);
    while shipper.compactor().compact().unwrap().is_some() {}
    let merged = line.line();
    let behind = merged.iter().position(|name| name.from > Lsn::ORIGIN && !touches(&merged, name)).unwrap();
    assert_eq!((merged[behind].level, merged[behind + 1].level > 0), (0, true), "{merged:?}");
    assert!(line.archive.footer(&merged[behind]).unwrap().gap);
}

/// True if an object ends where this one begins.
fn touches(line: &[LogName], name: &LogName) -> bool {
    line.iter().any(|other| other.to == name.from)
}

#[test]
fn a_damaged_object_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = TestStore::memory();
    let line = Line::new(dir.path(), store.clone());
    ship_each(&line, &mut line.shipper(1 << 20, 3), 1..8);
    // Another process, which reads what it merges.
    let shipper = line.shipper(1 << 20, 3);
    let names = line.line();
    let path = line.archive.folder().path(&SourceObject::Log(names[1]));
    let mut bytes = line.archive.objects().get(&path).unwrap().to_vec();
    bytes[100] ^= 1;
    line.archive.objects().delete(&path).unwrap();
    line.archive.objects().put_new(&path, bytes).unwrap();
    // It is read once more: an answer may be damaged on its way.
    for _ in 0..2 {
        assert!(shipper.compactor().compact().unwrap_err().is_damage());
    }
    let next = shipper.compactor().compact().unwrap().unwrap();
    assert_eq!(next.name.from, names[3].from);
    assert_eq!(shipper.compactor().compact().unwrap(), None);
}

#[test]
fn a_merge_whose_reply_was_lost_is_put_again_with_the_same_bytes() {
    // FAILURES 46
    let dir = tempfile::tempdir().unwrap();
    let merges = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&merges);
    let store = TestStore::memory().answering(move |request| match request {
        // The first call's four attempts.
        Request::Put(path) if path.ends_with("-1") && seen.fetch_add(1, Ordering::Relaxed) < 4 => {
            Answer::LoseReply
        }
        Request::Get(path) if path.ends_with("-1") && seen.load(Ordering::Relaxed) < 5 => Answer::Break,
        _ => Answer::Serve,
    });
    let line = Line::new(dir.path(), store);
    let mut shipper = line.shipper(1 << 20, 3);
    ship_each(&line, &mut shipper, 1..4);
    shipper.compactor().compact().unwrap_err();
    let done = shipper.compactor().compact().unwrap().unwrap();
    assert_eq!((done.objects, merges.load(Ordering::Relaxed)), (3, 5));
    line.check_whole();
}

#[test]
fn puts_at_the_same_time_count_only_when_all_before_them_do() {
    // FAILURES 21, 27: each of six objects is refused in turn, and the writer dies.
    for refused in 0..6 {
        let dir = tempfile::tempdir().unwrap();
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let is_away = Arc::new(AtomicUsize::new(1));
        let (puts, away) = (Arc::clone(&seen), Arc::clone(&is_away));
        let store = TestStore::memory().answering(move |request| match request {
            Request::Put(path) if path.contains("/log/") && away.load(Ordering::Relaxed) == 1 => {
                let mut puts = puts.lock().unwrap();
                let number = puts.iter().position(|known| known == path).unwrap_or_else(|| {
                    puts.push(path.clone());
                    puts.len() - 1
                });
                if number == refused { Answer::Break } else { Answer::Serve }
            }
            _ => Answer::Serve,
        });
        let line = Line::new(dir.path(), store);
        let mut shipper = line.shipper(2000, 100);
        for tx in 1..25 {
            commit(&line.wal, tx, &[(tx % 5, tx as u8)], None);
        }
        shipper.ship(&line.wal).unwrap_err();
        let stored = line.line();
        let hole = stored.windows(2).find(|pair| pair[0].to < pair[1].from).map(|pair| pair[0].to);
        let hole =
            if stored[0].from > Lsn::ORIGIN { None } else { hole.or(stored.last().map(|name| name.to)) };
        assert_eq!(shipper.archived(), hole, "object {refused}");
        drop(shipper);

        is_away.store(0, Ordering::Relaxed);
        let mut next = line.shipper(2000, 100);
        assert_eq!(next.archived(), hole, "the next writer begins at the hole");
        next.ship(&line.wal).unwrap();
        assert_eq!(next.archived(), Some(line.wal.durable()));
        line.check_whole();
        let filled: Vec<LogName> =
            line.line().into_iter().filter(|name| name.epoch == next.writer().epoch()).collect();
        // The put of the first writer arrives after all: the same range, with the same content.
        let lost = seen.lock().unwrap()[refused].clone();
        let late = line.archive.folder().object_at(&lost).unwrap();
        let SourceObject::Log(late) = late else { panic!("{lost}") };
        assert!(filled.iter().any(|name| (name.from, name.to) == (late.from, late.to)), "{late} {filled:?}");
    }
}

#[test]
fn objects_end_at_the_same_positions_whoever_ships_them() {
    let ends = |pauses: &[u64]| {
        let dir = tempfile::tempdir().unwrap();
        let line = Line::new(dir.path(), TestStore::memory());
        let mut shipper = line.shipper(3000, 100);
        for tx in 1..60 {
            commit(&line.wal, tx, &[(tx % 5, tx as u8)], None);
            if pauses.contains(&tx) {
                shipper.ship(&line.wal).unwrap();
            }
        }
        shipper.ship(&line.wal).unwrap();
        line.line().iter().map(|name| name.to).collect::<std::collections::BTreeSet<Lsn>>()
    };
    let at_once = ends(&[]);
    assert!(at_once.len() > 10 && at_once.is_subset(&ends(&[3, 10, 11, 40])), "{at_once:?}");
}

#[test]
fn nothing_is_lost_when_what_was_merged_is_deleted() {
    // FAILURES 24
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::new(dir.path(), 7, 2, ShipOptions { compact_count: 3, ..options(1 << 18, 400) });
    world.live(1200);
    let before: Vec<_> = world.archive.catalog().unwrap().replaced().to_vec();
    assert!(before.len() > 20, "{}", before.len());
    delete_replaced(&world.archive);
    let catalog = world.archive.catalog().unwrap();
    assert_eq!(catalog.replaced(), []);
    assert_eq!(catalog.end(TimelineId::FIRST), Some(world.wal.durable()));
}
