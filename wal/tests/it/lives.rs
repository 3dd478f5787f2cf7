//! Segments with several incarnations: cuts, and times across a reopen.

use crate::help::{P, batches, env, folded, options, records, scanned, start, transaction};
use pitr_format::log::{BATCH_HEADER_BYTES, BatchHeader, Frame, Part, RECORD_HEADER_BYTES, Seed};
use pitr_format::record::{Record, RecordKind};
use pitr_format::{Incarnation, Lsn, SegmentNo, TimelineId, Timestamp, TxId};
use pitr_vfs::FileSystem;
use pitr_vfs::sim::{Disk, Mode, SimClock, SimFs, Survivors};
use pitr_wal::{BatchBuilder, Cut, Damage, Error, LogBatch, LogReader, Recovered, Start, Wal};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const LARGE: u32 = 16 << 20;

fn dir() -> &'static Path {
    Path::new("/log")
}

fn file(segment: u64) -> PathBuf {
    dir().join(format!("{segment:016x}.seg"))
}

fn clock() -> Arc<SimClock> {
    Arc::new(SimClock::new(Timestamp::from_micros(1)))
}

fn create(fs: &SimFs, segment_bytes: u32) -> Wal {
    Wal::create(&env(Arc::new(fs.clone()), clock()), dir(), &start(segment_bytes), &options()).unwrap()
}

/// A log of one batch with one commit.
struct OneCommit {
    fs: SimFs,
    wal: Wal,
    /// Position of the batch.
    last: Lsn,
    /// End of the log.
    end: Lsn,
}

impl OneCommit {
    fn new() -> Self {
        let fs = SimFs::new();
        let wal = create(&fs, 16 << 10);
        wal.commit(transaction(1, &[b"A"])).unwrap();
        let last = batches(&mut wal.reader(Lsn::ORIGIN).unwrap()).unwrap()[0].header.lsn;
        OneCommit { end: wal.end(), fs, wal, last }
    }
}

fn open(fs: &SimFs) -> (Wal, Recovered) {
    Wal::open(&env(Arc::new(fs.clone()), clock()), dir(), Lsn::ORIGIN, &options()).unwrap()
}

fn committed(wal: &Wal) -> Vec<u64> {
    let all = records(&mut wal.reader(wal.first()).unwrap()).unwrap();
    let scan = wal.scan(wal.first(), wal.durable()).unwrap();
    assert!(all == scanned(&scan).unwrap() && all == folded(&scan).unwrap(), "a scan is not as a reader");
    all.iter().filter(|r| r.kind == RecordKind::Commit as u8).map(|r| r.tx.get()).collect()
}

/// Zeros out a batch: its write is lost while a later one survives.
fn lose(disk: &mut Disk, batch: &LogBatch, segment_bytes: u32) {
    let offset = batch.header.lsn.get() % u64::from(segment_bytes);
    assert!(disk.damage(&file(batch.segment.get()), offset, &vec![0; batch.bytes.len()]));
}

#[test]
fn a_batch_from_behind_a_cut_that_fits_behind_new_ones_stays_dead() {
    // FAILURES 41: two crashes in a row. One round writes the batches B (full, 1 MiB) and C; B is
    // lost, C survives.
    let fs = SimFs::new();
    let wal = create(&fs, LARGE);
    wal.commit(transaction(1, &[b"A"])).unwrap();
    let size = (1 << 20) - RECORD_HEADER_BYTES;
    wal.append(transaction(2, &[&vec![2; size]])).unwrap();
    wal.commit(transaction(3, &[b"C"])).unwrap();
    let all = batches(&mut wal.reader(Lsn::ORIGIN).unwrap()).unwrap();
    let [_, b, c] = &all[..] else { panic!("{} batches", all.len()) };
    assert_eq!((b.header.body_len, c.header.prev), (1 << 20, b.header.lsn));
    assert!(c.header.durable <= b.header.lsn, "C does not vouch for B");
    let mut disk = fs.durable_disk();
    lose(&mut disk, b, LARGE);
    drop(wal);

    let fs = SimFs::on(disk);
    let (wal, recovered) = open(&fs);
    assert!(matches!(recovered.cut, Some(Cut { at, bytes }) if at == b.header.lsn && bytes > 1 << 20));
    // The log continues with a batch of exactly the size of B.
    let mut filler = BatchBuilder::new();
    filler.push(P, TxId::new(4), &Record::Data(&vec![4; size])).unwrap();
    let filled = wal.commit(filler).unwrap();
    assert_eq!(filled.end.since(filled.first), 1 << 20);
    drop(wal);
    let (wal, recovered) = open(&SimFs::on(fs.durable_disk()));
    assert_eq!(recovered.cut, None);
    assert_eq!(committed(&wal), [1]);
    let lives: Vec<u32> =
        batches(&mut wal.reader(Lsn::ORIGIN).unwrap()).unwrap().iter().map(|b| b.incarnation.get()).collect();
    assert_eq!(lives, [1, 2]);
}

