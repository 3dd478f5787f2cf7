use super::*;
use crate::{Access, File, FileSystem};
use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;

const FILE: &str = "/d/f";

fn path() -> &'static Path {
    Path::new(FILE)
}

/// A machine with a durable, empty file.
fn with_file() -> (SimFs, Arc<dyn File>) {
    let fs = SimFs::new();
    fs.create_dir_all(Path::new("/d")).unwrap();
    let file = fs.create_new(path()).unwrap();
    fs.sync_dir(Path::new("/d")).unwrap();
    (fs, file)
}

fn each_disk(fs: &SimFs, mut check: impl FnMut(Mode, Disk)) {
    let trace = fs.trace();
    let survivors = Survivors::at(&trace, trace.ops.len());
    for mode in Mode::ALL {
        (0..20).for_each(|seed| check(mode, survivors.disk(mode, seed)));
    }
}

#[derive(Debug, Clone)]
enum Act {
    Write(u8, u64, Vec<u8>),
    SyncBegun(u8, usize, bool),
}

fn act() -> impl Strategy<Value = Act> {
    let bytes = prop::collection::vec(any::<u8>(), 1..1_500);
    prop_oneof![
        3 => (0u8..2, 0u64..4_000, bytes).prop_map(|(file, at, bytes)| Act::Write(file, at, bytes)),
        1 => (0u8..2, 0usize..3, any::<bool>()).prop_map(|(file, ago, worked)| Act::SyncBegun(file, ago, worked)),
    ]
}

fn to_trace(acts: &[Act]) -> Trace {
    let mut ops = Vec::new();
    for file in 0..2 {
        ops.push(Op::Create { file: Inode(file), path: format!("/f{file}").into() });
    }
    ops.push(Op::Sync { what: Synced::Dir("/".into()), began: 2, worked: true });
    for act in acts {
        ops.push(match act {
            Act::Write(file, offset, bytes) => {
                Op::Write { file: Inode(u64::from(*file)), offset: *offset, bytes: bytes.as_slice().into() }
            }
            Act::SyncBegun(file, ago, worked) => {
                let began = ops.len().saturating_sub(*ago);
                Op::Sync { what: Synced::File(Inode(u64::from(*file))), began, worked: *worked }
            }
        });
    }
    Trace { base: Disk::default(), ops }
}

/// The allowed values of each byte of a file after a cut, derived from the contract, not from the
/// builder.
fn allowed(ops: &[Op], file: Inode) -> Vec<Vec<u8>> {
    let mut allowed = vec![vec![0]; 6_000];
    let covered = |place: usize| {
        ops.iter().skip(place).find_map(|op| match op {
            Op::Sync { what: Synced::File(synced), began, worked } => {
                (*synced == file && place < *began).then_some(*worked)
            }
            _ => None,
        })
    };
    for (place, op) in ops.iter().enumerate() {
        let Op::Write { file: written, offset, bytes } = op else { continue };
        if *written != file {
            continue;
        }
        let durable = covered(place) == Some(true);
        for (cell, byte) in allowed.iter_mut().skip(*offset as usize).zip(bytes.iter()) {
            if durable {
                cell.clear();
            }
            cell.push(*byte);
        }
    }
    allowed
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn synced_data_always_survives(acts in prop::collection::vec(act(), 1..14), seed: u64) {
        let trace = to_trace(&acts);
        let mut survivors = Survivors::new(&trace);
        while survivors.advance().is_some() {
            let ops = &trace.ops[..survivors.cut()];
            let expected = [0, 1].map(|file| allowed(ops, Inode(file)));
            for mode in Mode::ALL {
                let disk = survivors.disk(mode, seed);
                for (file, allowed) in expected.iter().enumerate() {
                    let Some(bytes) = disk.read(Path::new(&format!("/f{file}"))) else {
                        prop_assert!(survivors.cut() <= 2, "a synced name is lost");
                        continue;
                    };
                    let mut found = vec![0; allowed.len()];
                    found[..bytes.len()].copy_from_slice(&bytes);
                    let wrong = found.iter().zip(allowed).position(|(byte, set)| !set.contains(byte));
                    prop_assert_eq!(wrong, None, "{:?} at cut {}", mode, survivors.cut());
                }
            }
        }
    }

    #[test]
    fn the_same_seed_builds_the_same_disk(acts in prop::collection::vec(act(), 1..14), seed: u64) {
        let trace = to_trace(&acts);
        let survivors = Survivors::at(&trace, trace.ops.len());
        for mode in Mode::ALL {
            let (one, two) = (survivors.disk(mode, seed), survivors.disk(mode, seed));
            prop_assert_eq!(one.read(Path::new("/f0")), two.read(Path::new("/f0")));
        }
    }
}

