//! Existing outputs, and the state of the output after a crash.

use crate::lab::{OneFile, bytes, history, meta, options, restore_on, take};
use crate::world::{World, options as ship_options};
use pitr_format::{TimelineId, Timestamp, TxId};
use pitr_recovery::{
    Error, History, OutputRules, Plan, RecoveryTarget, RestoreOptions, Restorer, Room, StagedOutput, Target,
};
use pitr_snapshot::SnapshotMeta;
use pitr_vfs::sim::{Fault, Mode, SimFs, Survivors};
use pitr_vfs::{Access, Attributes, FileSystem, OsFs};
use std::path::{Path, PathBuf};

const PARTIAL: &str = "out.db.pitr-partial";

fn prepared(dir: &Path) -> (History, Plan, Vec<u8>) {
    let mut world = World::new(dir, 11, 1, ship_options(3000, 900));
    world.live(120);
    let history = history(&world.archive);
    let plan = history.plan(&history.resolve(&Target::at(RecoveryTarget::Latest)).unwrap()).unwrap();
    let expected = bytes(world.states.last().unwrap());
    assert!(expected.len() > 4096);
    (history, plan, expected)
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn an_existing_output_is_refused_and_never_touched() {
    // FAILURES 43
    let dir = tempfile::tempdir().unwrap();
    let (history, plan, expected) = prepared(dir.path());
    let out = dir.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let output = out.join("out.db");
    for name in ["out.db", "out.db-wal", "out.db-shm", "out.db-journal"] {
        std::fs::write(out.join(name), name).unwrap();
        let refused = restore_on(&OsFs, &history, &plan, &options(&output, 1));
        assert!(matches!(refused, Err(Error::Exists { path }) if path == out.join(name)));
        assert_eq!(names(&out), [name]);
        std::fs::remove_file(out.join(name)).unwrap();
    }
    restore_on(&OsFs, &history, &plan, &options(&output, 1)).unwrap();
    assert!(std::fs::read(&output).unwrap() == expected);
    assert_eq!(names(&out), ["out.db"], "nothing is left beside it");
}

#[test]
fn a_temporary_name_that_no_restore_left_is_refused_and_never_deleted() {
    // FAILURES 32: the temporary name is taken by a file or a folder, with and without `force`, and
    // while a leftover of pitr is removed.
    let dir = tempfile::tempdir().unwrap();
    let (history, plan, expected) = prepared(dir.path());
    let out = dir.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let (output, partial, lock) = (out.join("out.db"), out.join(PARTIAL), out.join("out.db.pitr-lock"));
    let restore = |force| {
        restore_on(&OsFs, &history, &plan, &RestoreOptions { force, ..options(&output, 1) }).map(drop)
    };
    for is_folder in [false, true] {
        let precious = if is_folder { partial.join("precious") } else { partial.clone() };
        let make = || {
            if is_folder {
                std::fs::create_dir(&partial).unwrap();
            }
            std::fs::write(&precious, b"precious").unwrap();
        };
        make();
        for force in [false, true] {
            assert!(matches!(restore(force), Err(Error::InTheWay { path }) if path == partial));
            assert_eq!(std::fs::read(&precious).unwrap(), b"precious");
            assert_eq!(names(&out), [PARTIAL], "no lock file that would make it ours");
        }
        // A refused restore still recognizes the leftover of a killed restore as pitr's.
        std::fs::write(&lock, b"").unwrap();
        std::fs::write(&output, b"here before").unwrap();
        assert!(matches!(restore(false), Err(Error::Exists { .. })));
        assert_eq!(names(&out), ["out.db", "out.db.pitr-lock", PARTIAL]);
        std::fs::remove_file(&output).unwrap();
        restore(false).unwrap();
        assert!(std::fs::read(&output).unwrap() == expected);
        assert_eq!(names(&out), ["out.db"]);
        std::fs::remove_file(&output).unwrap();
    }
}

#[test]
fn an_output_that_is_dropped_leaves_nothing_whatever_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out");
    let staged = || StagedOutput::take(&OsFs, &path, OutputRules::default()).unwrap();
    drop(staged());
    let mut file = staged();
    file.resume_file().unwrap();
    drop(file);
    let mut folder = staged();
    folder.resume_folder(&[], &[]).unwrap();
    folder.create_dirs(Path::new("a/b")).unwrap();
    folder.create_dirs(Path::new("a/b/c")).unwrap();
    std::fs::write(folder.partial().join("a/b/c/file"), b"x").unwrap();
    drop(folder);
    assert!(names(dir.path()).is_empty());
    let mut folder = staged();
    folder.resume_folder(&[], &[]).unwrap();
    assert!(folder.publish(Timestamp::MIN).unwrap().is_empty());
    assert_eq!(names(dir.path()), ["out"]);
}