#[test]
fn a_cut_is_stated_by_the_next_segment_and_survives_any_crash() {
    let fs = SimFs::new();
    let wal = create(&fs, LARGE);
    wal.commit(transaction(1, &[b"A"])).unwrap();
    wal.append(transaction(2, &[&vec![2; 1 << 20]])).unwrap();
    wal.commit(transaction(3, &[b"C"])).unwrap();
    let all = batches(&mut wal.reader(Lsn::ORIGIN).unwrap()).unwrap();
    let mut disk = fs.durable_disk();
    lose(&mut disk, &all[1], LARGE);
    let fs = SimFs::on(disk);
    let (wal, recovered) = open(&fs);
    wal.commit(transaction(4, &[b"D"])).unwrap();
    let next = batches(&mut wal.reader(Lsn::ORIGIN).unwrap()).unwrap()[1].clone();
    let follows = next.follows.unwrap();
    assert_eq!((Some(follows.end), follows.gap), (recovered.cut.map(|cut| cut.at), false));
    assert_eq!(follows.segment, Some((SegmentNo::new(1), Incarnation::FIRST)));
    assert_eq!(wal.reader(follows.end).unwrap().next_batch().unwrap().unwrap().header.lsn, next.header.lsn);
    // Power loss while the cut is made (FAILURES 26): afterwards the cut is made again, or is
    // complete.
    let trace = fs.trace();
    let mut survivors = Survivors::new(&trace);
    while survivors.advance().is_some() {
        for mode in Mode::ALL {
            let fs = SimFs::on(survivors.disk(mode, survivors.cut() as u64));
            let (wal, recovered) = open(&fs);
            assert!(matches!(&committed(&wal)[..], [1] | [1, 4]));
            assert!(fs.list(dir()).unwrap().len() == 2 && recovered.end >= Lsn::new((2 << 24) + 4096));
        }
    }
}

/// A batch with one commit record of transaction 99, as an earlier incarnation of the segment might
/// have left it.
fn old_batch(lsn: Lsn, prev: Lsn, durable: Lsn, seed: Seed) -> Vec<u8> {
    let payload = [0; 24];
    let frame = Frame {
        lsn,
        kind: RecordKind::Commit as u8,
        part: Part::Full,
        partition: P,
        tx: TxId::new(99),
        total_len: payload.len() as u32,
        bytes: &payload,
    };
    let mut body = Vec::new();
    frame.encode(&mut body);
    let header = BatchHeader {
        lsn,
        prev,
        durable,
        time: Timestamp::from_micros(1),
        body_len: body.len() as u32,
        frames: 1,
        body_crc: seed.crc(&body),
    };
    let mut bytes = header.encode(seed).to_vec();
    bytes.extend(body);
    assert_eq!(bytes.len(), BATCH_HEADER_BYTES + RECORD_HEADER_BYTES + payload.len());
    bytes
}

