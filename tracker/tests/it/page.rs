//! Checks that bytes and names on disk match `docs/format/tracker.md`, and checks the golden file.

use crate::damage::crc32;
use crate::help::{LOG, Write, changes, range};
use pitr_format::{FileId, Lsn};
use pitr_testkit::Bytes;
use pitr_tracker::{BlockSize, ChangeSet, Changes, LsnRange, Store};
use pitr_vfs::sim::{Op, SimFs, Synced};
use pitr_vfs::{FileSystem, OsFs};
use std::path::Path;
use std::sync::Arc;

/// Written once by version 1. Every later version must read it, and version 1 must write the same
/// bytes.
const GOLDEN: &[u8] = include_bytes!("../golden/version-1.chg");
const GOLDEN_NAME: &str = "0000000001000000-000000000123f000.chg";

fn golden() -> Changes {
    let mut set = ChangeSet::new();
    let size = BlockSize::DEFAULT;
    [3, 8191, 8192, 24_414_062].iter().for_each(|block| set.mark(FileId::new(0), size, *block));
    let page = BlockSize::new(512).unwrap();
    (0..4096).for_each(|nth| set.mark(FileId::new(7), page, nth * 3 / 2));
    set.set_length(FileId::new(7), 5_000 * 512);
    set.set_length(FileId::new(0xffff_ffff), 0);
    let range = LsnRange::new(Lsn::new(0x100_0000), Lsn::new(0x123_f000)).unwrap();
    Changes { range, set }
}

#[test]
fn the_golden_file_of_version_1_is_read_and_written() {
    // FAILURES 36
    let dir = tempfile::tempdir().unwrap();
    let (read, written) = (dir.path().join("read"), dir.path().join("written"));
    OsFs.create_dir_all(&read).unwrap();
    OsFs.create_new(&read.join(GOLDEN_NAME)).unwrap().write_all_at(GOLDEN, 0).unwrap();
    let store = Store::open(Arc::new(OsFs), &read, LOG, Lsn::MAX).unwrap();
    let found = store.coverage(golden().range).unwrap().into_set();
    assert!(found.is_superset(&golden().set) && golden().set.is_superset(&found));

    Store::open(Arc::new(OsFs), &written, LOG, Lsn::MAX).unwrap().put(&golden()).unwrap();
    let bytes = std::fs::read(written.join(GOLDEN_NAME)).unwrap();
    assert!(bytes == GOLDEN, "the bytes of version 1 changed");
}

#[test]
fn the_bytes_match_the_format_page() {
    let b = Bytes(GOLDEN.to_vec());
    // The header.
    assert_eq!(&b.0[..8], b"PITRCHG1");
    assert_eq!((b.u16(8), b.u16(10), b.u32(12)), (1, 0, 1));
    assert_eq!(b.0[16..32], [7; 16]);
    assert_eq!((b.u64(32), b.u64(40)), (0x100_0000, 0x123_f000));
    assert_eq!((b.u32(48), b.u32(52) as usize), (3, GOLDEN.len() - 64));
    assert_eq!((b.u32(56), b.u32(60)), (crc32(&b.0[64..]), crc32(&b.0[..60])));
    // The first file: three pages stored as lists.
    assert_eq!((b.u32(64), b.u32(68), b.u64(72), b.u32(80)), (0, 4096, u64::MAX, 3));
    assert_eq!((b.u64(84), b.u16(92), b.u16(94), b.u16(96)), (0, 2, 3, 8191));
    assert_eq!((b.u64(98), b.u16(106), b.u16(108)), (1, 1, 0));
    assert_eq!((b.u64(110), b.u16(118), u64::from(b.u16(120))), (2980, 1, 24_414_062 - 2980 * 8192));
    // The second file: one page stored as bits. Two of every three blocks are marked, from the low
    // end of each byte.
    assert_eq!((b.u32(122), b.u32(126), b.u64(130), b.u32(138)), (7, 512, 5_000 * 512, 1));
    assert_eq!((b.u64(142), b.u16(150)), (0, 4096));
    assert_eq!(b.0[152..155], [0b1101_1011, 0b1011_0110, 0b0110_1101]);
    assert!(b.0[152 + 6144 / 8..152 + 1024].iter().all(|byte| *byte == 0));
    // The third file: only a length.
    let third = 152 + 1024;
    assert_eq!((b.u32(third), b.u32(third + 4), b.u64(third + 8), b.u32(third + 16)), (u32::MAX, 0, 0, 0));
    assert_eq!(GOLDEN.len(), third + 20);
}

#[test]
fn a_claim_is_written_in_the_documented_order() {
    // FAILURES 26
    let fs = SimFs::new();
    let mut store = Store::open(Arc::new(fs.clone()), Path::new("/d"), LOG, Lsn::new(30)).unwrap();
    let before = fs.trace().ops.len();
    store.put(&changes(range(10, 30), &[Write::Image(FileId::FIRST, 1, 1)])).unwrap();
    let (temporary, name) =
        ("/d/000000000000000a-000000000000001e.chg.new", "/d/000000000000000a-000000000000001e.chg");
    let ops = &fs.trace().ops[before..];
    let found: Vec<String> = ops
        .iter()
        .map(|op| match op {
            Op::Create { path, .. } => format!("create {}", path.display()),
            Op::Write { .. } => "write".to_owned(),
            Op::Sync { what: Synced::File(_), .. } => "sync the file".to_owned(),
            Op::Publish { from, to, .. } => format!("publish {} {}", from.display(), to.display()),
            Op::Sync { what: Synced::Dir(dir), .. } => format!("sync {}", dir.display()),
            other => format!("{other:?}"),
        })
        .collect();
    let expected = [
        format!("create {temporary}"),
        "write".to_owned(),
        "sync the file".to_owned(),
        format!("publish {temporary} {name}"),
        "sync /d".to_owned(),
    ];
    assert_eq!(found, expected);
}

#[test]
fn leftovers_of_an_interrupted_put_are_removed_and_other_names_are_kept() {
    let fs = SimFs::new();
    fs.create_dir_all(Path::new("/d")).unwrap();
    let names = [
        "/d/000000000000000a-000000000000001e.chg.new",
        "/d/000000000000000A-000000000000001e.chg",
        "/d/a-b.chg",
        "/d/000000000000001e-000000000000000a.chg",
        "/d/000000000000001e-000000000000001e.chg",
        "/d/notes.txt",
    ];
    names.iter().for_each(|name| drop(fs.create_new(Path::new(name)).unwrap()));
    let store = Store::open(Arc::new(fs.clone()), Path::new("/d"), LOG, Lsn::new(30)).unwrap();
    assert_eq!((store.claims().count(), store.damaged().len()), (0, 0));
    let left: Vec<String> = fs.durable_disk().names().map(|name| name.display().to_string()).collect();
    let mut expected = names[1..].to_vec();
    expected.sort_unstable();
    assert_eq!(left, expected);
}