#[test]
fn an_unsynced_published_name_may_be_lost() {
    // FAILURES 26
    let (fs, _) = with_file();
    let file = fs.create_new(Path::new("/d/new")).unwrap();
    file.write_all_at(b"whole", 0).unwrap();
    file.sync_all().unwrap();
    fs.sync_dir(Path::new("/d")).unwrap();
    fs.publish(Path::new("/d/new"), Path::new("/d/to")).unwrap();
    let (mut gone, mut there) = (0, 0);
    each_disk(&fs, |_, disk| match (disk.read(Path::new("/d/new")), disk.read(Path::new("/d/to"))) {
        (Some(bytes), None) if bytes == b"whole" => gone += 1,
        (None, Some(bytes)) if bytes == b"whole" => there += 1,
        other => panic!("neither the old nor the new name: {other:?}"),
    });
    assert!(gone > 10 && there > 10);
    fs.sync_dir(Path::new("/d")).unwrap();
    each_disk(&fs, |_, disk| assert_eq!(disk.read(Path::new("/d/to")).as_deref(), Some(&b"whole"[..])));
}

#[test]
fn a_later_sync_does_not_repair_a_failed_one() {
    // FAILURES 18
    let mut lost = 0;
    for round in 0..32 {
        let (fs, file) = with_file();
        (0..round).for_each(|id| fs.ack(id));
        file.write_all_at(b"x", 0).unwrap();
        fs.inject(Fault::Sync { nth: 0 });
        assert!(file.sync_data().is_err());
        file.sync_data().unwrap();
        let mut seen = [0];
        file.read_exact_at(&mut seen, 0).unwrap();
        assert_eq!(&seen, b"x", "the page cache still has it");
        lost += u32::from(fs.durable_disk().read(path()).is_none_or(|bytes| bytes != b"x"));
        file.write_all_at(b"x", 0).unwrap();
        file.sync_data().unwrap();
        assert_eq!(fs.durable_disk().read(path()).as_deref(), Some(&b"x"[..]));
    }
    assert!(lost > 4 && lost < 28, "{lost}");
}

#[test]
fn a_torn_write_is_torn_at_sector_boundaries() {
    let (fs, file) = with_file();
    file.write_all_at(&[1; 8 * SECTOR_BYTES], 0).unwrap();
    file.sync_data().unwrap();
    file.write_all_at(&[2; 4 * SECTOR_BYTES], 100).unwrap();
    let mut torn = 0;
    each_disk(&fs, |mode, disk| {
        let bytes = disk.read(path()).unwrap();
        let turns = bytes.windows(2).enumerate().filter(|(_, pair)| pair[0] != pair[1]).map(|(at, _)| at + 1);
        let inner = turns.filter(|at| *at != 100 && *at != 100 + 4 * SECTOR_BYTES).collect::<Vec<_>>();
        assert!(inner.iter().all(|at| at % SECTOR_BYTES == 0), "{inner:?}");
        assert!(inner.is_empty() || mode == Mode::TornSector);
        torn += usize::from(!inner.is_empty());
    });
    assert!(torn > 3);
}