#[test]
fn valid_batches_of_an_earlier_life_are_neither_records_nor_witnesses() {
    // FAILURES 12: a segment full of old valid batches.
    let OneCommit { fs, wal: _wal, last, end } = OneCommit::new();
    let disk = fs.durable_disk();
    let offset = end.get() % (16 << 10);
    let seed = |incarnation| Seed::new(TimelineId::FIRST, SegmentNo::FIRST, Incarnation::new(incarnation));
    for (incarnation, alive) in [(1, true), (2, false)] {
        let mut with_old = disk.clone();
        let mut prev = last;
        for nth in 0..20 {
            let at = Lsn::new(end.get() + nth * 112);
            let bytes = old_batch(at, prev, at, seed(incarnation));
            with_old.damage(&file(1), offset + nth * 112, &bytes);
            prev = at;
        }
        let (wal, recovered) = open(&SimFs::on(with_old));
        // With the right seed the planted batches are the log: this proves that the test plants
        // valid batches.
        assert_eq!(recovered.cut.is_none(), alive);
        assert_eq!(committed(&wal).len(), if alive { 21 } else { 1 });
    }
}

#[test]
fn a_batch_that_names_another_position_or_predecessor_is_damage() {
    let OneCommit { fs, wal: _wal, last, end } = OneCommit::new();
    let seed = Seed::new(TimelineId::FIRST, SegmentNo::FIRST, Incarnation::FIRST);
    for (lsn, prev) in [(end, end), (end, Lsn::ORIGIN), (last, last), (Lsn::new(end.get() + 8), last)] {
        let mut disk = fs.durable_disk();
        disk.damage(&file(1), end.get() % (16 << 10), &old_batch(lsn, prev, end, seed));
        let hole = Wal::open(
            &env(Arc::new(SimFs::on(disk.clone())), clock()),
            dir(),
            Lsn::new(end.get() + 1),
            &options(),
        );
        let found = hole.map(drop).unwrap_err();
        assert!(matches!(found, Error::Hole { lsn, damage: Damage::Misplaced, .. } if lsn == end), "{found}");
        let (wal, recovered) = open(&SimFs::on(disk));
        assert_eq!((recovered.cut.map(|cut| cut.at), committed(&wal)), (Some(end), vec![1]));
    }
}

#[test]
fn a_batch_that_counts_too_few_frames_is_refused_and_opening_ends() {
    // FAILURES 31
    let OneCommit { fs, wal: _wal, last, end } = OneCommit::new();
    let seed = Seed::new(TimelineId::FIRST, SegmentNo::FIRST, Incarnation::FIRST);
    let mut bytes = old_batch(end, last, end, seed);
    let mut header = BatchHeader::decode(&bytes, seed).unwrap();
    header.frames = 0;
    bytes[..BATCH_HEADER_BYTES].copy_from_slice(&header.encode(seed));
    let mut disk = fs.durable_disk();
    disk.damage(&file(1), end.get() % (16 << 10), &bytes);
    let opened =
        Wal::open(&env(Arc::new(SimFs::on(disk)), clock()), dir(), Lsn::ORIGIN, &options()).map(drop);
    assert!(matches!(opened, Err(Error::Frames { lsn, .. }) if lsn == end), "{opened:?}");
}

#[test]
fn bytes_that_look_like_a_batch_of_another_position_are_no_witness() {
    // A payload may contain bytes of a log: a witness must be at the position that it states.
    let OneCommit { fs, wal: _wal, end, .. } = OneCommit::new();
    let plus = |bytes| Lsn::new(end.get() + bytes);
    let seed = Seed::new(TimelineId::FIRST, SegmentNo::FIRST, Incarnation::FIRST);
    for (place, hole) in [(200, true), (208, false)] {
        let mut disk = fs.durable_disk();
        let bytes = old_batch(plus(200), end, plus(100), seed);
        disk.damage(&file(1), plus(place).get() % (16 << 10), &bytes);
        let opened = Wal::open(&env(Arc::new(SimFs::on(disk)), clock()), dir(), Lsn::ORIGIN, &options());
        assert_eq!(matches!(opened, Err(Error::Hole { .. })), hole);
        assert_eq!(opened.is_ok(), !hole);
    }
}

