//! Restores that continue what an interrupted one left, and updates in place.

use crate::lab::{history, meta, options, restore_on, take};
use crate::world::{BLOCK, World, commit, content, options as ship_options};
use pitr_dedup::ChunkStore;
use pitr_format::{FileId, Timestamp, TxId};
use pitr_recovery::{
    Error, FilePlace, Finished, FolderLayout, History, Layout, OutputRules, Plan, RestoreOptions,
    RestoreState, RestoreTarget, Restored, Restorer, Result, StagedOutput, Target, Unfinished,
};
use pitr_vfs::sim::{Fault, Mode, Rng, SimFs, Survivors};
use pitr_vfs::{Access, Attributes, FileSystem, OsFs};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Length of the snapshot, bytes: some extents, the last one not whole.
const LEN: usize = (5 << 20) + 3 * BLOCK;

/// A snapshot of several extents, and a log that changes blocks of some extents, lengthens the file
/// and leaves other extents alone.
pub(crate) fn prepared(dir: &Path) -> (History, Plan, Vec<u8>) {
    let world = World::new(dir, 3, 1, ship_options(1 << 16, 1 << 14));
    let (wal, mut shipper) = (&world.wal, world.shipper);
    let first = commit(wal, 1, &[(0, 1)], None);
    let mut state: Vec<u8> = {
        let mut rng = Rng::new(7);
        (0..LEN.div_ceil(8)).flat_map(|_| rng.draw().to_le_bytes()).take(LEN).collect()
    };
    state[2 << 20..3 << 20].fill(0); // an extent of zeros
    shipper.ship(wal).unwrap();
    take(&world.archive, state.clone(), meta(&world.archive, first.lsn, first.lsn, first.time, first.tx));
    // Contents are compared in pieces of 4 KiB, so these are whole pieces.
    let pieces = [0_u64, 255, 256, 600, 1023].into_iter();
    let blocks: Vec<(u64, u8)> =
        pieces.flat_map(|piece| piece * 8..piece * 8 + 8).map(|block| (block, block as u8)).collect();
    let grown = (6 << 20) as usize + 7 * BLOCK;
    commit(wal, 2, &blocks, Some(grown as u64));
    commit(wal, 3, &[(12288 + 6, 9), (2048, 77)], None);
    shipper.ship(wal).unwrap();
    state.resize(grown, 0);
    for (block, fill) in blocks.into_iter().chain([(12288 + 6, 9), (2048, 77)]) {
        let at = block as usize * BLOCK;
        state[at..at + BLOCK].copy_from_slice(&content(FileId::FIRST, block, fill));
    }
    let history = history(&world.archive);
    let plan = history.plan_for(&Target::at(TxId::new(3))).unwrap();
    assert!(plan.snapshot.is_some());
    (history, plan, state)
}

fn machine() -> (SimFs, PathBuf) {
    let fs = SimFs::new();
    fs.create_dir_all(Path::new("/out")).unwrap();
    (SimFs::on(fs.durable_disk()), PathBuf::from("/out/out.db"))
}

fn partial(output: &Path) -> PathBuf {
    output.with_file_name("out.db.pitr-partial")
}

fn read(fs: &dyn FileSystem, path: &Path) -> Option<Vec<u8>> {
    let file = fs.open(path, Access::Read).ok()?;
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    Some(bytes)
}

fn assert_whole(fs: &dyn FileSystem, output: &Path, expected: &[u8]) {
    assert!(read(fs, output).unwrap() == expected, "the result differs");
    let left = fs.list(output.parent().unwrap()).unwrap();
    assert_eq!(left, [output.file_name().unwrap()], "nothing is left beside it");
}

#[test]
fn memory_for_images_decides_where_they_wait_and_never_the_result() {
    let dir = tempfile::tempdir().unwrap();
    let (history, plan, expected) = prepared(dir.path());
    let files = |memory| {
        let (fs, output) = machine();
        let options = RestoreOptions { memory, ..options(&output, 1) };
        restore_on(&fs, &history, &plan, &options).unwrap();
        assert_whole(&fs, &output, &expected);
        fs.writes()
    };
    assert!(files(0) > files(RestoreOptions::MEMORY), "a temporary file was created and written");
}

