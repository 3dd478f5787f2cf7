//! Arbitrary segment files: opened, read, appended to, and opened again.

use crate::input::Input;
use crate::log::{self, SEGMENT_BYTES, file, shown};
use crate::seal;
use pitr_format::Lsn;
use pitr_vfs::sim::{Disk, SimFs};
use pitr_wal::LogReader;
use std::sync::{Arc, OnceLock};

const SEGMENTS: u64 = 4;

/// Damages the files of a log, inserts valid checksums, and opens the log. Opening may fail. If it
/// succeeds, the commits in the log must stay the same when more are written.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let how = input.u8();
    let mut disk = base().clone();
    for _ in 0..24 {
        if input.is_empty() {
            break;
        }
        change(&mut disk, &mut input);
    }
    if how & 1 == 0 {
        (1..=SEGMENTS + 1).for_each(|segment| reseal(&mut disk, segment));
    }
    let archived_to = if how & 2 == 0 { Lsn::ORIGIN } else { Lsn::new(u64::from(how) << 10) };
    let until = Lsn::new(input.u64());
    let _ = shown(&mut LogReader::open(Arc::new(SimFs::on(disk.clone())), log::dir(), Lsn::ORIGIN, until));
    let Ok((fs, wal, recovered)) = log::open(disk, archived_to) else { return };
    assert!(recovered.end >= recovered.first && recovered.end >= archived_to);
    let Ok(before) = shown(&mut wal.reader(wal.first()).expect("the first position is at or before the end"))
    else {
        return;
    };
    let Ok(more) = wal.commit(log::transaction(9_999, 700)) else { return };
    drop(wal);
    let (_, wal, _) = log::open(fs.durable_disk(), more.end).expect("a log just written can be opened");
    let after = shown(&mut wal.reader(wal.first()).expect("the first position is at or before the end"))
        .expect("the same log can be read again");
    assert_eq!(after[..after.len() - 1], before, "earlier commits changed");
}

/// A log of four segments with fragmented records, a gap, and a few batches in each.
fn base() -> &'static Disk {
    static BASE: OnceLock<Disk> = OnceLock::new();
    BASE.get_or_init(|| {
        let fs = SimFs::new();
        let wal = log::create(&fs);
        for (tx, len) in [(1, 100), (2, 3_000), (3, 14_000), (4, 0)] {
            wal.commit(log::transaction(tx, len)).expect("the simulated disk works");
        }
        wal.skip().expect("the simulated disk works");
        for (tx, len) in [(5, 700), (6, 0), (7, 40)] {
            wal.commit(log::transaction(tx, len)).expect("the simulated disk works");
        }
        fs.durable_disk()
    })
}

fn change(disk: &mut Disk, input: &mut Input<'_>) {
    let how = input.u8();
    let path = file(1 + u64::from(how & 3));
    match how >> 2 {
        60 => drop(disk.damage_len(&path, u64::from(input.u16()))),
        61 => drop(disk.lose(&path)),
        62 => {
            // The bytes of one segment under the name of another.
            let other = file(1 + u64::from(input.u8() % 4));
            let bytes = disk.read(&other).unwrap_or_default();
            disk.damage(&path, 0, &bytes);
        }
        _ => log::damage(disk, &path, input),
    }
}

fn reseal(disk: &mut Disk, segment: u64) {
    let path = file(segment);
    let Some(mut bytes) = disk.read(&path).filter(|bytes| bytes.len() <= SEGMENT_BYTES as usize) else {
        return;
    };
    seal::segment(&mut bytes);
    disk.damage(&path, 0, &bytes);
}