#[test]
fn force_moves_aside_and_deletes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (history, plan, expected) = prepared(dir.path());
    let out = dir.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let output = out.join("out.db");
    for name in ["out.db", "out.db-wal", "bystander"] {
        std::fs::write(out.join(name), name).unwrap();
    }
    let force = RestoreOptions { force: true, ..options(&output, 1) };
    let done = restore_on(&OsFs, &history, &plan, &force).unwrap();
    assert!(std::fs::read(&output).unwrap() == expected);
    let stamp: String = Timestamp::from_micros(0).to_string().replace([':', '-'], "");
    let aside = |suffix: &str| out.join(format!("out.db.before-{stamp}{suffix}"));
    assert_eq!(done.moved_aside, [aside(""), aside("-wal")], "together, so that they still open");
    assert_eq!(std::fs::read(aside("")).unwrap(), b"out.db");
    assert_eq!(std::fs::read(aside("-wal")).unwrap(), b"out.db-wal");
    assert_eq!(names(&out).len(), 4);
}

#[test]
fn two_restores_to_one_output_do_not_meet() {
    let dir = tempfile::tempdir().unwrap();
    let (history, plan, _) = prepared(dir.path());
    let output = dir.path().join("out.db");
    let held = OsFs.lock(&dir.path().join("out.db.pitr-lock")).unwrap().unwrap();
    let refused = restore_on(&OsFs, &history, &plan, &options(&output, 1));
    assert!(matches!(refused, Err(Error::Locked { .. })));
    drop(held);
    restore_on(&OsFs, &history, &plan, &options(&output, 1)).unwrap();
}

/// A machine with an empty folder to restore into.
fn machine() -> (SimFs, PathBuf) {
    let (fs, folder) = (SimFs::new(), PathBuf::from("/out"));
    fs.create_dir_all(&folder).unwrap();
    (SimFs::on(fs.durable_disk()), folder.join("out.db"))
}

fn read(fs: &dyn FileSystem, path: &Path) -> Option<Vec<u8>> {
    let file = fs.open(path, Access::Read).ok()?;
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    Some(bytes)
}

#[test]
fn power_loss_at_any_point_leaves_nothing_or_the_whole_and_a_second_run_finishes() {
    // FAILURES 26, 32 and law 4: every cut of the trace, with every survival mode of the disk.
    let dir = tempfile::tempdir().unwrap();
    let (history, plan, expected) = prepared(dir.path());
    let (fs, output) = machine();
    restore_on(&fs, &history, &plan, &options(&output, 1)).unwrap();
    fs.ack(1);
    let trace = fs.trace();
    let mut survivors = Survivors::new(&trace);
    let mut cut = 0;
    loop {
        // Torn writes show only with some of the seeds.
        let ways = (0..8).flat_map(|seed| Mode::ALL.map(|mode| (mode, cut * 8 + seed)));
        for (mode, seed) in ways {
            let after = SimFs::on(survivors.disk(mode, seed));
            if let Some(found) = read(&after, &output) {
                assert!(found == expected, "cut {cut}, {mode:?}: a half result bears the output's name");
            }
            if let Some(left) = read(&after, &output.with_file_name(PARTIAL)) {
                let whole = left == expected;
                let head = left.get(..16).is_some_and(|head| head == &expected[..16]);
                assert!(whole || !head, "cut {cut}, {mode:?}: a leftover looks like a database");
            }
            if read(&after, &output).is_none() && seed % 56 == 0 {
                restore_on(&after, &history, &plan, &options(&output, 1)).unwrap();
                assert!(read(&after, &output).unwrap() == expected);
                assert!(!after.exists(&output.with_file_name(PARTIAL)).unwrap());
            }
        }
        if survivors.advance().is_none() {
            break;
        }
        cut += 1;
    }
    let last = SimFs::on(Survivors::at(&trace, cut as usize).disk(Mode::Synced, 0));
    assert!(read(&last, &output).unwrap() == expected, "what was reported done survives");
}

#[test]
fn a_failed_sync_is_an_error_and_nothing_is_published() {
    // FAILURES 18: fsync fails once and then "works"; ENOSPC at every write.
    let dir = tempfile::tempdir().unwrap();
    let (history, plan, expected) = prepared(dir.path());
    let (counted, output) = machine();
    restore_on(&counted, &history, &plan, &options(&output, 1)).unwrap();
    let faults = sync_faults(&counted).into_iter().chain(space_faults(&counted));
    for fault in faults {
        let (fs, output) = machine();
        let described = format!("{fault:?}");
        fs.inject(fault);
        match restore_on(&fs, &history, &plan, &options(&output, 1)) {
            Err(Error::Io { .. }) => {}
            other => panic!("{described}: {other:?}"),
        }
        fs.mend();
        let published = read(&fs, &output);
        assert!(published.is_none_or(|found| found == expected), "{described}");
    }
}

fn sync_faults(counted: &SimFs) -> Vec<Fault> {
    (0..counted.syncs()).map(|nth| Fault::Sync { nth }).collect()
}

