//! Checkpoints: durable, found again, and never without their log.

use crate::help::{P, env, options, start, transaction};
use pitr_format::record::{Checkpoint as Payload, Record, RecordKind};
use pitr_format::{DecodeError, Incarnation, Lsn, Timestamp, TxId};
use pitr_vfs::sim::{Mode, Op, SimClock, SimFs, Survivors};
use pitr_wal::{
    Analysis, BatchBuilder, Checkpoint, CheckpointInterval, Error, Event, SyncPolicy, Wal, WalOptions,
    WholeRecord,
};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const SEGMENT_BYTES: u64 = 16 << 10;

fn dir() -> &'static Path {
    Path::new("/log")
}

fn clock() -> Arc<SimClock> {
    Arc::new(SimClock::new(Timestamp::from_micros(1)))
}

fn create(fs: &SimFs, options: &WalOptions) -> Wal {
    Wal::create(&env(Arc::new(fs.clone()), clock()), dir(), &start(SEGMENT_BYTES as u32), options).unwrap()
}

fn open(fs: &SimFs, options: &WalOptions) -> Wal {
    Wal::open(&env(Arc::new(fs.clone()), clock()), dir(), Lsn::ORIGIN, options).unwrap().0
}

fn keeping(checkpoints_kept: u32) -> WalOptions {
    WalOptions { checkpoints_kept, ..options() }
}

/// Commits until this number of segments were begun in total; returns the end.
fn fill(wal: &Wal, segments: u64) -> Lsn {
    while wal.end() < Lsn::new(segments * SEGMENT_BYTES) {
        wal.commit(transaction(1, &[&[7; 1_000]])).unwrap();
    }
    wal.end()
}

/// A checkpoint of the state before it.
fn take(wal: &Wal, state: &[u8]) -> Checkpoint {
    wal.checkpoint(wal.redo_point(), state).unwrap()
}

/// The payloads of the committed records from a checkpoint on.
fn replayed(wal: &Wal, from: &Checkpoint) -> Vec<Vec<u8>> {
    replayed_to(wal, from, wal.durable())
}

/// The payloads of the records from a checkpoint on whose commit is at or below `upto`.
fn replayed_to(wal: &Wal, from: &Checkpoint, upto: Lsn) -> Vec<Vec<u8>> {
    let mut seen = Vec::new();
    let scan = wal.scan(from.redo_from, wal.durable()).unwrap();
    scan.for_each_committed_upto::<Error>(upto, |record| {
        seen.push(record.payload.to_vec());
        Ok(())
    })
    .unwrap();
    seen
}

#[test]
fn a_checkpoint_of_any_size_comes_back_after_a_reopen() {
    for bytes in [0, 100, 3 * SEGMENT_BYTES as usize] {
        let fs = SimFs::new();
        let wal = create(&fs, &options());
        wal.commit(transaction(1, &[b"before"])).unwrap();
        let state: Vec<u8> = (0..bytes).map(|nth| nth as u8).collect();
        let taken = take(&wal, &state);
        assert_eq!((taken.bytes, taken.end <= wal.durable()), (bytes as u64, true));
        wal.commit(transaction(2, &[b"after"])).unwrap();
        drop(wal);

        let wal = open(&SimFs::on(fs.durable_disk()), &options());
        assert_eq!(wal.checkpoints(), [taken]);
        assert_eq!(wal.read_checkpoint(&taken).unwrap(), state);
        assert_eq!(replayed(&wal, &taken), [b"after"]);
    }
}

#[test]
fn a_checkpoint_belongs_to_no_transaction() {
    let fs = SimFs::new();
    let wal = create(&fs, &options());
    take(&wal, b"state");
    let mut kinds = Vec::new();
    wal.scan(wal.first(), wal.durable())
        .unwrap()
        .for_each::<Error>(|record| {
            kinds.push((record.kind, record.tx));
            Ok(())
        })
        .unwrap();
    assert_eq!(kinds, [(RecordKind::Checkpoint as u8, TxId::NONE)]);
    let payload = Payload { redo_from: Lsn::ORIGIN, before: Lsn::ORIGIN, state: b"" };
    let pushed = BatchBuilder::new().push(P, TxId::NONE, &Record::Checkpoint(payload));
    assert!(matches!(pushed, Err(Error::Record { kind: RecordKind::Checkpoint, .. })));
}

