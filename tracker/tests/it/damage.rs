//! Damaged, missing, swapped and foreign files (FAILURES 29).

use crate::help::{LOG, Write, changes, range};
use pitr_format::{FileId, Lsn, Severity, TimelineId};
use pitr_tracker::{Changes, Error, LogIdentity, LsnRange, Store};
use pitr_vfs::sim::{Disk, SimFs};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const FIRST: &str = "/d/000000000000000a-0000000000000014.chg";
const SECOND: &str = "/d/0000000000000014-000000000000001e.chg";

fn open(disk: &Disk) -> Result<Store, Error> {
    Store::open(Arc::new(SimFs::on(disk.clone())), Path::new("/d"), LOG, Lsn::new(30))
}

fn first() -> Changes {
    changes(range(10, 20), &[Write::Image(FileId::FIRST, 3, 1), Write::SetLength(FileId::new(1), 90)])
}

fn second() -> Changes {
    changes(range(20, 30), &[Write::Image(FileId::FIRST, 4, 1)])
}

fn disk() -> Disk {
    let fs = SimFs::new();
    let mut store = Store::open(Arc::new(fs.clone()), Path::new("/d"), LOG, Lsn::new(30)).unwrap();
    store.put(&first()).unwrap();
    store.put(&second()).unwrap();
    fs.durable_disk()
}

/// Checks that the unreadable first claim is reported, that its range is missing, and that the
/// other claim is valid.
fn assert_found(disk: &Disk, case: &str) {
    let store = open(disk).unwrap();
    let coverage = store.coverage(range(10, 30)).unwrap();
    assert_eq!(coverage.missing(), [range(10, 20)], "{case}");
    assert!(store.damaged().len() + coverage.damaged().len() == 1, "{case}: unreported damage");
    let all = store.damaged().iter().chain(coverage.damaged());
    assert!(all.into_iter().all(|error| error.severity() == Severity::Fatal));
    assert!(coverage.into_set().is_whole(), "{case}");
    assert_eq!(store.coverage(range(20, 30)).unwrap().into_set(), second().set);
}

#[test]
fn a_flipped_bit_anywhere_makes_a_claim_unknown() {
    let whole = disk();
    let bytes = whole.read(Path::new(FIRST)).unwrap();
    for (at, byte) in bytes.iter().enumerate() {
        for bit in 0..8 {
            let mut disk = whole.clone();
            disk.damage(Path::new(FIRST), at as u64, &[byte ^ (1 << bit)]);
            assert_found(&disk, &format!("byte {at}, bit {bit}"));
        }
    }
}

#[test]
fn a_file_of_another_length_is_unknown() {
    // FAILURES 31: a file of enormous length is not read either.
    let whole = disk();
    let len = whole.read(Path::new(FIRST)).unwrap().len() as u64;
    for other in (0..len).chain([len + 1, len + 4096, (64 << 20) + 1, 1 << 63]) {
        let mut disk = whole.clone();
        disk.damage_len(Path::new(FIRST), other);
        assert_found(&disk, &format!("{other} bytes"));
    }
}

#[test]
fn a_claim_under_another_name_is_unknown() {
    let mut disk = disk();
    let bytes = disk.read(Path::new(SECOND)).unwrap();
    disk.damage_len(Path::new(FIRST), bytes.len() as u64);
    disk.damage(Path::new(FIRST), 0, &bytes);
    assert_found(&disk, "swapped");
}

#[test]
fn a_file_that_vanishes_is_missing() {
    let fs = SimFs::on(disk());
    let store = Store::open(Arc::new(fs.clone()), Path::new("/d"), LOG, Lsn::new(30)).unwrap();
    pitr_vfs::FileSystem::remove_file(&fs, Path::new(FIRST)).unwrap();
    let coverage = store.coverage(range(10, 30)).unwrap();
    assert!(matches!(coverage.damaged(), [Error::Gone { .. }]));
    assert_eq!(coverage.missing(), [range(10, 20)]);

    let mut lost = disk();
    lost.lose(Path::new(FIRST));
    let coverage = open(&lost).unwrap().coverage(range(10, 30)).unwrap();
    assert_eq!(coverage.missing(), [range(10, 20)]);
}

