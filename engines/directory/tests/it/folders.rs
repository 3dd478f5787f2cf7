use crate::compare::seen;
use crate::lab::{Lab, options};
use pitr_archive::{Archive, Writer};
use pitr_directory::{BackupOptions, Error, Taken, backup};
use pitr_format::SourceName;
use pitr_recovery::{Error as RecoveryError, RestoreOptions, Room};
use pitr_testkit::{Outcome, TestFs, noise};
use pitr_vfs::{Clock, SystemClock};
use proptest::prelude::*;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

#[test]
fn everything_in_a_folder_is_restored() {
    let lab = Lab::new();
    let odd = lab.source().join(OsStr::from_bytes(b"no \xff\xfe utf-8\n"));
    fs::write(&odd, noise(1, 3_000_000)).unwrap();
    fs::write(lab.at("empty"), b"").unwrap();
    fs::create_dir_all(lab.at("a/b/c/empty folder")).unwrap();
    fs::write(lab.at("a/b/small"), b"small").unwrap();
    fs::hard_link(lab.at("a/b/small"), lab.at("a/other name")).unwrap();
    fs::hard_link(lab.at("a/b/small"), lab.at("z third name")).unwrap();
    symlink("/etc/passwd", lab.at("a/absolute link")).unwrap();
    symlink("nowhere/at/all", lab.at("broken link")).unwrap();
    symlink("..", lab.at("a/b/up")).unwrap();
    fs::set_permissions(lab.at("a/b/small"), Permissions::from_mode(0o4751)).unwrap();
    fs::set_permissions(lab.at("a/b/c"), Permissions::from_mode(0o500)).unwrap();
    let old = SystemTime::UNIX_EPOCH - Duration::new(1_000_000, 1);
    File::options().write(true).open(lab.at("empty")).unwrap().set_modified(old).unwrap();
    File::open(lab.at("a/b")).unwrap().set_modified(old + Duration::new(77, 123_456_789)).unwrap();
    let taken = lab.backup();
    assert!(taken.skipped.is_empty() && taken.vanished.is_empty() && taken.cut.is_empty(), "{taken:?}");
    lab.assert_restored(&taken, "out");
    let (again, restored) = lab.restore(&taken, "again");
    assert_eq!(restored.files, 3);
    let kinds = |is: fn(&fs::Metadata) -> bool| {
        seen(&again)
            .keys()
            .filter(|path| is(&fs::symlink_metadata(again.join(OsStr::from_bytes(path))).unwrap()))
            .count()
    };
    assert_eq!((kinds(fs::Metadata::is_dir), kinds(fs::Metadata::is_symlink)), (5, 3));
    assert_eq!(kinds(|meta| meta.is_file() && meta.nlink() == 3), 3, "one file of three names");
    // Gives access back, so that the folder can be removed.
    for at in ["source", "out", "again"] {
        fs::set_permissions(lab.dir.path().join(at).join("a/b/c"), Permissions::from_mode(0o700)).unwrap();
    }
}

#[test]
fn holes_stay_holes_and_cost_nothing() {
    let lab = Lab::new();
    let file = File::create(lab.at("sparse")).unwrap();
    file.set_len(1 << 30).unwrap();
    file.write_all_at(b"in the middle", 500 << 20).unwrap();
    file.write_all_at(&noise(1, 100_000), (700 << 20) + 5).unwrap();
    drop(file);
    let taken = lab.backup();
    assert!(taken.snapshot.sizes.stored < 1 << 20, "{:?}", taken.snapshot.sizes);
    let (output, _) = lab.restore(&taken, "out");
    let meta = fs::metadata(output.join("sparse")).unwrap();
    assert!(meta.len() == 1 << 30 && meta.blocks() * 512 < 1 << 20, "{}", meta.blocks());
    let mut bytes = vec![0; 100_000];
    File::open(output.join("sparse")).unwrap().read_exact_at(&mut bytes, (700 << 20) + 5).unwrap();
    assert_eq!(bytes, noise(1, 100_000));
}