#[test]
fn a_record_whose_rest_was_lost_is_discarded_at_the_next_incarnation() {
    // The tail looks clean: after the first batch of the record there are only zeros.
    for (segment_bytes, lost) in [(LARGE, 1), (16 << 10, 1), (16 << 10, 4)] {
        let fs = SimFs::new();
        let wal = create(&fs, segment_bytes);
        wal.commit(transaction(1, &[b"A"])).unwrap();
        wal.commit(transaction(2, &[&vec![2; 3 * segment_bytes.min(1 << 20) as usize]])).unwrap();
        let trace = fs.trace();
        let all = batches(&mut wal.reader(Lsn::ORIGIN).unwrap()).unwrap();
        drop(wal);
        // Power is lost after `lost` batches of the record are written.
        let writes = trace.ops.iter().enumerate().filter(
            |(_, op)| matches!(op, pitr_vfs::sim::Op::Write { bytes, .. } if bytes.starts_with(b"PBAT")),
        );
        let cut = writes.map(|(place, _)| place + 1).nth(lost).unwrap();
        let fs = SimFs::on(Survivors::at(&trace, cut).disk(Mode::Prefix, 0));
        let (wal, recovered) = open(&fs);
        assert_eq!(recovered.cut, Some(Cut { at: all[lost].end(), bytes: 0 }));
        wal.commit(transaction(3, &[b"B"])).unwrap();
        assert_eq!(committed(&wal), [1, 3]);
        // Without the change of incarnation the same frames are an error.
        let mut assembly = pitr_wal::Records::new();
        let result =
            all[..=lost].iter().chain([&all[0]]).try_for_each(|b| assembly.feed::<Error>(b, |_| Ok(())));
        assert!(matches!(result, Err(Error::Frames { .. })));
    }
}

#[test]
fn a_crash_right_after_a_new_segment_within_a_record_cuts_it_too() {
    let fs = SimFs::new();
    let wal = create(&fs, 16 << 10);
    wal.commit(transaction(2, &[&[2; 40_000]])).unwrap();
    let trace = fs.trace();
    drop(wal);
    let mut survivors = Survivors::new(&trace);
    let (mut cuts, mut whole) = (0, 0);
    while survivors.advance().is_some() {
        let fs = SimFs::on(survivors.disk(Mode::Synced, 0));
        let Ok((wal, recovered)) = Wal::open(&env(Arc::new(fs), clock()), dir(), Lsn::ORIGIN, &options())
        else {
            continue;
        };
        wal.commit(transaction(3, &[b"B"])).unwrap();
        let found = committed(&wal);
        cuts += usize::from(recovered.cut.is_some());
        whole += usize::from(found == [2, 3]);
        assert!(found == [3] || found == [2, 3]);
    }
    assert!(cuts > 5 && whole > 0, "{cuts} {whole}");
}

#[test]
fn commit_times_never_decrease_though_the_clock_does() {
    // FAILURES 15
    let (fs, clock) = (SimFs::new(), Arc::new(SimClock::new(Timestamp::from_micros(1_000))));
    let at = |micros| clock.set(Timestamp::from_micros(micros));
    let commit = |wal: &Wal, tx| wal.commit(transaction(tx, &[])).unwrap().commits[0].time.micros();
    let wal =
        Wal::create(&env(Arc::new(fs.clone()), Arc::clone(&clock) as _), dir(), &start(16 << 10), &options())
            .unwrap();
    assert_eq!(commit(&wal, 1), 1_000);
    at(500);
    assert_eq!(commit(&wal, 2), 1_000);
    let mut watermark = BatchBuilder::new();
    watermark.push(P, TxId::NONE, &Record::Watermark(Timestamp::from_micros(2_000))).unwrap();
    wal.commit(watermark).unwrap();
    assert_eq!((wal.last_time().micros(), commit(&wal, 3)), (2_000, 2_000));
    drop(wal);
    let reopen = || {
        Wal::open(&env(Arc::new(fs.clone()), Arc::clone(&clock) as _), dir(), Lsn::ORIGIN, &options())
            .unwrap()
    };
    for tx in 4..6 {
        let (wal, recovered) = reopen();
        assert_eq!((recovered.time.micros(), commit(&wal, tx)), (2_000, 2_000));
        wal.skip().unwrap(); // the newest segment has no batch: its header states the time
    }
    let (wal, recovered) = reopen();
    assert_eq!(recovered.time.micros(), 2_000);
    let mut batch = BatchBuilder::new();
    batch.push_commit(P, TxId::new(7), Some(Timestamp::MAX), Some(Lsn::new(77)), b"note").unwrap();
    let stamped = wal.commit(batch).unwrap();
    let mut reader = wal.reader(stamped.first).unwrap();
    let read = reader.next_batch().unwrap().unwrap();
    let frame = read.frames().unwrap().next().unwrap().unwrap();
    let Record::Commit(commit) = Record::decode(frame.kind, frame.bytes).unwrap() else { panic!() };
    assert_eq!(
        (commit.earliest, commit.time, commit.first_lsn),
        (commit.time, stamped.commits[0].time, Lsn::new(77))
    );
}

