//! The analysis of a log in parts equals that of the whole, and agrees with a naive check of every
//! record. A replay by any number of threads gives each partition the same records.

use crate::help::{env, options, start};
use pitr_format::log::WholeRecord;
use pitr_format::record::{Commit, Record, RecordKind};
use pitr_format::{FileId, Incarnation, Lsn, PartitionId, Timestamp, TxId};
use pitr_vfs::sim::{SimClock, SimFs};
use pitr_wal::{Analysis, BatchBuilder, Error, Wal};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

const FILE: FileId = FileId::new(7);
const BLOCK: u32 = 512;

/// A record of a generated log.
#[derive(Debug, Clone)]
struct Made {
    kind: RecordKind,
    tx: TxId,
    partition: PartitionId,
    payload: Vec<u8>,
    lsn: Lsn,
    end: Lsn,
    life: Incarnation,
}

impl Made {
    fn whole(&self) -> WholeRecord<'_> {
        let Made { lsn, end, tx, partition, .. } = *self;
        WholeRecord { lsn, end, kind: self.kind as u8, partition, tx, payload: &self.payload }
    }

    fn record(&self) -> Record<'_> {
        Record::decode(self.kind as u8, &self.payload).unwrap()
    }
}

/// The next act of a writer: transaction, kind of act, argument.
type Act = (u64, u8, u64);

/// A log in which few transactions with reused numbers write few blocks, and cut and lengthen the
/// file. When the incarnation changes, open transactions are lost and their numbers reused.
fn log(acts: &[Act]) -> Vec<Made> {
    let (mut log, mut lsn, mut life) = (Vec::new(), 1_000, Incarnation::FIRST);
    let mut first: BTreeMap<u64, Lsn> = BTreeMap::new();
    for (tx, act, arg) in acts {
        let block = vec![*arg as u8; BLOCK as usize];
        let begin = first.get(tx).copied().unwrap_or(Lsn::new(lsn));
        let time = Timestamp::from_micros(lsn as i64);
        let record = match act % 16 {
            0..=5 => Record::Image { file: FILE, block: arg % 8, data: &block },
            6 | 7 => Record::SetLength { file: FILE, len: arg % (9 * u64::from(BLOCK)) },
            8 => Record::Data(b"logical"),
            9 => Record::Abort { first_lsn: begin },
            10 => {
                life = life.next().unwrap();
                first.clear();
                continue;
            }
            // The writer forgets the transaction without an abort; its number may be reused.
            11 => {
                first.remove(tx);
                continue;
            }
            _ => Record::Commit(Commit { time, earliest: time, first_lsn: begin, note: b"" }),
        };
        let mut payload = Vec::new();
        record.encode(&mut payload);
        let (kind, end) = (record.kind(), lsn + 24 + payload.len() as u64);
        match kind {
            RecordKind::Commit | RecordKind::Abort => drop(first.remove(tx)),
            _ => drop(first.entry(*tx).or_insert(Lsn::new(lsn))),
        }
        let (tx, partition) = (TxId::new(*tx), PartitionId::new((*arg % 3) as u32));
        log.push(Made { kind, tx, partition, payload, lsn: Lsn::new(lsn), end: Lsn::new(end), life });
        lsn = end;
    }
    log
}

fn analysed(upto: Bound<Lsn>, part: &[Made]) -> Analysis {
    let mut analysis = Analysis::new(upto);
    part.iter().for_each(|made| analysis.push(&made.whole(), made.life).unwrap());
    analysis
}

fn within(upto: Bound<Lsn>, end: Lsn) -> bool {
    match upto {
        Bound::Included(target) => end <= target,
        Bound::Excluded(target) => end < target,
        Bound::Unbounded => true,
    }
}

/// The naive rule: does the record at `nth` count?
fn counts(upto: Bound<Lsn>, log: &[Made], nth: usize) -> bool {
    log[nth + 1..]
        .iter()
        .filter(|made| made.tx == log[nth].tx && within(upto, made.end))
        .any(|made| matches!(made.record(), Record::Commit(commit) if commit.first_lsn <= log[nth].lsn))
}