fn space_faults(counted: &SimFs) -> Vec<Fault> {
    (0..counted.writes()).step_by(5).map(|nth| Fault::Full { nth }).collect()
}

#[test]
fn a_result_that_does_not_fit_is_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let (history, plan, expected) = prepared(dir.path());
    let (fs, output) = machine();
    let len = expected.len() as u64;
    fs.set_free_bytes(len - 1);
    let room = |fs: &SimFs| {
        let chunks = pitr_dedup::ChunkStore::open(history.archive().objects().clone()).unwrap();
        let clock = crate::world::TestClock::default();
        let (history, chunks, clock) = (&history, &chunks, &clock);
        Restorer { history, chunks, target: &OneFile, fs, clock, progress: &|_| {} }
            .room(&plan, &options(&output, 1))
    };
    for refused in [restore_on(&fs, &history, &plan, &options(&output, 1)).err(), room(&fs).err()] {
        let Some(Error::NoRoom { needed, free, folder }) = refused else { panic!("{refused:?}") };
        assert_eq!((needed, free, folder.as_path()), (len, len - 1, Path::new("/out")));
    }
    assert_eq!(fs.writes(), 0);
    assert!(fs.list(Path::new("/out")).unwrap().is_empty());

    fs.set_free_bytes(len);
    assert_eq!(room(&fs).unwrap(), Room { needed: len, free: Some(len) });
    restore_on(&fs, &history, &plan, &options(&output, 1)).unwrap();
    // The existing output is moved aside and still takes its space.
    fs.set_free_bytes(len - 1);
    let delta = RestoreOptions { delta: true, ..options(&output, 1) };
    assert!(matches!(restore_on(&fs, &history, &plan, &delta), Err(Error::NoRoom { .. })));
    assert!(read(&fs, &output).unwrap() == expected);
    // A leftover of pitr is removed first, which frees its space. Any other file is kept.
    fs.create_private(&output.with_file_name(PARTIAL)).unwrap().set_len(1).unwrap();
    assert!(matches!(room(&fs), Err(Error::NoRoom { .. })));
    fs.create_private(&output.with_file_name("out.db.pitr-lock")).unwrap();
    assert_eq!(room(&fs).unwrap().free, Some(len));
}

#[test]
fn images_that_do_not_fit_in_memory_need_room_too() {
    let dir = tempfile::tempdir().unwrap();
    let (history, plan, expected) = prepared(dir.path());
    let (fs, output) = machine();
    let chunks = pitr_dedup::ChunkStore::open(history.archive().objects().clone()).unwrap();
    let needed = |memory: u64| {
        let options = RestoreOptions { memory: memory as usize, ..options(&output, 1) };
        let clock = crate::world::TestClock::default();
        let (history, chunks, clock, fs) = (&history, &chunks, &clock, &fs);
        let restorer = Restorer { history, chunks, target: &OneFile, fs, clock, progress: &|_| {} };
        restorer.room(&plan, &options).unwrap().needed
    };
    let len = expected.len() as u64;
    let images = needed(0) - len;
    assert!(images > len / 2, "{images}");
    assert_eq!((needed(images - 1), needed(images)), (len + images, len));
}

#[test]
fn a_missing_folder_is_named_and_nothing_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let (history, plan, _) = prepared(dir.path());
    let folder = dir.path().join("missing");
    let refused = restore_on(&OsFs, &history, &plan, &options(&folder.join("out.db"), 1)).unwrap_err();
    assert!(matches!(&refused, Error::NoFolder { path } if *path == folder));
    assert!(!refused.to_string().contains("lock") && !folder.exists(), "{refused}");
}

#[test]
fn a_restored_file_has_the_rights_of_its_source_or_of_the_existing_output() {
    // FAILURES 58
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::new(dir.path(), 11, 1, ship_options(3000, 900));
    world.live(40);
    let lsn = world.archive.catalog().unwrap().logs(TimelineId::FIRST).last().unwrap().0.to;
    let ours = OsFs.attributes(dir.path()).unwrap().unwrap();
    let attributes = |mode| Some(Attributes { mode, ..ours });
    let meta = meta(&world.archive, lsn, lsn, Timestamp::from_micros(1), TxId::NONE);
    take(&world.archive, vec![7; 4096], SnapshotMeta { attributes: attributes(0o640), ..meta });
    let history = history(&world.archive);
    let plan = history.plan(&history.resolve(&Target::at(RecoveryTarget::Lsn(lsn))).unwrap()).unwrap();
    assert!(plan.snapshot.is_some());
    let output = dir.path().join("out.db");
    let restore = |force| {
        let done =
            restore_on(&OsFs, &history, &plan, &RestoreOptions { force, ..options(&output, 1) }).unwrap();
        assert_eq!(done.not_given, None);
        OsFs.attributes(&output).unwrap()
    };
    assert_eq!(restore(false), attributes(0o640));
    assert!(OsFs.set_attributes(&output, attributes(0o604).unwrap()).unwrap());
    assert_eq!(restore(true), attributes(0o604));
}