#[test]
fn a_checkpoint_without_its_log_is_refused() {
    let fs = SimFs::new();
    let wal = create(&fs, &options());
    let begin = wal.first();
    let beyond = Lsn::new(wal.end().get() + 1);
    assert!(
        matches!(wal.checkpoint(beyond, b""), Err(Error::RedoAhead { redo_from, .. }) if redo_from == beyond)
    );
    assert!(wal.end() == begin && wal.checkpoints().is_empty(), "a refused checkpoint leaves nothing");
    wal.remove_below(fill(&wal, 3)).unwrap();
    assert!(matches!(wal.checkpoint(begin, b""), Err(Error::Removed { lsn, .. }) if lsn == begin));
    let large = vec![0; 64 << 20];
    assert!(matches!(wal.checkpoint(wal.end(), &large), Err(Error::Record { .. })));
    assert!(wal.checkpoints().is_empty());
    // The refused ones hold nothing.
    assert!(wal.remove_below(fill(&wal, 5)).unwrap() > 0);
}

#[test]
fn the_log_keeps_what_its_newest_checkpoints_need() {
    for kept in 1..=3 {
        let fs = SimFs::new();
        let wal = create(&fs, &keeping(kept));
        let taken: Vec<Checkpoint> = (1..=4)
            .map(|nth| {
                fill(&wal, nth * 2);
                take(&wal, b"state")
            })
            .collect();
        fill(&wal, 10);
        let newest = &taken[4 - kept as usize..];
        assert_eq!(wal.checkpoints(), newest);
        wal.remove_below(wal.end()).unwrap();
        let holds = |wal: &Wal| {
            assert_eq!(wal.checkpoints(), newest);
            assert_eq!(wal.first().get() / SEGMENT_BYTES, newest[0].redo_from.get() / SEGMENT_BYTES);
            assert!(!replayed(wal, &newest[0]).is_empty());
        };
        holds(&wal);
        drop(wal);
        let wal = open(&fs, &keeping(kept));
        wal.remove_below(wal.end()).unwrap();
        holds(&wal);
        // A newer checkpoint frees the oldest one's log.
        take(&wal, b"state");
        assert!(wal.remove_below(wal.end()).unwrap() > 0);
    }
}

#[test]
fn the_cap_never_takes_a_checkpoints_log() {
    // FAILURES 34
    let fs = SimFs::new();
    let wal = create(&fs, &WalOptions { segments_max: Some(2), ..keeping(1) });
    let taken = take(&wal, b"state");
    wal.remove_below(fill(&wal, 5)).unwrap();
    assert!(wal.first() <= taken.redo_from);
    let events = wal.take_events();
    assert!(matches!(&events[..], [Event::OverCap { redo, .. }] if *redo == taken.redo_from), "{events:?}");
}

#[test]
fn the_newest_checkpoint_at_or_before_a_position_is_found() {
    let fs = SimFs::new();
    let wal = create(&fs, &keeping(1));
    let mut taken = Vec::new();
    for nth in 1..=4 {
        fill(&wal, nth);
        taken.push(take(&wal, &[nth as u8; 700]));
    }
    let check = |wal: &Wal| {
        assert_eq!(wal.find_checkpoint(taken[0].lsn).unwrap(), None);
        for (nth, found) in taken.iter().enumerate() {
            let before_next = taken.get(nth + 1).map_or(Lsn::MAX, |next| next.end.before());
            for upto in [found.end, before_next] {
                assert_eq!(wal.find_checkpoint(upto).unwrap(), Some(*found));
            }
            assert_eq!(wal.read_checkpoint(found).unwrap(), [nth as u8 + 1; 700]);
        }
    };
    check(&wal);
    drop(wal);
    let wal = open(&fs, &keeping(1));
    check(&wal);
    wal.remove_below(wal.end()).unwrap();
    assert_eq!(wal.find_checkpoint(taken[0].end).unwrap(), None, "its log was removed");
    assert!(matches!(wal.read_checkpoint(&taken[0]), Err(Error::Removed { .. })));
}