#[test]
fn an_increment_costs_what_changed_and_reads_only_what_may_have() {
    let lab = Lab::new();
    for n in 0..20 {
        fs::write(lab.at(&format!("file {n}")), noise(n, 400 * 4096)).unwrap();
    }
    let first = lab.backup();
    let file = File::options().write(true).open(lab.at("file 3")).unwrap();
    file.write_all_at(&[7; 100], 777_777).unwrap();
    drop(file);
    fs::rename(lab.at("file 5"), lab.at("another name")).unwrap();
    fs::remove_file(lab.at("file 6")).unwrap();
    fs::write(lab.at("a new one"), b"new").unwrap();
    let second = lab.backup();
    assert_eq!(second.snapshot.parent, Some(first.snapshot.id));
    // One block, the tree, leaves and the root are new. The renamed file is recognized by its
    // content.
    assert!(second.snapshot.sizes.stored < 40_000, "{:?}", second.snapshot.sizes);
    lab.assert_restored(&second, "second");
    let third = lab.backup();
    assert!(
        third.snapshot.sizes.changed < 100 && third.snapshot.sizes.stored < 12_000,
        "{:?}",
        third.snapshot.sizes
    );
    lab.assert_restored(&third, "third");
    let full = lab.backup_of(&lab.source(), true).unwrap();
    assert_eq!((full.snapshot.parent, full.snapshot.sizes.changed), (None, full.snapshot.sizes.logical));
    lab.assert_restored(&full, "full");
}

#[test]
fn a_file_that_was_changed_and_given_its_old_time_back_is_noticed() {
    let lab = Lab::new();
    fs::write(lab.at("sly"), noise(1, 10_000)).unwrap();
    let modified = fs::metadata(lab.at("sly")).unwrap().modified().unwrap();
    lab.backup();
    std::thread::sleep(Duration::from_millis(20)); // a tick of the file system's clock
    fs::write(lab.at("sly"), noise(2, 10_000)).unwrap();
    File::options().write(true).open(lab.at("sly")).unwrap().set_modified(modified).unwrap();
    lab.assert_restored(&lab.backup(), "out");
}

#[test]
fn a_change_just_before_the_snapshot_is_read_again() {
    let lab = Lab::new();
    fs::write(lab.at("racy"), noise(1, 10_000)).unwrap();
    let honest = SystemClock::new();
    let name = SourceName::new("s").unwrap();
    let take = || backup(&lab.objects, &honest, &name, &lab.source(), BackupOptions::default()).unwrap();
    take();
    // The file has the same length, inode and, on a coarse clock, the same times: only its content
    // differs.
    fs::write(lab.at("racy"), noise(2, 10_000)).unwrap();
    lab.assert_restored(&take(), "out");
}

#[test]
fn sockets_and_the_repository_are_skipped_and_reported() {
    let lab = Lab::new();
    fs::write(lab.at("file"), b"x").unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(lab.at("socket")).unwrap();
    let taken = lab.backup();
    assert_eq!(taken.skipped, [lab.at("socket").canonicalize().unwrap()]);
    let all = lab.backup_of(lab.dir.path(), false).unwrap();
    let mut skipped = all.skipped.clone();
    skipped.sort();
    let repo = lab.dir.path().canonicalize().unwrap();
    assert_eq!(skipped, [repo.join("repo"), repo.join("source/socket")]);
}

#[test]
fn files_that_vanish_or_shrink_while_they_are_read_are_reported() {
    let lab = Lab::new();
    // Files are read in the order of their names, so the other files come after the first.
    fs::write(lab.at("a"), noise(1, 60_000_000)).unwrap();
    fs::write(lab.at("y shrinks"), noise(2, 5_000_000)).unwrap();
    fs::write(lab.at("z vanishes"), noise(3, 5_000_000)).unwrap();
    let taken = std::thread::scope(|scope| {
        let taken = scope.spawn(|| lab.backup());
        // Once a pack exists, the folder was listed and a quarter of the first file was read.
        while lab.objects.list("packs").unwrap().is_empty() && !taken.is_finished() {
            std::thread::yield_now();
        }
        fs::remove_file(lab.at("z vanishes")).unwrap();
        File::options().write(true).open(lab.at("y shrinks")).unwrap().set_len(1_000_000).unwrap();
        taken.join().unwrap()
    });
    let (output, _) = lab.restore(&taken, "out");
    assert_eq!(fs::read(output.join("a")).unwrap(), noise(1, 60_000_000));
    // On a fast machine all files may have been read before.
    if taken.vanished.is_empty() {
        assert_eq!(fs::read(output.join("z vanishes")).unwrap(), noise(3, 5_000_000));
    } else {
        assert!(!output.join("z vanishes").exists());
    }
    let shrunk = fs::read(output.join("y shrinks")).unwrap();
    assert_eq!(shrunk[..1_000_000], noise(2, 5_000_000)[..1_000_000]);
    assert!(taken.cut.is_empty() || shrunk[4_999_999] == 0);
    // Every change is reported, whenever it happened.
    let reported = |name: &str| {
        let path = lab.source().canonicalize().unwrap().join(name);
        [&taken.vanished, &taken.cut, &taken.changed].iter().any(|paths| paths.contains(&path))
    };
    assert!(reported("y shrinks") && reported("z vanishes"), "{taken:?}");
    // The next snapshot is whole again.
    let next = lab.backup();
    assert!(next.vanished.is_empty() && next.cut.is_empty());
    lab.assert_restored(&next, "next");
}