#[test]
fn positions_past_4_gib_and_at_the_end_of_their_range() {
    // FAILURES 17
    for follows in [Lsn::new(5 << 30), Lsn::new(u64::MAX - (200 << 10)), Lsn::new(u64::MAX)] {
        let fs = SimFs::new();
        let start = Start { follows, ..start(16 << 10) };
        let made = Wal::create(&env(Arc::new(fs.clone()), clock()), dir(), &start, &options());
        let wal = match made {
            Err(Error::Exhausted { .. }) if follows == Lsn::new(u64::MAX) => continue,
            made => made.unwrap(),
        };
        let mut last = 0;
        for tx in 1..=40 {
            match wal.commit(transaction(tx, &[&[1; 3_000]])) {
                Ok(_) => last = tx,
                Err(Error::Exhausted { end, .. }) => assert!(end == wal.end() && follows > Lsn::new(5 << 30)),
                Err(other) => panic!("{other}"),
            }
        }
        assert!(last >= 10 && (last == 40) == (follows == Lsn::new(5 << 30)), "{last}");
        if last < 40 {
            assert!((0..20).any(|_| matches!(wal.skip(), Err(Error::Exhausted { .. }))));
        }
        let expected: Vec<u64> = (1..=last).collect();
        assert_eq!(committed(&wal), expected);
        drop(wal);
        assert_eq!(committed(&open(&fs).0), expected);
    }
}

#[test]
fn a_reader_on_a_folder_stops_at_its_limit() {
    // FAILURES 42
    let fs = SimFs::new();
    let wal = create(&fs, 16 << 10);
    for tx in 1..=20 {
        wal.commit(transaction(tx, &[&[1; 1_500]])).unwrap();
    }
    let all = batches(&mut wal.reader(Lsn::ORIGIN).unwrap()).unwrap();
    let read = |from, until| batches(&mut LogReader::open(Arc::new(fs.clone()), dir(), from, until)).unwrap();
    for (nth, batch) in all.iter().enumerate() {
        let upto = |until| read(Lsn::ORIGIN, until).last().map(|b| b.header.lsn);
        assert_eq!(upto(batch.end()), Some(batch.header.lsn));
        let before = nth.checked_sub(1).map(|nth| all[nth].header.lsn);
        for within in [1, 63, 64, 65, 1_000].into_iter().filter(|within| *within < batch.bytes.len() as u64) {
            assert_eq!(
                upto(Lsn::new(batch.header.lsn.get() + within)),
                before,
                "batch {nth}, {within} bytes of it"
            );
        }
        // A reader that starts within a batch returns the whole batch. A reader that starts at its
        // end returns the next one.
        for within in [0, 1, 100] {
            let from = Lsn::new(batch.header.lsn.get() + within);
            assert_eq!(read(from, wal.durable())[0].header.lsn, batch.header.lsn, "from {from}");
        }
        let next = read(batch.end(), wal.durable()).first().map(|b| b.header.lsn);
        assert_eq!(next, all.get(nth + 1).map(|b| b.header.lsn));
    }
    let past = LogReader::open(Arc::new(fs.clone()), dir(), Lsn::ORIGIN, Lsn::new(wal.durable().get() + 8))
        .next_batch()
        .map(drop);
    past.unwrap();
    let until = Lsn::new(wal.durable().get() + 800);
    let hole = batches(&mut LogReader::open(Arc::new(fs), dir(), Lsn::ORIGIN, until));
    assert!(matches!(hole, Err(Error::Hole { lsn, .. }) if lsn == wal.durable()));
}