#[test]
fn a_damaged_claim_is_replaced() {
    for at in [30, 70] {
        let mut disk = disk();
        disk.damage(Path::new(FIRST), at, &[0xee]);
        let mut store = open(&disk).unwrap();
        store.put(&first()).unwrap();
        assert_eq!(store.coverage(range(10, 20)).unwrap().into_set(), first().set);
    }
}

#[test]
fn unclaimed_parts_are_reported() {
    let store = open(&disk()).unwrap();
    let missing = |of: LsnRange| store.coverage(of).unwrap().missing().to_vec();
    assert_eq!(missing(range(0, 40)), [range(0, 10), range(30, 40)]);
    assert_eq!(missing(range(12, 28)), []);
    assert_eq!(missing(range(5, 5)), []);
    assert_eq!(missing(range(40, 50)), [range(40, 50)]);
    let mut coverage = store.coverage(range(0, 40)).unwrap();
    coverage.add(&changes(range(0, 12), &[Write::Image(FileId::FIRST, 9, 1)]));
    assert_eq!(coverage.missing(), [range(30, 40)]);
    coverage.add(&changes(range(25, 99), &[]));
    let set = coverage.into_set();
    assert!(set.blocks(FileId::FIRST, crate::help::size_of(FileId::FIRST), 16 * 20).eq([3, 4, 9]));
}

#[test]
fn removed_claims_become_unknown() {
    let fs = SimFs::on(disk());
    let mut store = Store::open(Arc::new(fs.clone()), Path::new("/d"), LOG, Lsn::new(30)).unwrap();
    store.remove_below(Lsn::new(29)).unwrap();
    assert!(store.claims().eq([range(20, 30)]));
    assert_eq!(store.coverage(range(10, 30)).unwrap().missing(), [range(10, 20)]);
    assert!(fs.durable_disk().names().eq([Path::new(SECOND)]));
}

#[test]
fn a_folder_of_another_log_is_refused() {
    // FAILURES 13, 41: positions of another log or timeline have another meaning.
    let fs = || Arc::new(SimFs::on(disk()));
    let open = |log, durable| Store::open(fs(), Path::new("/d"), log, Lsn::new(durable));
    let other = LogIdentity { timeline: TimelineId::new(2), ..LOG };
    assert!(matches!(open(other, 30), Err(Error::Foreign { what: "timeline", .. })));
    let other = LogIdentity { log_id: [8; 16], ..LOG };
    assert!(matches!(open(other, 30), Err(Error::Foreign { what: "log identity", .. })));
    // FAILURES 42: the log lost claimed positions and will assign them to other records.
    let ahead = open(LOG, 29).unwrap_err();
    assert!(matches!(&ahead, Error::Ahead { to, .. } if to.get() == 30) && ahead.severity() == Severity::Fix);
    assert!(open(LOG, 30).is_ok());
}

#[test]
fn a_file_of_a_newer_version_is_refused() {
    // FAILURES 36
    let mut disk = disk();
    let mut bytes = disk.read(Path::new(FIRST)).unwrap();
    bytes[8] = 2;
    let crc = crc32(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    disk.damage(Path::new(FIRST), 0, &bytes);
    let refused = open(&disk).unwrap_err();
    assert!(matches!(&refused, Error::Newer { path, .. } if path == &PathBuf::from(FIRST)), "{refused}");
    assert!(refused.to_string().contains("use a newer pitr"));
}

/// CRC-32 as the format page defines it: IEEE, bit by bit.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

#[test]
fn a_folder_has_one_writer() {
    // FAILURES 21
    let fs = SimFs::new();
    let open = || Store::open(Arc::new(fs.clone()), Path::new("/d"), LOG, Lsn::ORIGIN);
    let held = open().unwrap();
    let refused = open().unwrap_err();
    assert!(matches!(refused, Error::Locked { .. }) && refused.severity() == Severity::Retry);
    drop(held);
    assert!(open().is_ok());
}
