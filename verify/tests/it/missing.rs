//! One missing object at a time that other objects refer to (FAILURES 55).

use crate::world::{Held, name};
use pitr_archive::{Archive, ForkReason, ShipOptions, Shipper, Timeline, Writer};
use pitr_codec::Codec;
use pitr_dedup::ChunkStore;
use pitr_format::record::{GapReason, Record};
use pitr_format::{FileId, Lsn, PartitionId, TimelineId, Timestamp, TxId};
use pitr_objects::{LeaseRole, Objects};
use pitr_snapshot::{Manifest, SnapshotMeta, write_full};
use pitr_testkit::files_below;
use pitr_verify::{FaultKind, Options, Report, verify};
use pitr_vfs::Env;
use pitr_wal::{BatchBuilder, Start, Wal, WalOptions};
use std::fs;
use std::path::PathBuf;

/// A source with two writers. The first one starts at the log's origin. The second one continues
/// after a gap and takes a base.
struct Lab {
    dir: tempfile::TempDir,
    objects: Objects,
    archive: Archive,
    wal: Wal,
    shipper: Shipper,
    writer: Writer,
    timeline: TimelineId,
    last: u64,
}

const LOG_ID: [u8; 16] = [1; 16];

impl Lab {
    /// Three commits of each writer. The second writer did not end its epoch.
    fn new() -> Lab {
        let mut lab = Lab::begun();
        lab.commits(3);
        lab.gap();
        let base = lab.end();
        lab.snapshot(base);
        lab.commits(3);
        lab
    }

    fn begun() -> Lab {
        let dir = tempfile::tempdir().unwrap();
        let objects = Objects::create_local(dir.path().join("repo")).unwrap();
        objects.init_repository(Timestamp::MIN).unwrap();
        let archive = Archive::new(objects.clone(), name("db"));
        let writer = Writer::claim(&archive, Timestamp::MIN).unwrap();
        let (parent, fork, reason) = (None, Lsn::ORIGIN, ForkReason::First);
        let (created, ambiguous, root) = (Timestamp::MIN, None, None);
        let first = Timeline { parent, fork, reason, created, ambiguous, root };
        let timeline = writer.claim_timeline(&first).unwrap();
        let start = Start { timeline, ..Start::first(LOG_ID) };
        let wal =
            Wal::create(&Env::system(), &dir.path().join("log"), &start, &WalOptions::default()).unwrap();
        let shipper = Self::shipper(&archive, &writer, &wal, timeline);
        Lab { dir, objects, archive, wal, shipper, writer, timeline, last: 0 }
    }

    fn shipper(archive: &Archive, writer: &Writer, wal: &Wal, timeline: TimelineId) -> Shipper {
        let (catalog, options) = (archive.catalog().unwrap(), ShipOptions::default());
        Shipper::new(writer.clone(), &catalog, wal, timeline, LOG_ID, options).unwrap()
    }

    fn ship(&mut self) {
        self.wal.sync().unwrap();
        self.shipper.ship(&self.wal).unwrap();
    }

    /// Commits, each in its own object.
    fn commits(&mut self, count: u64) {
        for _ in 0..count {
            self.last += 1;
            let tx = TxId::new(self.last);
            let mut batch = BatchBuilder::new();
            let image = Record::Image { file: FileId::FIRST, block: self.last, data: &[7; 4096] };
            batch.push(PartitionId::FIRST, tx, &image).unwrap();
            batch.push_commit(PartitionId::FIRST, tx, Some(Timestamp::MIN), None, &[]).unwrap();
            self.wal.append(batch).unwrap();
            self.ship();
        }
    }

    /// Another writer takes over. The changes of the source in between are unknown.
    fn gap(&mut self) {
        self.writer = Writer::claim(&self.archive, Timestamp::MIN).unwrap();
        self.shipper = Self::shipper(&self.archive, &self.writer, &self.wal, self.timeline);
        self.wal.skip().unwrap();
        let mut batch = BatchBuilder::new();
        let (reason, since, until) = (GapReason::LogRestarted, Timestamp::MIN, Timestamp::MIN);
        batch.push(PartitionId::FIRST, TxId::NONE, &Record::Gap { reason, since, until }).unwrap();
        self.wal.commit(batch).unwrap();
        self.ship();
    }

    fn end(&self) -> Lsn {
        self.archive.catalog().unwrap().end(self.timeline).unwrap()
    }

    fn snapshot(&self, at: Lsn) -> Manifest {
        let meta = SnapshotMeta {
            source: name("db"),
            engine: "test".to_owned(),
            timeline: self.timeline,
            epoch: self.writer.epoch(),
            redo_from: at,
            consistent_at: at,
            time: Timestamp::MIN,
            tx: TxId::new(self.last),
            codec: Codec::default(),
            created: Timestamp::MIN,
            attributes: None,
        };
        let store = ChunkStore::open(self.objects.clone()).unwrap();
        write_full(&store, &Held(vec![5; 1 << 20]), meta, None).unwrap().publish(&store).unwrap()
    }