/// The file after a naive replay of the committed records: for each block the LSN of its image and
/// the number of its bytes that are left; and the length of the file.
fn replayed(upto: Bound<Lsn>, log: &[Made]) -> (BTreeMap<u64, (Lsn, u32)>, u64) {
    let (mut blocks, mut len): (BTreeMap<u64, (Lsn, u32)>, u64) = (BTreeMap::new(), 0);
    for (nth, made) in log.iter().enumerate() {
        if !within(upto, made.end) || !counts(upto, log, nth) {
            continue;
        }
        match made.record() {
            Record::Image { block, .. } => {
                blocks.insert(block, (made.lsn, BLOCK));
                len = len.max((block + 1) * u64::from(BLOCK));
            }
            Record::SetLength { len: cut, .. } => {
                for (block, (_, left)) in &mut blocks {
                    *left =
                        (*left).min(cut.saturating_sub(block * u64::from(BLOCK)).min(BLOCK.into()) as u32);
                }
                blocks.retain(|_, (_, left)| *left > 0);
                len = cut;
            }
            _ => {}
        }
    }
    (blocks, len)
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    prop::collection::vec((1u64..5, any::<u8>(), any::<u64>()), 0..80)
}

fn bound() -> impl Strategy<Value = Bound<usize>> {
    prop_oneof![
        Just(Bound::Unbounded),
        (0usize..90).prop_map(Bound::Included),
        (0usize..90).prop_map(Bound::Excluded),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_division_of_a_log_merges_to_the_analysis_of_the_whole(
        acts in acts(),
        upto in bound(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        order in prop::collection::vec(any::<prop::sample::Index>(), 6),
    ) {
        // FAILURES 16, 45: aborted and open transactions, reused numbers, blocks that are cut off.
        let log = log(&acts);
        let at = |nth: usize| log.get(nth).map_or(Lsn::new(1), |made| made.end);
        let upto = upto.map(at);
        let whole = analysed(upto, &log);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(log.len() + 1)).chain([0, log.len()]).collect();
        cuts.sort_unstable();
        let mut parts: Vec<Analysis> = cuts.windows(2).map(|cut| analysed(upto, &log[cut[0]..cut[1]])).collect();
        for nth in order {
            // Merges any two neighbours, until one analysis is left.
            if parts.len() > 1 {
                let nth = nth.index(parts.len() - 1);
                let behind = parts.remove(nth + 1);
                let before = parts.remove(nth);
                parts.insert(nth, before.merge(behind));
            }
        }
        let merged = parts.into_iter().reduce(Analysis::merge).unwrap_or(Analysis::new(upto));
        prop_assert_eq!(merged, whole);
    }

    #[test]
    fn an_analysis_agrees_with_a_naive_replay(acts in acts(), upto in bound()) {
        let log = log(&acts);
        let upto = upto.map(|nth| log.get(nth).map_or(Lsn::new(1), |made| made.end));
        let analysis = analysed(upto, &log);
        let winners = analysis.winners();
        for (nth, made) in log.iter().enumerate().filter(|(_, made)| made.kind != RecordKind::Commit) {
            prop_assert_eq!(winners.counts(made.tx, made.lsn), counts(upto, &log, nth), "record {}", nth);
        }
        let (blocks, len) = replayed(upto, &log);
        for block in 0..9 {
            prop_assert_eq!(analysis.newest(FILE, block), blocks.get(&block).copied(), "block {}", block);
        }
        let files = analysis.files().unwrap();
        let after = files.get(&FILE).map_or(0, |change| change.set_len.unwrap_or(0).max(change.images_end));
        prop_assert_eq!(after, len);
        let committed = log.iter().filter(|made| made.kind == RecordKind::Commit && within(upto, made.end));
        prop_assert!(analysis.commits().iter().map(|c| c.lsn).eq(committed.map(|made| made.end)));
    }
}

#[test]
fn two_sizes_of_blocks_in_a_file_are_refused() {
    let mut analysis = Analysis::new(Bound::Unbounded);
    let mut lsn = 100;
    let mut push = |record: Record<'_>| {
        let mut payload = Vec::new();
        record.encode(&mut payload);
        let (kind, tx, partition) = (record.kind() as u8, TxId::new(1), PartitionId::FIRST);
        let whole = WholeRecord {
            lsn: Lsn::new(lsn),
            end: Lsn::new(lsn + 50),
            kind,
            partition,
            tx,
            payload: &payload,
        };
        analysis.push(&whole, Incarnation::FIRST).unwrap();
        lsn += 50;
    };
    push(Record::Image { file: FILE, block: 0, data: &[1; 512] });
    push(Record::Image { file: FILE, block: 0, data: &[1; 1024] });
    let time = Timestamp::MIN;
    push(Record::Commit(Commit { time, earliest: time, first_lsn: Lsn::new(100), note: b"" }));
    assert!(matches!(analysis.files(), Err(Error::BlockSize { file: FILE })));
    let whole = WholeRecord {
        lsn: Lsn::new(900),
        end: Lsn::new(950),
        kind: RecordKind::Image as u8,
        partition: PartitionId::FIRST,
        tx: TxId::new(2),
        payload: b"short",
    };
    assert!(matches!(analysis.push(&whole, Incarnation::FIRST), Err(Error::Payload { .. })));
}