#[test]
fn a_failed_restore_continues_with_what_it_wrote() {
    // FAILURES 32: at every write. The partial result has no output's name, and no head.
    let dir = tempfile::tempdir().unwrap();
    let (history, plan, expected) = prepared(dir.path());
    let (counted, output) = machine();
    restore_on(&counted, &history, &plan, &options(&output, 1)).unwrap();
    let mut most = 0;
    for nth in 0..counted.writes() {
        let (fs, output) = machine();
        fs.inject(Fault::Full { nth });
        assert!(matches!(restore_on(&fs, &history, &plan, &options(&output, 1)), Err(Error::Io { .. })));
        fs.mend();
        assert!(read(&fs, &output).is_none());
        if let Some(left) = read(&fs, &partial(&output)) {
            assert!(left.get(..16) != expected.get(..16), "write {nth}: a leftover looks like a database");
        }
        let before = fs.writes();
        let done = restore_on(&fs, &history, &plan, &options(&output, 1)).unwrap();
        assert_whole(&fs, &output, &expected);
        most = most.max(done.reused_bytes);
        assert!(done.reused_bytes == 0 || fs.writes() - before < counted.writes() + 2);
    }
    assert!(most > 3 << 20, "only {most} bytes were reused");
}

#[test]
fn contents_of_a_leftover_decide_and_not_their_presence() {
    // FAILURES 33: rot, foreign bytes and another target's result in the leftover, shorter or
    // longer.
    let dir = tempfile::tempdir().unwrap();
    let (history, plan, expected) = prepared(dir.path());
    let mut rng = Rng::new(5);
    for round in 0..40 {
        let (fs, output) = machine();
        let mut left = expected.clone();
        for _ in 0..rng.below(4) {
            let at = rng.below(left.len() as u64) as usize;
            left[at] ^= 1 << rng.below(8);
        }
        match round % 4 {
            0 => left.truncate(rng.below(left.len() as u64) as usize),
            1 => left.resize(left.len() + rng.below(1 << 20) as usize, 3),
            2 => left[2 << 20..].fill(0),
            _ => {}
        }
        fs.create_private(&output.with_file_name("out.db.pitr-lock")).unwrap();
        fs.create_private(&partial(&output)).unwrap().write_all_at(&left, 0).unwrap();
        let done = restore_on(&fs, &history, &plan, &options(&output, 1)).unwrap();
        assert_whole(&fs, &output, &expected);
        assert!(done.bytes == expected.len() as u64 && done.reused_bytes <= done.stats.base_bytes);
    }
}

#[test]
fn an_update_in_place_writes_what_differs_and_keeps_nothing_aside() {
    // FAILURES 33
    let dir = tempfile::tempdir().unwrap();
    let (history, plan, expected) = prepared(dir.path());
    let (fs, output) = machine();
    let mut old = expected.clone();
    old[3_500_000] ^= 1;
    old.truncate(6 << 20);
    fs.create_new(&output).unwrap().write_all_at(&old, 0).unwrap();
    fs.create_new(&output.with_file_name("out.db-wal")).unwrap();
    let in_place = RestoreOptions { in_place: true, ..options(&output, 1) };
    let done = restore_on(&fs, &history, &plan, &in_place).unwrap();
    assert!(read(&fs, &output).unwrap() == expected);
    assert!(done.reused_bytes > 1 << 20, "{}", done.reused_bytes);
    let names = fs.list(Path::new("/out")).unwrap();
    assert_eq!(names.len(), 2, "the companion is moved aside, and the output is not: {names:?}");
    // Without an output it is an ordinary restore.
    let (fs, output) = machine();
    restore_on(&fs, &history, &plan, &RestoreOptions { in_place: true, ..options(&output, 1) }).unwrap();
    assert_whole(&fs, &output, &expected);
}