#[test]
fn the_interval_says_when_a_checkpoint_is_due() {
    let (fs, clock) = (SimFs::new(), clock());
    let of = |checkpoint_interval| WalOptions { checkpoint_interval, ..options() };
    let env = env(Arc::new(fs.clone()), clock.clone());
    let by_bytes = of(CheckpointInterval::Bytes(5_000));
    let wal = Wal::create(&env, dir(), &start(SEGMENT_BYTES as u32), &by_bytes).unwrap();
    wal.commit(transaction(1, &[&[7; 3_000]])).unwrap();
    clock.pass(Duration::from_secs(1_000));
    assert!(!wal.is_checkpoint_due());
    wal.commit(transaction(2, &[&[7; 3_000]])).unwrap();
    assert!(wal.is_checkpoint_due());
    take(&wal, b"state");
    assert!(!wal.is_checkpoint_due());
    drop(wal);

    let by_time = of(CheckpointInterval::Time(Duration::from_secs(60)));
    let wal = Wal::open(&env, dir(), Lsn::ORIGIN, &by_time).unwrap().0;
    clock.pass(Duration::from_secs(60));
    assert!(!wal.is_checkpoint_due(), "nothing was logged since the last one");
    wal.commit(transaction(3, &[&[7; 6_000]])).unwrap();
    assert!(wal.is_checkpoint_due());
    take(&wal, b"state");
    wal.commit(transaction(4, &[b""])).unwrap();
    clock.pass(Duration::from_secs(59));
    assert!(!wal.is_checkpoint_due());
    clock.pass(Duration::from_secs(1));
    assert!(wal.is_checkpoint_due());
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let refused = [
        WalOptions { checkpoints_kept: 0, ..options() },
        WalOptions { checkpoint_interval: CheckpointInterval::Bytes(0), ..options() },
        WalOptions { checkpoint_interval: CheckpointInterval::Time(Duration::ZERO), ..options() },
    ];
    for options in refused {
        assert!(matches!(options.validate(), Err(Error::Options { .. })), "{options:?}");
    }
    options().validate().unwrap();
}

#[test]
fn a_checkpoint_is_durable_without_syncs_too() {
    let fs = SimFs::new();
    let options = WalOptions { sync: SyncPolicy::Never, ..WalOptions::default() };
    let wal = create(&fs, &options);
    wal.commit(transaction(1, &[b"odd"])).unwrap();
    let taken = take(&wal, b"state");
    assert!(wal.durable() >= taken.end);
    assert_eq!(open(&SimFs::on(fs.durable_disk()), &self::options()).checkpoints(), [taken]);
}

fn file(segment: u64) -> PathBuf {
    dir().join(format!("{segment:016x}.seg"))
}

#[test]
fn a_checkpoint_with_a_torn_end_is_passed_over() {
    let fs = SimFs::new();
    let wal = create(&fs, &keeping(3));
    let whole = take(&wal, b"whole");
    let torn = take(&wal, &vec![7; 3 * SEGMENT_BYTES as usize]);
    let (begin, end) = (torn.lsn.get() / SEGMENT_BYTES, torn.end.get() / SEGMENT_BYTES);
    assert!(begin < end);
    drop(wal);
    // A power loss took the segments after the one in which it begins.
    let mut disk = fs.durable_disk();
    (begin + 1..=end).for_each(|segment| assert!(disk.lose(&file(segment))));
    let fs = SimFs::on(disk);
    let wal = open(&fs, &keeping(3));
    assert_eq!(wal.checkpoints(), [whole]);
    let next = take(&wal, b"next");
    fill(&wal, end + 2);
    drop(wal);
    let wal = open(&fs, &keeping(3));
    assert_eq!(wal.checkpoints(), [whole, next]);
    assert_eq!(wal.find_checkpoint(next.lsn).unwrap(), Some(whole));
}