/// The records of a partition: position, kind, payload.
type Got = Vec<(Lsn, u8, Vec<u8>)>;

#[test]
fn every_partition_gets_its_committed_records_in_order_by_any_number_of_threads() {
    // FAILURES 16, 17: transactions across partitions and segments, aborted and open ones, records
    // of any size.
    let fs = SimFs::new();
    let clock = Arc::new(SimClock::new(Timestamp::from_micros(1)));
    let wal =
        Wal::create(&env(Arc::new(fs), clock), Path::new("/log"), &start(16 << 10), &options()).unwrap();
    let mut targets: Vec<Lsn> = Vec::new();
    for tx in 1..=120u64 {
        let mut batch = BatchBuilder::new();
        for part in 0..tx % 4 {
            let payload = vec![tx as u8; [0, 40, 700, 40_000][(tx as usize * 7 + part as usize) % 4]];
            batch
                .push(PartitionId::new((tx * part % 5) as u32), TxId::new(tx), &Record::Data(&payload))
                .unwrap();
        }
        match tx % 6 {
            0 => drop(batch.push(PartitionId::FIRST, TxId::new(tx), &Record::Abort { first_lsn: wal.end() })),
            1 => {}
            _ => batch.push_commit(PartitionId::FIRST, TxId::new(tx), None, None, b"").unwrap(),
        }
        targets.extend(wal.commit(batch).unwrap().commits.first().map(|commit| commit.lsn));
    }
    let scan = wal.scan(Lsn::ORIGIN, wal.durable()).unwrap();
    for upto in [Bound::Unbounded, Bound::Included(targets[50]), Bound::Excluded(targets[50])] {
        let each = |(analysis, life): &mut (Analysis, Incarnation), record: &WholeRecord<'_>| {
            analysis.push(record, *life)
        };
        let new = |header: &pitr_format::log::SegmentHeader| (Analysis::new(upto), header.incarnation);
        let merge = |(a, life), (b, _)| (Analysis::merge(a, b), life);
        let (analysis, _) = scan.fold(new, each, merge).unwrap().unwrap();
        let last = if let Bound::Excluded(_) = upto { targets[49] } else { targets[50] };
        let until = if upto == Bound::Unbounded { Lsn::MAX } else { last };
        assert_eq!(analysis.commits().len(), targets.iter().filter(|lsn| **lsn <= until).count());
        let (winners, mut plain): (_, BTreeMap<PartitionId, Got>) = (analysis.winners(), BTreeMap::new());
        scan.for_each::<Error>(|record| {
            let own = analysis.commits().iter().any(|c| c.tx == record.tx && record.lsn < c.lsn);
            if own && record.kind == RecordKind::Data as u8 {
                let got = (record.lsn, record.kind, record.payload.to_vec());
                plain.entry(record.partition).or_default().push(got);
            }
            Ok(())
        })
        .unwrap();
        assert!(plain.len() > 3);
        if upto == Bound::Unbounded {
            let mut serial: BTreeMap<PartitionId, Got> = BTreeMap::new();
            let each = |record: &WholeRecord<'_>| {
                let got = (record.lsn, record.kind, record.payload.to_vec());
                serial.entry(record.partition).or_default().push(got);
                Ok::<(), Error>(())
            };
            scan.for_each_committed(each).unwrap();
            assert!(serial == plain);
        }
        for threads in 1..=4 {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let got = pool.install(|| {
                scan.replay::<Got, Error>(
                    &winners,
                    |_| Vec::new(),
                    |got, record| {
                        got.push((record.lsn, record.kind, record.payload.to_vec()));
                        Ok(())
                    },
                )
            });
            assert!(got.unwrap() == plain, "{threads} threads");
        }
    }
}