#[test]
fn an_update_in_place_of_the_same_state_writes_only_the_head() {
    let dir = tempfile::tempdir().unwrap();
    let (history, plan, expected) = prepared(dir.path());
    let writes = |old: &[u8]| {
        let (fs, output) = machine();
        fs.create_new(&output).unwrap().write_all_at(old, 0).unwrap();
        let before = fs.writes();
        let in_place = RestoreOptions { in_place: true, ..options(&output, 1) };
        let done = restore_on(&fs, &history, &plan, &in_place).unwrap();
        assert_whole(&fs, &output, &expected);
        (fs.writes() - before, done.reused_bytes)
    };
    let (same, reused) = writes(&expected);
    // All of the snapshot but its first extent, and without the blocks that the log has.
    assert!(reused > LEN as u64 - (2 << 20), "{reused} bytes");
    for at in [2 << 20, 3_500_000, 5 << 20] {
        let mut other = expected.clone();
        other[at] ^= 1;
        assert_eq!(writes(&other).0, same + 1, "one extent differs, at {at}");
    }
    // The mark, the first extent, the rest of the head, and the first sector; and lengths.
    assert!(same <= 8, "{same} writes");
}

#[test]
fn a_delta_restore_takes_what_the_existing_output_has_and_moves_it_aside() {
    // FAILURES 33
    let dir = tempfile::tempdir().unwrap();
    let (history, plan, expected) = prepared(dir.path());
    let restore = |fs: &SimFs, output: &Path, delta: bool| {
        let options = RestoreOptions { delta, force: !delta, ..options(output, 1) };
        restore_on(fs, &history, &plan, &options).unwrap()
    };
    let (fs, output) = machine();
    let done = restore(&fs, &output, true);
    assert_whole(&fs, &output, &expected);
    assert!(done.reused_bytes == 0 && done.moved_aside.is_empty(), "without an output, an ordinary restore");
    for delta in [true, false] {
        let (fs, output) = machine();
        let mut old = expected.clone();
        old[3_500_000] ^= 1;
        old.truncate(6 << 20);
        fs.create_new(&output).unwrap().write_all_at(&old, 0).unwrap();
        let done = restore(&fs, &output, delta);
        assert!(read(&fs, &output).unwrap() == expected);
        assert_eq!(done.reused_bytes > 3 << 20, delta, "{}", done.reused_bytes);
        assert_eq!(done.reused_bytes == 0, !delta);
        let [aside] = &done.moved_aside[..] else { panic!("{:?}", done.moved_aside) };
        assert!(read(&fs, aside).unwrap() == old, "the old output is kept as it was");
    }
}

#[test]
fn a_delta_restore_of_a_folder_takes_what_the_files_of_the_old_one_have() {
    // FAILURES 33
    let dir = tempfile::tempdir().unwrap();
    let (history, plan, expected) = prepared(dir.path());
    let output = dir.path().join("out.db");
    let chunks = ChunkStore::open(history.archive().objects().clone()).unwrap();
    let restore = || {
        let delta = RestoreOptions { delta: true, ..RestoreOptions::to(&output) };
        let done = Restorer::new(&history, &chunks, &Nested).restore(&plan, &delta).unwrap();
        assert!(std::fs::read(output.join("inner/file")).unwrap() == expected);
        (done.reused_bytes, done.moved_aside.len())
    };
    assert_eq!(restore(), (0, 0), "there is no old folder");
    let (reused, moved) = restore();
    assert!(reused > 3 << 20 && moved == 1, "{reused} bytes");
    std::fs::remove_file(output.join("inner/file")).unwrap();
    assert_eq!(restore(), (0, 1), "the old folder has no such file");
}

/// Remembers the permissions that the unfinished result has.
#[derive(Debug, Default)]
struct Guarded(Mutex<Vec<u32>>);

impl RestoreTarget for Guarded {
    fn lay_out(&self, state: &RestoreState<'_>) -> Result<Layout> {
        state.single_file()
    }

    fn finish(&self, unfinished: &Unfinished<'_>) -> Result<Finished> {
        let attributes = unfinished.fs.attributes(unfinished.path).unwrap().unwrap();
        self.0.lock().unwrap().push(attributes.mode);
        Ok(Finished::default())
    }
}

