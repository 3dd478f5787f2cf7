//! A log that was written well, and whose files were changed afterwards (laws 1 and 2).

use crate::input::Input;
use crate::log::{self, SEGMENT_BYTES, Shown, file, shown};
use pitr_format::Lsn;
use pitr_vfs::sim::{Disk, SimFs};
use pitr_wal::{LogBatch, Wal};

/// Writes a log, damages it, opens it. It is refused, or shows a beginning of what was written, with everything
/// below any durable point that is still stated somewhere.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let fs = SimFs::new();
    let wal = log::create(&fs);
    let how = input.u8();
    let written = write(&wal, &mut input, usize::from(how >> 3));
    let mut reader = wal.reader(Lsn::ORIGIN).expect("the origin is not behind the end");
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
    let Ok(before) = shown(&mut wal.reader(wal.first()).expect("its begin is not behind its end")) else {
        return;
    };
    assert!(
        before.len() <= written.len() && before == written[..before.len()],
        "not a beginning of what was written"
    );
    assert!(recovered.end >= archived_to);
    if let Some(lost) = written.get(before.len()) {
        assert!(lost.end > stated, "lost without a word: {lost:?}, durable to {stated}");
    }
    let tx = 1_000;
    let end = wal.commit(log::transaction(tx, 50)).expect("the disk is well").end;
    drop(wal);
    let (_, wal, _) = log::open(fs.durable_disk(), end).expect("what was just written can be opened");
    let after =
        shown(&mut wal.reader(wal.first()).expect("as before")).expect("what was just read can be read");
    assert_eq!(after, [before, vec![Shown { tx, end }]].concat(), "what was shown is not what is shown");
}

/// Some acts, as the input says. Returns the transactions, all durable.
fn write(wal: &Wal, input: &mut Input<'_>, acts: usize) -> Vec<Shown> {
    let mut written = Vec::new();
    for tx in 1..=acts as u64 {
        let how = input.u8();
        let len = usize::from(input.u8()) * [1, 3, 40, 120][usize::from(how & 3)];
        let appended = match how >> 2 {
            0..8 => wal.append(log::transaction(tx, len)),
            8 => {
                wal.skip().expect("the disk is well");
                continue;
            }
            _ => wal.commit(log::transaction(tx, len)),
        };
        written.push(Shown { tx, end: appended.expect("the disk is well").end });
    }
    wal.sync().expect("the disk is well");
    written
}

/// The highest durable point that stands in a batch which nobody changed, or in the header of a segment.
fn still_stated(disk: &Disk, batches: &[LogBatch]) -> Lsn {
    let whole = |batch: &&LogBatch| {
        let bytes = disk.read(&file(batch.segment.get())).unwrap_or_default();
        let at = (batch.header.lsn.get() % u64::from(SEGMENT_BYTES)) as usize;
        bytes.get(at..at + batch.bytes.len()) == Some(&batch.bytes[..])
    };
    batches.iter().filter(whole).map(|batch| batch.header.durable).max().unwrap_or(Lsn::ORIGIN)
}
