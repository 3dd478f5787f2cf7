//! A valid log whose files are damaged afterwards (laws 1 and 2).

use crate::input::Input;
use crate::log::{self, SEGMENT_BYTES, Shown, file, shown};
use pitr_format::Lsn;
use pitr_vfs::sim::{Disk, SimFs};
use pitr_wal::{LogBatch, Wal};

/// Writes a log, damages it, and opens it. Opening must fail, or the log must contain a prefix of
/// the written transactions. That prefix includes everything below any durable point that is still
/// stated somewhere.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let fs = SimFs::new();
    let wal = log::create(&fs);
    let how = input.u8();
    let written = write(&wal, &mut input, usize::from(how >> 3));
    let mut reader = wal.reader(Lsn::ORIGIN).expect("the origin is at or before the end");
    let batches: Vec<LogBatch> =
        std::iter::from_fn(|| reader.next_batch().expect("nothing is damaged yet")).collect();
    let durable = wal.durable();
    drop((wal, reader));
    let mut disk = fs.durable_disk();
    let newest = batches.last().map_or(1, |batch| batch.segment.get());
    for _ in 0..1 + how % 4 {
        let which = input.u8();
        let segment = if which < 200 { newest } else { 1 + u64::from(which) % newest };
        log::damage(&mut disk, &file(segment), &mut input);
    }
    let archived_to = if how & 4 == 0 { Lsn::ORIGIN } else { durable };
    let stated = archived_to.max(still_stated(&disk, &batches));
    let Ok((fs, wal, recovered)) = log::open(disk, archived_to) else { return };
    let Ok(before) = shown(&mut wal.reader(wal.first()).expect("the first position is at or before the end"))
    else {
        return;
    };
    assert!(
        before.len() <= written.len() && before == written[..before.len()],
        "not a prefix of the written transactions"
    );
    assert!(recovered.end >= archived_to);
    if let Some(lost) = written.get(before.len()) {
        assert!(lost.end > stated, "silently lost: {lost:?}, durable to {stated}");
    }
    let tx = 1_000;
    let end = wal.commit(log::transaction(tx, 50)).expect("the simulated disk works").end;
    drop(wal);
    let (_, wal, _) = log::open(fs.durable_disk(), end).expect("a log just written can be opened");
    let after = shown(&mut wal.reader(wal.first()).expect("the first position is at or before the end"))
        .expect("the same log can be read again");
    assert_eq!(after, [before, vec![Shown { tx, end }]].concat(), "earlier commits changed");
}

/// Runs actions that the input selects. Returns the transactions, all durable.
fn write(wal: &Wal, input: &mut Input<'_>, acts: usize) -> Vec<Shown> {
    let mut written = Vec::new();
    for tx in 1..=acts as u64 {
        let how = input.u8();
        let len = usize::from(input.u8()) * [1, 3, 40, 120][usize::from(how & 3)];
        let appended = match how >> 2 {
            0..8 => wal.append(log::transaction(tx, len)),
            8 => {
                wal.skip().expect("the simulated disk works");
                continue;
            }
            _ => wal.commit(log::transaction(tx, len)),
        };
        written.push(Shown { tx, end: appended.expect("the simulated disk works").end });
    }
    wal.sync().expect("the simulated disk works");
    written
}

/// The highest durable point that is stated in an undamaged batch.
fn still_stated(disk: &Disk, batches: &[LogBatch]) -> Lsn {
    let whole = |batch: &&LogBatch| {
        let bytes = disk.read(&file(batch.segment.get())).unwrap_or_default();
        let at = (batch.header.lsn.get() % u64::from(SEGMENT_BYTES)) as usize;
        bytes.get(at..at + batch.bytes.len()) == Some(&batch.bytes[..])
    };
    batches.iter().filter(whole).map(|batch| batch.header.durable).max().unwrap_or(Lsn::ORIGIN)
}