#[test]
fn an_output_that_is_updated_in_place_is_private_until_it_is_published() {
    // FAILURES 58
    let dir = tempfile::tempdir().unwrap();
    let (history, plan, expected) = prepared(dir.path());
    let (output, target) = (dir.path().join("out.db"), Guarded::default());
    let mode = |mode| Attributes { mode, ..OsFs.attributes(&output).unwrap().unwrap() };
    std::fs::write(&output, &expected[..1 << 20]).unwrap();
    assert!(OsFs.set_attributes(&output, mode(0o644)).unwrap());
    let chunks = ChunkStore::open(history.archive().objects().clone()).unwrap();
    let in_place = RestoreOptions { in_place: true, ..RestoreOptions::to(&output) };
    Restorer::new(&history, &chunks, &target).restore(&plan, &in_place).unwrap();
    assert!(std::fs::read(&output).unwrap() == expected);
    assert_eq!(target.0.lock().unwrap()[..], [0o600]);
    assert_eq!(OsFs.attributes(&output).unwrap().unwrap().mode, 0o644);
}

#[test]
fn power_loss_in_an_update_leaves_the_old_state_or_the_new_or_a_marked_leftover() {
    // FAILURES 26, 32 and law 4
    let dir = tempfile::tempdir().unwrap();
    let (history, plan, expected) = prepared(dir.path());
    let mut old = expected.clone();
    old[100] ^= 1;
    old[3_500_000] ^= 1;
    let (fs, output) = machine();
    fs.create_new(&output).unwrap().write_all_at(&old, 0).unwrap();
    fs.open(&output, Access::Read).unwrap().sync_all().unwrap();
    fs.sync_dir(Path::new("/out")).unwrap();
    let fs = SimFs::on(fs.durable_disk());
    let in_place = |output: &Path| RestoreOptions { in_place: true, ..options(output, 1) };
    restore_on(&fs, &history, &plan, &in_place(&output)).unwrap();
    let trace = fs.trace();
    let mut survivors = Survivors::new(&trace);
    let mut cut = 0;
    loop {
        for (seed, mode) in (0..2).flat_map(|seed| Mode::ALL.map(|mode| (seed, mode))) {
            let after = SimFs::on(survivors.disk(mode, cut * 2 + seed));
            if let Some(found) = read(&after, &output) {
                assert!(found == old || found == expected, "cut {cut}, {mode:?}: half a result");
            }
            if let Some(left) = read(&after, &partial(&output)) {
                let is_open = left.get(..16) == expected.get(..16);
                assert!(!is_open || left == expected || left == old, "cut {cut}, {mode:?}: it looks whole");
            }
            if cut % 7 == 0 && seed == 0 {
                restore_on(&after, &history, &plan, &in_place(&output)).unwrap();
                assert!(read(&after, &output).unwrap() == expected);
            }
        }
        if survivors.advance().is_none() {
            break;
        }
        cut += 1;
    }
}

#[test]
fn an_output_that_others_use_is_not_updated_in_place() {
    let dir = tempfile::tempdir().unwrap();
    let (history, plan, expected) = prepared(dir.path());
    let output = dir.path().join("out.db");
    let in_place = RestoreOptions { in_place: true, ..options(&output, 2) };
    let update = || restore_on(&OsFs, &history, &plan, &in_place);
    std::fs::write(dir.path().join("other"), b"precious").unwrap();
    std::fs::hard_link(dir.path().join("other"), &output).unwrap();
    assert!(matches!(update(), Err(Error::NotInPlace { .. })), "a hard link");
    std::fs::remove_file(&output).unwrap();
    std::os::unix::fs::symlink("other", &output).unwrap();
    assert!(matches!(update(), Err(Error::NotInPlace { .. })), "a symbolic link");
    std::fs::remove_file(&output).unwrap();
    std::fs::create_dir(&output).unwrap();
    assert!(matches!(update(), Err(Error::NotInPlace { .. })), "a folder in place of a file");
    std::fs::remove_dir(&output).unwrap();
    assert_eq!(std::fs::read(dir.path().join("other")).unwrap(), b"precious");

    std::fs::write(&output, b"old").unwrap();
    let file = std::fs::File::open(&output).unwrap();
    let mut reader = std::process::Command::new("sleep").arg("60").stdin(file).spawn().unwrap();
    let refused = update();
    reader.kill().unwrap();
    reader.wait().unwrap();
    assert!(matches!(refused, Err(Error::InUse { .. })), "{refused:?}");
    assert_eq!(std::fs::read(&output).unwrap(), b"old");
    update().unwrap();
    assert!(std::fs::read(&output).unwrap() == expected);
}

/// The same file, in a folder of a folder.
#[derive(Debug)]
struct Nested;