#[test]
fn a_crash_keeps_every_acknowledged_checkpoint_and_its_log() {
    let fs = SimFs::new();
    let wal = create(&fs, &keeping(1));
    fs.ack(0);
    let mut taken = Vec::new();
    for nth in 1..=4_u64 {
        fill(&wal, nth * 2);
        taken.push(take(&wal, &vec![nth as u8; nth as usize * 5_000]));
        fs.ack(nth);
        wal.remove_below(wal.end()).unwrap();
    }
    let trace = fs.trace();
    let begin = trace.ops.iter().position(|op| matches!(op, Op::Ack(0))).unwrap();
    for (cut, mode) in (begin..=trace.ops.len()).flat_map(|cut| Mode::ALL.map(|mode| (cut, mode))) {
        let acked = trace.ops[..cut].iter().filter(|op| matches!(op, Op::Ack(1..))).count();
        let wal = open(&SimFs::on(Survivors::at(&trace, cut).disk(mode, cut as u64)), &keeping(1));
        // One that was not acknowledged may have survived.
        let found = wal.checkpoints();
        let known: Vec<_> = taken.iter().skip(acked.saturating_sub(1)).take(2).copied().collect();
        assert!(found.iter().all(|one| known.contains(one)), "{cut} {mode:?}: {found:?}");
        assert!(acked == 0 || found.len() == 1, "{cut} {mode:?}: an acknowledged checkpoint is lost");
        for one in &found {
            let nth = 1 + taken.iter().position(|taken| taken == one).unwrap();
            assert_eq!(wal.read_checkpoint(one).unwrap(), vec![nth as u8; nth * 5_000]);
            replayed(&wal, one);
        }
    }
}

#[test]
fn a_record_of_a_later_kind_is_refused_with_its_number() {
    // FAILURES 36: a program from before checkpoints refuses them in the same way.
    let (lsn, end) = (Lsn::new(64), Lsn::new(100));
    let (tx, kind) = (TxId::NONE, RecordKind::Checkpoint as u8 + 1);
    let later = WholeRecord { lsn, end, kind, partition: P, tx, payload: b"?" };
    let refused = Analysis::new(Bound::Unbounded).push(&later, Incarnation::FIRST);
    let Err(Error::Payload { lsn: at, source }) = refused else { panic!("{refused:?}") };
    assert_eq!((at, source), (lsn, DecodeError::Range { what: "record kind", value: kind.into() }));
}

#[test]
fn no_later_record_starts_before_a_redo_point() {
    let fs = SimFs::new();
    let wal = create(&fs, &options());
    // The end of an open batch is rounded up; the next record starts before it.
    wal.append(transaction(1, &[b"odd"])).unwrap();
    let (end, redo) = (wal.end(), wal.redo_point());
    assert!(matches!(wal.checkpoint(end, b""), Err(Error::RedoAhead { .. })));
    let next = wal.append(transaction(2, &[b"next"])).unwrap();
    assert!(redo <= next.first && next.first < end);
    let taken = wal.checkpoint(redo, b"without the second transaction").unwrap();
    assert_eq!(taken.redo_from, redo);
    assert!(replayed(&wal, &taken).contains(&b"next".to_vec()));
    assert_eq!(wal.redo_point(), wal.end());
}

#[test]
fn a_replay_over_a_checkpoint_ends_exactly_at_a_commit() {
    let fs = SimFs::new();
    let wal = create(&fs, &options());
    let taken = take(&wal, b"state");
    // In one batch: two open transactions, of which the second commits first.
    let mut batch = BatchBuilder::new();
    for tx in [1, 2] {
        batch.push(P, TxId::new(tx), &Record::Data(&[tx as u8])).unwrap();
    }
    for tx in [2, 1] {
        batch.push_commit(P, TxId::new(tx), None, None, b"").unwrap();
    }
    let commits = wal.commit(batch).unwrap().commits;
    let upto = |lsn| replayed_to(&wal, &taken, lsn);
    assert!(upto(commits[0].lsn.before()).is_empty());
    assert_eq!(upto(commits[0].lsn), [[2]]);
    assert_eq!(upto(commits[1].lsn.before()), [[2]]);
    assert_eq!(upto(commits[1].lsn), [[1], [2]]);
}
