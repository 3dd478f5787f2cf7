//! A second reader, written in another language from the format page alone, lists the same records.

use crate::help::{P, env, options, start};
use pitr_format::record::{GapReason, Record};
use pitr_format::{FileId, Lsn, PartitionId, Timestamp, TxId};
use pitr_vfs::{Env, OsFs, SystemClock};
use pitr_wal::{BatchBuilder, Error, LogReader, Records, Wal};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

const SEGMENT_BYTES: u32 = 16 << 10;

fn open(dir: &Path) -> (Wal, pitr_wal::Recovered) {
    Wal::open(&Env::system(), dir, Lsn::ORIGIN, &options()).unwrap()
}

/// A record of each kind, in partitions of their own, then a commit.
fn every_kind(tx: u64, len: usize) -> BatchBuilder {
    let bytes = vec![tx as u8; len];
    let time = Timestamp::from_micros(tx as i64);
    let mut batch = BatchBuilder::new();
    let records = [
        Record::Image { file: FileId::new(3), block: tx, data: &bytes[..len.clamp(1, 4096)] },
        Record::SetLength { file: FileId::new(3), len: tx },
        Record::Data(&bytes),
        Record::Abort { first_lsn: Lsn::new(tx) },
        Record::Watermark(time),
        Record::ClockStep { from: time, to: Timestamp::MIN },
        Record::Gap { reason: GapReason::StateLost, since: time, until: time },
        Record::Note(b"a note"),
        Record::Data(b""),
    ];
    for (nth, record) in records.iter().enumerate() {
        batch.push(PartitionId::new(nth as u32), TxId::new(tx), record).unwrap();
    }
    batch.push_commit(P, TxId::new(tx), None, None, b"with a note").unwrap();
    batch
}

/// A log with everything that the page describes: records of all kinds, fragments across batches
/// and segments, a gap, recycled files, and a torn tail that was cut.
fn write(dir: &Path) -> Lsn {
    let clock = Arc::new(SystemClock::new());
    let wal = Wal::create(&env(Arc::new(OsFs), clock), dir, &start(SEGMENT_BYTES), &options()).unwrap();
    (1..=12).for_each(|tx| drop(wal.commit(every_kind(tx, 3_000 * tx as usize)).unwrap()));
    wal.remove_below(wal.durable()).unwrap();
    wal.checkpoint(wal.durable(), &[9; 40_000]).unwrap();
    (13..=18).for_each(|tx| drop(wal.commit(every_kind(tx, 40)).unwrap()));
    wal.skip().unwrap();
    wal.commit(every_kind(19, 60_000)).unwrap();
    // A record across segments loses its end, as in a power loss before the write.
    let begin = wal.durable();
    wal.commit(every_kind(20, 50_000)).unwrap();
    let end = wal.durable();
    drop(wal);
    let size = u64::from(SEGMENT_BYTES);
    let name = |segment: u64| dir.join(format!("{segment:016x}.seg"));
    assert!(end.get() / size > begin.get() / size + 1);
    (begin.get() / size + 2..=end.get() / size)
        .for_each(|segment| std::fs::remove_file(name(segment)).unwrap());
    let torn = std::fs::OpenOptions::new().write(true).open(name(begin.get() / size + 1)).unwrap();
    torn.write_all_at(b"torn", 9_000).unwrap();
    let (wal, recovered) = open(dir);
    assert!(recovered.end.get() / size > begin.get() / size + 1, "the torn segment was not ended");
    (21..=25).for_each(|tx| drop(wal.commit(every_kind(tx, 700)).unwrap()));
    wal.durable()
}

/// The expected listing, in the format of the second reader.
fn ours(dir: &Path, until: Lsn) -> Vec<String> {
    let (wal, _) = open(dir);
    let first = wal.first();
    drop(wal);
    let mut reader = LogReader::open(Arc::new(OsFs), dir, first, until);
    let (mut records, mut lines) = (Records::from_anywhere(), Vec::new());
    while let Some(batch) = reader.next_batch().unwrap() {
        records
            .feed::<Error>(&batch, |r| {
                let (partition, tx, len) = (r.partition.get(), r.tx.get(), r.payload.len());
                let crc = crc32fast::hash(r.payload);
                lines.push(format!("{} {} {} {partition} {tx} {len} {crc}", r.lsn, r.end, r.kind));
                Ok(())
            })
            .unwrap();
    }
    lines
}

#[test]
fn a_second_reader_lists_the_same_records() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    let until = write(&dir);
    let ours = ours(&dir, until);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/second_reader.py");
    let output = Command::new("python3").arg(script).arg(&dir).output();
    let output =
        output.expect("this test needs python3: install it, the format's page is not proven without it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let theirs: Vec<&str> = text.lines().collect();
    assert_eq!(theirs, ours);
    assert!(ours.len() > 60, "{}", ours.len());
    for kind in 1..=10 {
        assert!(
            ours.iter().any(|line| line.split(' ').nth(2) == Some(&kind.to_string())),
            "no record of kind {kind}"
        );
    }
}