impl RestoreTarget for Nested {
    fn lay_out(&self, _: &RestoreState<'_>) -> Result<Layout> {
        let files = vec![FilePlace::new(FileId::FIRST, "inner/file")];
        Ok(Layout::Folder(FolderLayout { folders: vec!["inner".into()], files }))
    }
}

fn restore_folder(history: &History, plan: &Plan, output: &Path) -> Result<Restored> {
    let chunks = ChunkStore::open(history.archive().objects().clone()).unwrap();
    Restorer::new(history, &chunks, &Nested).restore(plan, &RestoreOptions::to(output))
}

#[test]
fn a_leftover_folder_keeps_its_plain_files_and_leads_nowhere() {
    // FAILURES 31, 32
    let dir = tempfile::tempdir().unwrap();
    let (history, plan, expected) = prepared(dir.path());
    let (output, outside) = (dir.path().join("out.db"), dir.path().join("outside"));
    let left = partial(&output);
    let prepare = || {
        let _ = std::fs::remove_dir_all(&output);
        std::fs::create_dir_all(&outside).unwrap();
        std::fs::write(outside.join("file"), b"precious").unwrap();
        std::fs::write(dir.path().join("out.db.pitr-lock"), b"").unwrap();
        std::fs::create_dir(&left).unwrap();
    };
    let check = |reused: bool| {
        let done = restore_folder(&history, &plan, &output).unwrap();
        assert!(std::fs::read(output.join("inner/file")).unwrap() == expected);
        assert_eq!(std::fs::read(outside.join("file")).unwrap(), b"precious");
        assert_eq!(std::fs::read_dir(&output).unwrap().count(), 1);
        assert_eq!(done.reused_bytes > 0, reused);
        assert!(done.files == 1 && done.reached().time > Timestamp::MIN);
    };
    prepare();
    std::fs::create_dir(left.join("inner")).unwrap();
    std::fs::write(left.join("inner/file"), &expected).unwrap();
    std::fs::write(left.join("inner/extra"), b"x").unwrap();
    std::fs::write(left.join("extra"), b"x").unwrap();
    check(true);
    prepare();
    std::os::unix::fs::symlink(&outside, left.join("inner")).unwrap();
    check(false);
    prepare();
    std::fs::create_dir(left.join("inner")).unwrap();
    std::fs::hard_link(outside.join("file"), left.join("inner/file")).unwrap();
    check(false);
    prepare();
    std::fs::create_dir(left.join("inner")).unwrap();
    std::os::unix::fs::symlink(outside.join("file"), left.join("inner/file")).unwrap();
    check(false);
}

/// A folder whose parent is not laid out.
#[derive(Debug)]
struct Orphan;

impl RestoreTarget for Orphan {
    fn lay_out(&self, _: &RestoreState<'_>) -> Result<Layout> {
        let files = vec![FilePlace::new(FileId::FIRST, "file")];
        Ok(Layout::Folder(FolderLayout { folders: vec!["a/b".into()], files }))
    }
}

#[test]
fn a_folder_that_cannot_be_created_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let (history, plan, _) = prepared(dir.path());
    let output = dir.path().join("out.db");
    let chunks = ChunkStore::open(history.archive().objects().clone()).unwrap();
    let refused = Restorer::new(&history, &chunks, &Orphan).restore(&plan, &RestoreOptions::to(&output));
    let Err(Error::Io { op, path, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!((op, path), ("create", partial(&output).join("a/b")));
    assert!(!output.exists());
}

#[test]
fn the_folders_of_a_continued_result_are_durable() {
    // FAILURES 26: the interrupted restore had not synced their names.
    let (fs, output) = machine();
    let left = partial(&output);
    fs.create_private(&output.with_file_name("out.db.pitr-lock")).unwrap();
    fs.create_dir(&left).unwrap();
    fs.create_dir(&left.join("a")).unwrap();
    let mut staged = StagedOutput::take(&fs, &output, OutputRules::default()).unwrap();
    assert!(staged.resume_folder(&["a".into(), "a/b".into()], &[]).unwrap());
    staged.create_dirs(Path::new("a/b")).unwrap();
    staged.publish(Timestamp::MIN).unwrap();
    let after = SimFs::on(fs.durable_disk());
    assert!(after.metadata(&output.join("a/b")).unwrap().is_folder());
}
