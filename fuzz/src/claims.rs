//! The tracker's claims: files that state which blocks changed in a range of the log.

use crate::input::Input;
use crate::{log, seal};
use pitr_format::{FileId, Lsn, TimelineId};
use pitr_tracker::{BlockSize, ChangeSet, Changes, LogIdentity, LsnRange, Store};
use pitr_vfs::sim::{Disk, SimFs};
use std::path::Path;
use std::sync::Arc;

const LOG: LogIdentity = LogIdentity { timeline: TimelineId::FIRST, log_id: [7; 16] };
const CLAIM: &str = "/d/000000000000000a-0000000000000014.chg";
/// Size of the header. Its last two fields are the checksum of the body and the checksum of the
/// header itself.
const HEADER_BYTES: usize = 64;

/// Damages a claim, possibly fixes its checksums, and reads the range. With wrong checksums, the
/// range must be unknown or have the original changes.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let how = input.u8();
    let set = marked(&mut input);
    let mut disk = claimed(&set);
    while !input.is_empty() {
        log::damage(&mut disk, Path::new(CLAIM), &mut input);
    }
    let sealed = how & 1 == 0;
    if sealed {
        reseal(&mut disk);
    }
    let Ok(store) = Store::open(Arc::new(SimFs::on(disk)), Path::new("/d"), LOG, Lsn::new(30)) else {
        return;
    };
    let coverage = store.coverage(range()).expect("the simulated disk works");
    let known = coverage.missing().is_empty();
    let found = coverage.into_set();
    assert!(known || found.is_whole(), "unknown counts as changed");
    if !sealed && known {
        // The range may report more blocks than were marked, never fewer.
        assert!(found.is_superset(&set), "undetected damage");
    }
}

fn range() -> LsnRange {
    LsnRange::new(Lsn::new(10), Lsn::new(20)).expect("ascending")
}

fn marked(input: &mut Input<'_>) -> ChangeSet {
    let mut set = ChangeSet::new();
    for _ in 0..input.u8() % 16 {
        let file = FileId::new(u32::from(input.u8() % 3));
        let size = BlockSize::new(4096).expect("a valid block size");
        match input.u8() % 8 {
            0 => set.set_length(file, u64::from(input.u16()) << 8),
            _ => set.mark(file, size, u64::from(input.u16())),
        }
    }
    set
}

fn claimed(set: &ChangeSet) -> Disk {
    let fs = SimFs::new();
    let mut store = Store::open(Arc::new(fs.clone()), Path::new("/d"), LOG, Lsn::new(30))
        .expect("the simulated disk works");
    store.put(&Changes { range: range(), set: set.clone() }).expect("the simulated disk works");
    fs.durable_disk()
}

fn reseal(disk: &mut Disk) {
    let path = Path::new(CLAIM);
    let Some(mut bytes) = disk.read(path).filter(|bytes| bytes.len() >= HEADER_BYTES) else { return };
    let body = crc32fast::hash(&bytes[HEADER_BYTES..]);
    seal::put(&mut bytes, HEADER_BYTES - 8, body);
    let header = crc32fast::hash(&bytes[..HEADER_BYTES - 4]);
    seal::put(&mut bytes, HEADER_BYTES - 4, header);
    disk.damage(path, 0, &bytes);
}
