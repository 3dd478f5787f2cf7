//! Inspecting a log without changing it.

use crate::help::{batches, env, options, start};
use crate::workload::transaction;
use pitr_format::{Lsn, SegmentNo, Timestamp};
use pitr_vfs::sim::{Disk, Op, SimClock, SimFs};
use pitr_wal::{Damage, Error, Finding, Inspection, LogBatch, Tail, Wal, Witness};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const SEGMENT_BYTES: u32 = 16 << 10;

fn dir() -> &'static Path {
    Path::new("/log")
}

fn file(segment: u64) -> PathBuf {
    dir().join(format!("{segment:016x}.seg"))
}

fn create(fs: &SimFs) -> Wal {
    let clock = Arc::new(SimClock::new(Timestamp::from_micros(1)));
    Wal::create(&env(Arc::new(fs.clone()), clock), dir(), &start(SEGMENT_BYTES), &options()).unwrap()
}

fn open(fs: &SimFs) -> Result<Wal, Error> {
    let clock = Arc::new(SimClock::new(Timestamp::from_micros(1)));
    Wal::open(&env(Arc::new(fs.clone()), clock), dir(), Lsn::ORIGIN, &options()).map(|(wal, _)| wal)
}

fn inspect(fs: &SimFs) -> Inspection {
    Inspection::new(Arc::new(fs.clone()), dir(), Lsn::ORIGIN).unwrap()
}

fn on(disk: &Disk) -> Inspection {
    inspect(&SimFs::on(disk.clone()))
}

/// A log of some segments with a gap, and its batches.
fn log() -> (SimFs, Wal, Vec<LogBatch>) {
    let fs = SimFs::new();
    let wal = create(&fs);
    (1..=40).for_each(|tx| drop(wal.commit(transaction(tx)).unwrap()));
    wal.skip().unwrap();
    (41..=83).for_each(|tx| drop(wal.commit(transaction(tx)).unwrap()));
    let all = batches(&mut wal.reader(Lsn::ORIGIN).unwrap()).unwrap();
    (fs, wal, all)
}

#[test]
fn an_open_log_is_inspected_whole_and_not_changed() {
    let (fs, wal, all) = log();
    let ops = fs.trace().ops.len();
    let inspection = inspect(&fs);
    let (contents, findings) = inspection.verify().unwrap();
    assert!(findings.is_empty() && inspection.findings().is_empty(), "{findings:?}");
    assert_eq!(contents.iter().map(|c| c.batches).sum::<u64>(), all.len() as u64);
    let frames: u64 = all.iter().map(|b| u64::from(b.header.frames)).sum();
    assert_eq!(contents.iter().map(|c| c.frames).sum::<u64>(), frames);
    assert_eq!(inspection.segments().iter().filter(|header| header.follows.gap).count(), 1);
    let Tail::Clean(end) = inspection.tail() else { panic!("{:?}", inspection.tail()) };
    let last = all.last().unwrap();
    assert_eq!((end.at, end.segment), (wal.durable(), last.segment));
    // The last batch can't state that it was synced itself.
    assert_eq!((end.stated, end.witness), (last.header.durable, Some(Witness::Batch(last.header.lsn))));
    assert!(end.stated < end.at);
    assert_eq!(end.offset, end.at.get() % u64::from(SEGMENT_BYTES));
    let newest = contents.last().unwrap();
    assert_eq!((newest.used_bytes, newest.stated), (end.offset, end.stated));
    assert_eq!(fs.trace().ops.len(), ops, "the folder was touched");
}

#[test]
fn inspection_makes_the_same_tail_decision_as_opening() {
    // FAILURES 12
    let (fs, wal, all) = log();
    drop(wal);
    let disk = fs.durable_disk();
    let [.., last_but_one, last] = &all[..] else { panic!("too few") };
    assert_eq!(last_but_one.segment, last.segment);
    let offset = |batch: &LogBatch| batch.header.lsn.get() % u64::from(SEGMENT_BYTES);
    let mut torn = disk.clone();
    torn.damage(&file(last.segment.get()), offset(last) + 70, &[0xee]);
    let inspection = on(&torn);
    let Tail::Cut { end, bytes } = inspection.tail() else { panic!("{:?}", inspection.tail()) };
    assert!(end.at == last.header.lsn && *bytes > 64);
    assert!(inspection.verify().unwrap().1.is_empty(), "a torn tail is no damage");
    let mut hole = disk.clone();
    hole.damage(&file(last.segment.get()), offset(last_but_one) + 70, &[0xee]);
    let inspection = on(&hole);
    let opened = open(&SimFs::on(hole)).unwrap_err();
    let Tail::Refused(refused) = inspection.tail() else { panic!("{:?}", inspection.tail()) };
    assert_eq!(refused.to_string(), opened.to_string());
    let (contents, findings) = inspection.verify().unwrap();
    assert!(
        matches!(findings[..], [Finding::Damaged { lsn, damage: Damage::Bytes, witness: Witness::Batch(who), .. }]
            if lsn == last_but_one.header.lsn && who == last.header.lsn),
        "{findings:?}"
    );
    assert_eq!(contents.iter().map(|c| c.batches).sum::<u64>(), all.len() as u64 - 1);
    let sound = all.iter().filter(|batch| batch.header.lsn != last_but_one.header.lsn);
    assert_eq!(
        contents.iter().map(|c| c.batch_bytes).sum::<u64>(),
        sound.map(|b| b.bytes.len() as u64).sum::<u64>()
    );
}

