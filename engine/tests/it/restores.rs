//! Restores of an engine of two files.

use crate::two_files::{FILES, MARK};
use crate::world::{World, options, read, state_of};
use pitr_recovery::{Error, RestoreOptions, Room};
use pitr_vfs::sim::{Mode, SimFs, Survivors};
use pitr_vfs::{FileSystem, OsFs};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn machine() -> (SimFs, PathBuf) {
    let fs = SimFs::new();
    fs.create_dir_all(Path::new("/out")).unwrap();
    (SimFs::on(fs.durable_disk()), PathBuf::from("/out/db"))
}

#[test]
fn every_commit_of_both_files_is_restored_exactly() {
    // Restores from the empty base, from a full snapshot and from an increment.
    let world = World::live(1);
    let mut bases = BTreeSet::new();
    for (commit, state) in &world.commits {
        let (fs, output) = machine();
        let done = world.restore(&fs, commit.lsn, &options(&output)).unwrap();
        assert_eq!(state_of(&fs, &output), Some((state.clone(), commit.lsn.get())), "tx {}", commit.tx);
        assert_eq!((done.files, done.reached().tx), (2, commit.tx));
        assert_eq!(done.bytes, state.0.iter().map(|file| file.len() as u64).sum::<u64>());
        assert_eq!(fs.list(Path::new("/out")).unwrap(), ["db"], "nothing is left beside it");
        bases.insert(done.stats.snapshot.map(|id| id.0));
    }
    assert_eq!(bases.len(), 3);
}

#[test]
fn any_number_of_workers_gives_the_same_files() {
    // FAILURES 16 and law 6
    let world = World::live(2);
    let (commit, state) = world.commits.last().unwrap();
    for workers in [1, 2, 8] {
        let (fs, output) = machine();
        let options = RestoreOptions { workers: std::num::NonZeroUsize::new(workers), ..options(&output) };
        world.restore(&fs, commit.lsn, &options).unwrap();
        assert_eq!(state_of(&fs, &output).unwrap().0, *state, "{workers} workers");
    }
}

#[test]
fn power_loss_at_any_point_leaves_no_folder_or_the_whole_one() {
    // FAILURES 26, 32 and law 4: every cut of the trace, with every survival mode of the disk.
    let world = World::live(3);
    let (commit, state) = &world.commits[30];
    let (fs, output) = machine();
    world.restore(&fs, commit.lsn, &options(&output)).unwrap();
    let trace = fs.trace();
    let expected = Some((state.clone(), commit.lsn.get()));
    let mut survivors = Survivors::new(&trace);
    loop {
        let cut = survivors.cut();
        for (mode, seed) in Mode::ALL.into_iter().flat_map(|mode| (0..6).map(move |seed| (mode, seed))) {
            let after = SimFs::on(survivors.disk(mode, seed));
            if after.exists(&output).unwrap() {
                assert_eq!(state_of(&after, &output), expected, "cut {cut}, {mode:?}: half a result");
                continue;
            }
            let partial = output.with_file_name("db.pitr-partial");
            let leftover = FILES.map(|(_, path, _)| read(&after, &partial.join(path)));
            let opens = leftover.iter().zip(&state.0).all(|(left, whole)| left.as_ref() == Some(whole));
            assert!(!opens || state_of(&after, &partial) == expected, "cut {cut}, {mode:?}: no mark");
            if seed == 0 {
                world.restore(&after, commit.lsn, &options(&output)).unwrap();
                assert_eq!(state_of(&after, &output), expected, "cut {cut}, {mode:?}: the second run");
                assert_eq!(after.list(Path::new("/out")).unwrap(), ["db"]);
            }
        }
        if survivors.advance().is_none() {
            break;
        }
    }
    let last = SimFs::on(survivors.disk(Mode::Synced, 0));
    assert_eq!(state_of(&last, &output), expected, "the returned result survives");
    assert!(FILES.iter().all(|(_, path, _)| !read(&last, &output.join(path)).unwrap().starts_with(MARK)));
}

#[test]
fn room_force_and_delta_work_for_a_folder() {
    // FAILURES 33
    let world = World::live(4);
    let (commit, state) = &world.commits[24];
    let (fs, output) = machine();
    let needed = state.0.iter().map(|file| file.len() as u64).sum::<u64>();
    let room = |fs: &SimFs| {
        world.with_restorer(fs, commit.lsn, |restorer, plan| restorer.room(plan, &options(&output)))
    };
    fs.set_free_bytes(needed - 1);
    let refused = world.restore(&fs, commit.lsn, &options(&output));
    assert!(matches!(refused, Err(Error::NoRoom { .. })) && matches!(room(&fs), Err(Error::NoRoom { .. })));
    assert!(fs.list(Path::new("/out")).unwrap().is_empty());
    fs.set_free_bytes(needed);
    assert_eq!(room(&fs).unwrap(), Room { needed, free: Some(needed) });

    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("db");
    world.restore(&OsFs, commit.lsn, &options(&output)).unwrap();
    assert!(matches!(world.restore(&OsFs, commit.lsn, &options(&output)), Err(Error::Exists { .. })));
    let heap = output.join(FILES[0].1);
    let index = output.join(FILES[1].1);
    let mut rotten = std::fs::read(&heap).unwrap();
    rotten[0] ^= 1;
    std::fs::write(&heap, &rotten).unwrap();
    let delta = RestoreOptions { delta: true, ..options(&output) };
    let done = world.restore(&OsFs, commit.lsn, &delta).unwrap();
    assert_eq!(state_of(&OsFs, &output), Some((state.clone(), commit.lsn.get())));
    let kept = std::fs::metadata(&index).unwrap().len();
    assert!((1..=kept).contains(&done.reused_bytes), "the index is reused, the heap is not");
    assert_eq!(std::fs::read(done.moved_aside[0].join(FILES[0].1)).unwrap(), rotten);
    // The clock does not advance, so the output that is moved aside next would get the same name.
    std::fs::remove_dir_all(&done.moved_aside[0]).unwrap();
    let force = RestoreOptions { force: true, ..options(&output) };
    assert_eq!(world.restore(&OsFs, commit.lsn, &force).unwrap().moved_aside.len(), 1);
}