#[test]
fn nothing_is_overwritten_and_no_foreign_leftover_is_removed() {
    // FAILURES 32
    let lab = Lab::new();
    fs::write(lab.at("file"), b"x").unwrap();
    let taken = lab.backup();
    let output = lab.dir.path().join("out");
    let build = |force| lab.restore_to(&taken, RestoreOptions { force, ..options(&output) });
    fs::create_dir(&output).unwrap();
    fs::write(output.join("precious"), b"p").unwrap();
    assert!(matches!(build(false), Err(RecoveryError::Exists { path }) if path == output));
    let moved = build(true).unwrap().moved_aside.remove(0);
    assert_eq!(fs::read(moved.join("precious")).unwrap(), b"p");
    assert_eq!(fs::read(output.join("file")).unwrap(), b"x");

    // A killed restore leaves the partial folder and the lock file. The next restore starts clean.
    let other = lab.dir.path().join("other");
    let build = |force| lab.restore_to(&taken, RestoreOptions { force, ..options(&other) });
    let partial = lab.dir.path().join("other.pitr-partial");
    fs::create_dir(&partial).unwrap();
    fs::write(partial.join("half"), b"h").unwrap();
    let refused = build(false);
    assert!(matches!(refused, Err(RecoveryError::InTheWay { path }) if path == partial), "not ours");
    assert_eq!(fs::read(partial.join("half")).unwrap(), b"h");
    let lock = lab.dir.path().join("other.pitr-lock");
    fs::write(&lock, b"").unwrap();
    build(false).unwrap();
    assert!(!other.join("half").exists() && !partial.exists() && !lock.exists());

    // The same with an existing output: a refused restore still recognizes the leftover as pitr's.
    fs::create_dir(&partial).unwrap();
    fs::write(&lock, b"").unwrap();
    assert!(matches!(build(false), Err(RecoveryError::Exists { path }) if path == other));
    build(true).unwrap();
    assert!(!partial.exists() && !lock.exists());

    // A leftover of the restore of a database is removed too.
    fs::write(&partial, b"half").unwrap();
    fs::write(&lock, b"").unwrap();
    build(true).unwrap();
    assert!(!partial.exists() && !lock.exists());
}

#[test]
fn two_at_a_time_are_two_moments() {
    // Law 5: neither backup sees the other's snapshot, yet no target matches both.
    let lab = Lab::new();
    fs::write(lab.at("file"), b"first").unwrap();
    let first = lab.backup();
    let archive = Archive::new(lab.objects.clone(), SourceName::new("s").unwrap());
    // Another backup has begun. It will number its snapshot after the same parent.
    let other = Writer::claim(&archive, lab.clock.now()).unwrap();
    fs::write(lab.at("file"), b"second").unwrap();
    let second = lab.backup();
    let lsn = |taken: &Taken| taken.snapshot.meta.consistent_at.get();
    assert_eq!((lsn(&first), other.epoch().get(), lsn(&second)), (1, 2, 3));
}

#[test]
fn bytes_inserted_into_a_text_or_appended_cost_little_more_than_themselves() {
    let lab = Lab::new();
    // Pages may be as small as 512 bytes.
    let (mut text, image) = (noise(1, 10_000_001), noise(2, 16_001 * 512));
    fs::write(lab.at("text"), &text).unwrap();
    fs::write(lab.at("image"), &image).unwrap();
    lab.backup();
    text.splice(5_000_000..5_000_000, *b"a line\n");
    fs::write(lab.at("text"), &text).unwrap();
    let put_in = lab.backup();
    assert!(put_in.snapshot.sizes.stored < 2 << 20, "{:?}", put_in.snapshot.sizes);
    // By chance the length of the file is a multiple of a block. The file stays without blocks,
    // because otherwise all of it would be stored again.
    text.resize(text.len().next_multiple_of(4096), 7);
    fs::write(lab.at("text"), &text).unwrap();
    let behind = lab.backup();
    assert!(behind.snapshot.sizes.stored < 2 << 20, "{:?}", behind.snapshot.sizes);
    // A file of blocks is compared block by block, also if its length changes.
    let image = [&image[..1_000_000], b"x", &image[1_000_001..], b"behind"].concat();
    fs::write(lab.at("image"), image).unwrap();
    let patched = lab.backup();
    assert!(patched.snapshot.sizes.stored < 30_000, "{:?}", patched.snapshot.sizes);
    lab.assert_restored(&patched, "out");
}