#[test]
fn every_damage_is_found_at_its_position() {
    // FAILURES 29
    let (fs, wal, all) = log();
    let mut disk = fs.durable_disk();
    drop(wal);
    let mut expected = Vec::new();
    for batch in all.iter().step_by(9).filter(|batch| batch.header.lsn < all.last().unwrap().header.durable) {
        let offset = batch.header.lsn.get() % u64::from(SEGMENT_BYTES);
        let flipped = batch.bytes[66] ^ 4;
        disk.damage(&file(batch.segment.get()), offset + 66, &[flipped]);
        expected.push((batch.segment, offset, batch.header.lsn));
    }
    assert!(expected.len() > 5);
    let (contents, findings) = on(&disk).verify().unwrap();
    let found: Vec<(SegmentNo, u64, Lsn)> = findings
        .iter()
        .filter_map(|finding| match finding {
            Finding::Damaged { segment, offset, lsn, .. } => Some((*segment, *offset, *lsn)),
            _ => None,
        })
        .collect();
    assert_eq!(found, expected);
    assert_eq!(contents.iter().map(|c| c.batches).sum::<u64>() as usize, all.len() - expected.len());
}

#[test]
fn a_missing_segment_and_a_damaged_header_are_reported_and_the_rest_is_read() {
    // FAILURES 11
    let (fs, wal, all) = log();
    drop(wal);
    let segments = inspect(&fs).segments().to_vec();
    let (lost, damaged) = (segments[1].segment, segments[3].segment);
    let mut disk = fs.durable_disk();
    assert!(disk.lose(&file(lost.get())) && disk.damage(&file(damaged.get()), 41, &[0xff]));
    let inspection = on(&disk);
    let told: Vec<String> = inspection.findings().iter().map(|finding| format!("{finding:?}")).collect();
    assert!(told.iter().any(|text| text.contains("FileMissing")), "{told:?}");
    let header = |finding: &Finding| matches!(finding, Finding::Segment { segment, error: Error::Header { .. } } if *segment == damaged);
    assert!(inspection.findings().iter().any(header), "{told:?}");
    assert!(matches!(inspection.tail(), Tail::Refused(_)));
    let left = all.iter().filter(|batch| batch.segment != lost && batch.segment != damaged).count();
    let (contents, _) = inspection.verify().unwrap();
    assert_eq!(contents.iter().map(|c| c.batches).sum::<u64>() as usize, left);
}

#[test]
fn a_segment_removed_or_recycled_during_inspection_is_gone_and_no_damage() {
    let (fs, wal, _) = log();
    let inspection = inspect(&fs);
    wal.remove_below(wal.durable()).unwrap();
    // The files of these segments become other segments.
    (84..=160).for_each(|tx| drop(wal.commit(transaction(tx)).unwrap()));
    let (_, findings) = inspection.verify().unwrap();
    assert!(findings.len() > 2 && findings.iter().all(|finding| !finding.is_damage()), "{findings:?}");
    assert!(
        fs.trace().ops.iter().any(
            |op| matches!(op, Op::Publish { from, .. } if from.to_string_lossy().ends_with(".seg.free"))
        )
    );
    wal.remove_below(wal.durable()).unwrap();
    let spares = inspect(&fs).leftovers().unwrap();
    assert!(
        !spares.is_empty()
            && spares.iter().all(|(path, bytes)| path.to_string_lossy().ends_with(".seg.free")
                && *bytes == u64::from(SEGMENT_BYTES))
    );
    assert!(matches!(
        Inspection::new(Arc::new(fs), Path::new("/none"), Lsn::ORIGIN),
        Err(Error::NoLog { .. })
    ));
}