    fn report(&self) -> Report {
        verify(&self.objects, Options::deep(), &|_| {}).unwrap()
    }

    /// The kinds and descriptions of the faults.
    fn faults(&self) -> Vec<(FaultKind, String)> {
        let told = |f: pitr_verify::Fault| (f.kind, format!("{}: {}", f.object, f.what));
        self.report().faults.into_iter().map(told).collect()
    }

    /// Verifies without one of the objects whose paths contain this text, then puts it back.
    fn without(&self, part: &str, nth: usize) -> Vec<(FaultKind, String)> {
        let (_, path) = self.nth(part, nth);
        let bytes = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let faults = self.faults();
        fs::write(&path, bytes).unwrap();
        faults
    }

    /// The object with this number among the objects whose paths contain this text.
    fn nth(&self, part: &str, nth: usize) -> (String, PathBuf) {
        let repository = self.dir.path().join("repo");
        let all = files_below(&repository).into_iter();
        let path = all.filter(|path| path.to_string_lossy().contains(part)).nth(nth).unwrap();
        (path.strip_prefix(&repository).unwrap().to_string_lossy().into_owned(), path)
    }
}

#[track_caller]
fn assert_one(faults: &[(FaultKind, String)], kind: FaultKind, texts: &[&str]) {
    let [(found, text)] = faults else { panic!("{faults:?}") };
    assert!(*found == kind && texts.iter().all(|part| text.contains(part)), "{faults:?}");
}

#[test]
fn each_referenced_object_is_reported_as_missing() {
    let lab = Lab::new();
    assert!(lab.report().is_sound(), "{:?}", lab.report());
    use FaultKind::{Missing, Unrestorable};
    assert_one(&lab.without("timelines/00000001", 0), Missing, &["sources/db/timelines/00000001", "missing"]);
    for epoch in ["01", "02"] {
        let claim = format!("{epoch}-claim");
        let found = lab.without(&claim, 0);
        // Without claim and fence the log of an epoch does not count, so there may be more faults.
        assert!(found.iter().any(|(kind, text)| *kind == Missing && text.contains(&claim)), "{found:?}");
    }
    assert_one(&lab.without("01-fence", 0), Missing, &["0000000000000001-fence", "missing"]);
    let first = "log/00000001/0000000000000001/";
    assert_one(&lab.without(first, 0), Missing, &["the log from LSN 0 to ", "is missing"]);
    assert_one(&lab.without(first, 1), Missing, &["is missing", "which goes on from there"]);
    // The last object before the gap: the later log shows a gap, and the fence shows more log.
    assert_one(&lab.without(first, 2), Missing, &["is missing", "can't be restored"]);
    let second = "log/00000001/0000000000000002/";
    assert_one(&lab.without(second, 0), Missing, &["is missing", "which goes on from there"]);
    assert_one(&lab.without(second, 2), Missing, &["is missing", "which goes on from there"]);
    let root = "snapshots/00000001";
    assert_one(&lab.without(root, 0), Unrestorable, &["3 commits", "transaction 4", "transaction 6"]);
    assert!(lab.report().is_sound());
}

#[test]
fn a_missing_newest_log_object_is_found_after_its_writer_has_stopped() {
    let lab = Lab::new();
    let newest = "log/00000001/0000000000000002/";
    assert_eq!(lab.without(newest, 3), [], "no object shows that it existed");
    lab.writer.close().unwrap();
    assert!(lab.report().is_sound());
    assert_one(&lab.without(newest, 3), FaultKind::Missing, &["is missing", "the fence of epoch 2"]);
}

#[test]
fn the_log_after_a_gap_shows_the_last_commit_before_it() {
    // One writer, so that no epoch is fenced.
    let mut lab = Lab::begun();
    lab.commits(2);
    lab.wal.skip().unwrap();
    lab.commits(1);
    lab.snapshot(lab.end());
    let known = lab.without("log/00000001", 1);
    let missing: Vec<_> = known.iter().filter(|(kind, _)| *kind == FaultKind::Missing).collect();
    assert!(matches!(missing[..], [(_, text)] if text.contains("names transaction 2")), "{known:?}");
}

#[test]
fn commits_without_a_snapshot_are_pending_while_a_writer_runs() {
    let mut lab = Lab::begun();
    lab.commits(1);
    lab.gap();
    lab.commits(2);
    let lease = lab.objects.lease(LeaseRole::Use).unwrap();
    let beside = lab.report();
    assert!(beside.is_sound() && beside.pending.len() == 1, "{beside:?}");
    assert!(beside.pending[0].contains("2 commits"), "{beside:?}");
    drop(lease);
    assert_one(&lab.faults(), FaultKind::Unrestorable, &["2 commits", "no snapshot leads to them"]);
    // A later base does not make these commits restorable.
    lab.snapshot(lab.end());
    lab.commits(1);
    assert_one(&lab.faults(), FaultKind::Unrestorable, &["1 commits", "transaction 2"]);
}