#[test]
fn a_delta_restore_of_a_text_reuses_matching_extents() {
    // FAILURES 33
    let lab = Lab::new();
    fs::write(lab.at("text"), noise(1, 5_000_001)).unwrap();
    let taken = lab.backup();
    let before = seen(&lab.source());
    let (output, _) = lab.restore(&taken, "out");
    File::options().write(true).open(output.join("text")).unwrap().write_all_at(b"rot", 2_000_000).unwrap();
    let restored = lab.restore_to(&taken, RestoreOptions { delta: true, ..options(&output) }).unwrap();
    assert_eq!(seen(&output), before);
    assert!((3_900_000..5_000_000).contains(&restored.reused_bytes), "{}", restored.reused_bytes);
}

#[test]
fn a_delta_restore_trusts_contents_and_nothing_else() {
    // FAILURES 33
    let lab = Lab::new();
    for n in 0..4 {
        fs::write(lab.at(&n.to_string()), noise(n, 600 * 4096)).unwrap();
    }
    fs::write(lab.at("small"), noise(9, 3000)).unwrap();
    let taken = lab.backup();
    let before = seen(&lab.source());
    let (output, _) = lab.restore(&taken, "out");
    // Rot: same length, same times.
    let modified = fs::metadata(output.join("2")).unwrap().modified().unwrap();
    let file = File::options().write(true).open(output.join("2")).unwrap();
    file.write_all_at(b"rot", 1_200_000).unwrap();
    file.set_modified(modified).unwrap();
    drop(file);
    fs::remove_file(output.join("3")).unwrap();
    symlink("2", output.join("3")).unwrap();
    fs::write(output.join("small"), b"").unwrap();
    let restored = lab.restore_to(&taken, RestoreOptions { delta: true, ..options(&output) }).unwrap();
    assert_eq!(seen(&output), before);
    // The intact files are restored: two whole files, and the third without the damaged extent.
    assert_eq!(restored.reused_bytes, 3 * 600 * 4096 - (1 << 20));
    assert!(restored.moved_aside[0].join("2").exists());
}

#[test]
fn a_source_is_a_folder_and_stays_one() {
    let lab = Lab::new();
    fs::write(lab.at("file"), b"x").unwrap();
    assert!(matches!(lab.backup_of(&lab.at("file"), false), Err(Error::NotAFolder { .. })));
    assert!(matches!(lab.backup_of(&lab.at("none"), false), Err(Error::Io { .. })));
}

#[derive(Debug, Clone)]
enum Step {
    Write { name: u8, len: usize, seed: u64 },
    Patch { name: u8, at: u64, seed: u64 },
    Remove { name: u8 },
    Folder { name: u8 },
    Link { name: u8, to: u8 },
    HardLink { name: u8, to: u8 },
    Backup,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let name = || 0..12u8;
    let step = prop_oneof![
        4 => (name(), prop_oneof![0..5000usize, Just(1 << 20), Just((1 << 20) + 1), Just(600 * 4096), 0..3_000_000usize], 0..9u64)
            .prop_map(|(name, len, seed)| Step::Write { name, len, seed }),
        3 => (name(), 0..3_000_000u64, 0..9u64).prop_map(|(name, at, seed)| Step::Patch { name, at, seed }),
        2 => name().prop_map(|name| Step::Remove { name }),
        1 => name().prop_map(|name| Step::Folder { name }),
        1 => (name(), name()).prop_map(|(name, to)| Step::Link { name, to }),
        1 => (name(), name()).prop_map(|(name, to)| Step::HardLink { name, to }),
        2 => Just(Step::Backup),
    ];
    prop::collection::vec(step, 1..30)
}

fn path(root: &Path, name: u8) -> PathBuf {
    // Some paths lead through folders whose names other files may have.
    if name < 8 { root.join(name.to_string()) } else { root.join((name % 4).to_string()).join("inner") }
}