#[test]
fn without_space_files_can_be_overwritten_but_not_grow() {
    let fs = SimFs::new();
    fs.create_dir_all(Path::new("/d")).unwrap();
    let file = fs.create_new(Path::new("/d/a")).unwrap();
    file.write_all_at(b"1234", 0).unwrap();
    fs.inject(Fault::NoSpace);
    file.write_all_at(b"56", 2).unwrap();
    let full = std::io::ErrorKind::StorageFull;
    assert_eq!(file.write_all_at(b"78", 3).unwrap_err().kind(), full);
    assert_eq!(file.set_len(5).unwrap_err().kind(), full);
    assert_eq!(fs.create_new(Path::new("/d/b")).unwrap_err().kind(), full);
    fs.mend();
    file.write_all_at(b"78", 3).unwrap();
}

#[test]
fn a_full_disk_accepts_half_of_a_write_and_nothing_more() {
    let (fs, file) = with_file();
    fs.inject(Fault::Full { nth: 1 });
    file.write_all_at(b"1234", 0).unwrap();
    let full = file.write_all_at(b"5678", 4).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    assert!(file.write_all_at(b"9", 6).is_err() && file.set_len(9).is_err());
    assert!(fs.create_new(Path::new("/d/g")).is_err());
    assert_eq!(file.len().unwrap(), 6);
    fs.mend();
    file.write_all_at(b"9", 6).unwrap();
}

#[test]
fn unsynced_bytes_of_a_killed_process_are_not_durable() {
    let (fs, file) = with_file();
    file.write_all_at(b"x", 0).unwrap();
    let trace = fs.trace();
    let next = SimFs::after_kill(&trace, trace.ops.len());
    let file = next.open(path(), Access::ReadWrite).unwrap();
    assert_eq!(file.len().unwrap(), 1);
    assert_eq!(next.durable_disk().read(path()).unwrap(), b"");
    file.sync_data().unwrap();
    assert_eq!(next.durable_disk().read(path()).unwrap(), b"x");
}

#[test]
fn errors_match_those_of_the_operating_system() {
    use std::io::ErrorKind::{AlreadyExists, NotFound, PermissionDenied};
    let (fs, _) = with_file();
    let kind = |result: std::io::Result<()>| result.map_err(|e| e.kind());
    assert_eq!(kind(fs.create_new(path()).map(drop)), Err(AlreadyExists));
    assert_eq!(kind(fs.create_new(Path::new("/none/f")).map(drop)), Err(NotFound));
    assert_eq!(kind(fs.open(Path::new("/d/none"), Access::Read).map(drop)), Err(NotFound));
    assert_eq!(kind(fs.open(path(), Access::Read).unwrap().write_all_at(b"x", 0)), Err(PermissionDenied));
    fs.create_new(Path::new("/d/g")).unwrap();
    assert_eq!(kind(fs.publish(path(), Path::new("/d/g"))), Err(AlreadyExists));
    assert_eq!(fs.list(Path::new("/d")).unwrap(), ["f", "g"]);
    fs.remove_file(path()).unwrap();
    assert!(!fs.exists(path()).unwrap() && fs.exists(Path::new("/d")).unwrap());
    assert_eq!(kind(fs.list(Path::new("/e")).map(drop)), Err(NotFound));
    let held = fs.lock(Path::new("/d/lock")).unwrap();
    assert!(held.is_some() && fs.lock(Path::new("/d/lock")).unwrap().is_none());
    drop(held);
    assert!(fs.lock(Path::new("/d/lock")).unwrap().is_some());
}

#[test]
fn damage_changes_only_the_disk_it_is_done_to() {
    let (fs, file) = with_file();
    file.write_all_at(b"abc", 0).unwrap();
    file.sync_data().unwrap();
    let mut disk = fs.durable_disk();
    assert!(disk.damage(path(), 1, b"X") && disk.damage_len(path(), 2));
    assert_eq!(disk.read(path()).unwrap(), b"aX");
    assert_eq!(fs.durable_disk().read(path()).unwrap(), b"abc");
    assert!(disk.lose(path()) && disk.names().next().is_none());
    assert!(!disk.lose(path()) && !disk.damage(path(), 0, b"x") && !disk.damage_len(path(), 0));
}