fn remove(path: &Path) {
    if fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir()) {
        fs::remove_dir_all(path).unwrap();
    } else {
        let _ = fs::remove_file(path);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn every_snapshot_of_a_folder_is_restored_exactly(steps in steps()) {
        let lab = Lab::new();
        let root = lab.source();
        let mut taken = Vec::new();
        // A step whose folder or file does not exist does nothing.
        for step in steps.into_iter().chain([Step::Backup]) {
            match step {
                Step::Write { name, len, seed } => {
                    remove(&path(&root, name));
                    let _ = fs::write(path(&root, name), noise(seed, len));
                }
                Step::Patch { name, at, seed } => {
                    let target = path(&root, name);
                    if fs::symlink_metadata(&target).is_ok_and(|meta| meta.is_file()) {
                        let file = File::options().write(true).open(&target).unwrap();
                        file.write_all_at(&noise(seed, 10), at).unwrap();
                    }
                }
                Step::Remove { name } => remove(&path(&root, name)),
                Step::Folder { name } => {
                    remove(&path(&root, name));
                    let _ = fs::create_dir(path(&root, name));
                }
                Step::Link { name, to } => {
                    remove(&path(&root, name));
                    let _ = symlink(to.to_string(), path(&root, name));
                }
                Step::HardLink { name, to } => {
                    if name != to && fs::symlink_metadata(path(&root, to)).is_ok_and(|meta| meta.is_file()) {
                        remove(&path(&root, name));
                        let _ = fs::hard_link(path(&root, to), path(&root, name));
                    }
                }
                Step::Backup => taken.push((lab.backup(), seen(&root))),
            }
        }
        for (no, (taken, was)) in taken.iter().enumerate() {
            let (output, _) = lab.restore(taken, &format!("out {no}"));
            prop_assert_eq!(&seen(&output), was);
        }
    }
}

#[test]
fn a_result_that_does_not_fit_or_has_no_folder_is_refused_before_anything_is_written() {
    let lab = Lab::new();
    fs::write(lab.at("file"), [1; 5000]).unwrap();
    let sparse = File::create(lab.at("sparse")).unwrap();
    sparse.set_len(1 << 30).unwrap();
    sparse.write_all_at(&[1; 4096], 0).unwrap();
    sparse.sync_all().unwrap();
    let taken = lab.backup();
    let (free, folder) = (Arc::new(AtomicU64::new(0)), lab.dir.path().join("target"));
    let room_left = Arc::clone(&free);
    let disk = TestFs::os().answering(move |_, _| Outcome::Free(room_left.load(Ordering::Relaxed)));
    fs::create_dir(&folder).unwrap();
    let output = folder.join("out");
    let build = |output: &Path| {
        lab.with_restorer(&taken, &disk, |restorer, plan| restorer.restore(plan, &options(output)))
    };
    let room = || lab.with_restorer(&taken, &disk, |restorer, plan| restorer.room(plan, &options(&output)));
    // Holes take no disk space.
    let needed = 5000 + 4096;
    free.store(needed - 1, Ordering::Relaxed);
    for refused in [build(&output).err(), room().err()] {
        let Some(RecoveryError::NoRoom { needed: n, free, .. }) = &refused else { panic!("{refused:?}") };
        assert_eq!((*n, *free), (needed, needed - 1));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    }
    free.store(needed, Ordering::Relaxed);
    assert_eq!(room().unwrap(), Room { needed, free: Some(needed) });
    build(&output).unwrap();
    let missing = folder.join("missing");
    let refused = build(&missing.join("out")).unwrap_err();
    assert!(matches!(&refused, RecoveryError::NoFolder { path } if *path == missing), "{refused}");
}

#[test]
fn a_clock_that_was_ahead_does_not_prevent_a_backup_of_a_folder() {
    // FAILURES 56. The clock of the lab is ahead of the system's.
    let lab = Lab::new();
    fs::write(lab.at("file"), "one").unwrap();
    let ahead = lab.backup();
    fs::write(lab.at("file"), "another").unwrap();
    let (honest, name) = (SystemClock::new(), SourceName::new("s").unwrap());
    let right = backup(&lab.objects, &honest, &name, &lab.source(), BackupOptions::default()).unwrap();
    let (before, after) = (&ahead.snapshot.meta, &right.snapshot.meta);
    assert!(after.created < before.created, "the clock was set back");
    assert!(after.time >= before.time && after.consistent_at > before.consistent_at);
    lab.assert_restored(&right, "out");
}