#[test]
fn a_view_holds_the_content_at_its_creation() {
    let fs = SimFs::new();
    fs.create_dir_all(Path::new("/d")).unwrap();
    let file = fs.create_new(Path::new("/d/f")).unwrap();
    file.write_all_at(b"before", 0).unwrap();
    let view = file.view(6).unwrap();
    file.write_all_at(b"behind", 0).unwrap();
    assert_eq!(&view[..], b"before");
    assert_eq!(file.view(7).unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
}

fn folder_built_and_published(synced: bool) -> Trace {
    let (fs, at) = (SimFs::new(), Path::new);
    fs.create_dir_all(at("/d")).unwrap();
    fs.create_dir(at("/d/new")).unwrap();
    fs.create_dir(at("/d/new/inner")).unwrap();
    fs.create_new(at("/d/new/inner/f")).unwrap().write_all_at(b"x", 0).unwrap();
    if synced {
        fs.sync_below(at("/d/new")).unwrap();
    }
    fs.publish(at("/d/new"), at("/d/there")).unwrap();
    fs.sync_dir(at("/d")).unwrap();
    fs.trace()
}

#[test]
fn a_folder_is_published_whole_if_it_was_synced_before() {
    let trace = folder_built_and_published(true);
    let mut survivors = Survivors::new(&trace);
    let file = Path::new("/d/there/inner/f");
    loop {
        for (mode, seed) in Mode::ALL.into_iter().flat_map(|mode| (0..8).map(move |seed| (mode, seed))) {
            let after = SimFs::on(survivors.disk(mode, seed));
            let is_there = after.exists(Path::new("/d/there")).unwrap();
            assert_eq!(is_there, after.exists(file).unwrap(), "{mode:?} at {}", survivors.cut());
            assert!(!is_there || read_of(&after, file) == b"x");
        }
        if survivors.advance().is_none() {
            break;
        }
    }
    assert_eq!(read_of(&SimFs::on(survivors.disk(Mode::Synced, 0)), file), b"x");
}

#[test]
fn names_that_were_not_synced_before_their_folder_was_published_are_lost() {
    let trace = folder_built_and_published(false);
    let after = SimFs::on(Survivors::at(&trace, trace.ops.len()).disk(Mode::Prefix, 0));
    assert!(after.exists(Path::new("/d/there")).unwrap());
    assert!(after.list(Path::new("/d/there")).unwrap().is_empty());
}

#[test]
fn a_removed_folder_takes_all_with_it_and_nothing_of_it_comes_back() {
    let (fs, at) = (SimFs::new(), Path::new);
    fs.create_dir_all(at("/d")).unwrap();
    for _ in 0..2 {
        fs.create_dir(at("/d/a")).unwrap();
        assert_eq!(fs.list(at("/d")).unwrap(), ["a"]);
        fs.create_new(at("/d/a/f")).unwrap();
        fs.remove_all(at("/d/a")).unwrap();
        fs.sync_dir(at("/d")).unwrap();
    }
    fs.create_dir(at("/d/a")).unwrap();
    fs.sync_below(at("/d")).unwrap();
    let trace = fs.trace();
    let last = Survivors::at(&trace, trace.ops.len());
    for mode in Mode::ALL {
        let after = SimFs::on(last.disk(mode, 1));
        assert!(after.list(at("/d/a")).unwrap().is_empty(), "{mode:?}");
    }
    fs.create_new(at("/d/f")).unwrap();
    fs.remove_all(at("/d/f")).unwrap();
    assert_eq!(fs.remove_all(at("/d/f")).unwrap_err().kind(), std::io::ErrorKind::NotFound);
}

fn read_of(fs: &SimFs, path: &Path) -> Vec<u8> {
    let file = fs.open(path, Access::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}
