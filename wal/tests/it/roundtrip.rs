//! Appended records are read back byte for byte, also after reopening.

use crate::help::{P, Seen, env, everything, options, start};
use pitr_format::record::{GapReason, Record, RecordKind};
use pitr_format::{FileId, Lsn, PartitionId, Timestamp, TxId};
use pitr_vfs::FileSystem;
use pitr_vfs::sim::{SimClock, SimFs};
use pitr_wal::{BatchBuilder, Wal};
use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;

#[derive(Debug, Clone)]
enum Act {
    Append(Vec<(u8, u32, u64)>),
    Commit(Vec<(u8, u32, u64)>),
    Skip,
    Reopen,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let len = prop_oneof![4 => 0u32..100, 2 => 400u32..700, 2 => 0u32..6_000, 1 => 10_000u32..60_000];
    let record = (any::<u8>(), len, 1u64..4);
    let records = prop::collection::vec(record, 0..6);
    let act = prop_oneof![
        3 => records.clone().prop_map(Act::Append),
        6 => records.prop_map(Act::Commit),
        1 => Just(Act::Skip),
        1 => Just(Act::Reopen),
    ];
    prop::collection::vec(act, 1..20)
}

/// The expected record: kind, transaction, payload.
type Expected = (u8, TxId, Vec<u8>);

fn push(batch: &mut BatchBuilder, (choice, len, tx): (u8, u32, u64), expected: &mut Vec<Expected>) {
    let data: Vec<u8> = (0..len).map(|at| (at * 31 + u32::from(choice)) as u8).collect();
    let (tx, time) = (TxId::new(tx), Timestamp::from_micros(i64::from(len)));
    let record = match choice % 8 {
        0 if !data.is_empty() => Record::Image { file: FileId::new(3), block: u64::from(len), data: &data },
        1 => Record::SetLength { file: FileId::FIRST, len: u64::from(len) },
        // The first LSN must not be after the end of the log.
        2 => Record::Abort { first_lsn: Lsn::new(u64::from(len % 4096)) },
        3 => Record::ClockStep { from: time, to: Timestamp::MIN },
        4 => Record::Gap { reason: GapReason::StateLost, since: time, until: time },
        5 => Record::Note(&data),
        6 => Record::Watermark(time),
        _ => Record::Data(&data),
    };
    batch.push(PartitionId::new(u32::from(choice)), tx, &record).unwrap();
    let mut payload = Vec::new();
    record.encode(&mut payload);
    expected.push((record.kind() as u8, tx, payload));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_sequence_of_builders_comes_back(acts in acts()) {
        let dir = Path::new("/log");
        let sim = SimFs::new();
        let fs: Arc<dyn FileSystem> = Arc::new(sim.clone());
        let clock = Arc::new(SimClock::new(Timestamp::from_micros(1)));
        let mut wal = Wal::create(&env(Arc::clone(&fs), Arc::clone(&clock) as _), dir, &start(16 << 10), &options()).unwrap();
        let (mut expected, mut commits) = (Vec::<Expected>::new(), Vec::new());
        for act in acts {
            match act {
                Act::Append(records) | Act::Commit(records) if records.is_empty() => drop(wal.sync().unwrap()),
                Act::Append(records) => {
                    let mut batch = BatchBuilder::new();
                    records.into_iter().for_each(|record| push(&mut batch, record, &mut expected));
                    wal.append(batch).unwrap();
                }
                Act::Commit(records) => {
                    let mut batch = BatchBuilder::new();
                    let tx = TxId::new(records[0].2);
                    records.into_iter().for_each(|record| push(&mut batch, record, &mut expected));
                    batch.push_commit(P, tx, None, None, &[7; 30]).unwrap();
                    let appended = wal.commit(batch).unwrap();
                    prop_assert_eq!(appended.end, appended.commits[0].lsn);
                    commits.push((expected.len(), appended));
                    expected.push((RecordKind::Commit as u8, tx, Vec::new()));
                }
                Act::Skip => drop(wal.skip().unwrap()),
                Act::Reopen => {
                    wal.sync().unwrap();
                    let end = wal.end();
                    drop(wal);
                    let opened = Wal::open(&env(Arc::clone(&fs), Arc::clone(&clock) as _), dir, end, &options()).unwrap();
                    prop_assert_eq!((opened.1.end, opened.1.cut), (end, None));
                    wal = opened.0;
                }
            }
        }
        wal.sync().unwrap();
        let seen = everything(&wal, &fs, dir);
        prop_assert_eq!(seen.len(), expected.len());
        for (seen, (kind, tx, payload)) in seen.iter().zip(&expected) {
            prop_assert_eq!((seen.kind, seen.tx), (*kind, *tx));
            prop_assert!(seen.kind == RecordKind::Commit as u8 || seen.payload == *payload, "payload changed");
        }
        for (index, appended) in commits {
            prop_assert_eq!(seen[index].end, appended.end);
            let Ok(Record::Commit(commit)) = Record::decode(seen[index].kind, &seen[index].payload) else { panic!() };
            prop_assert_eq!((commit.time, commit.note), (appended.commits[0].time, &[7; 30][..]));
            // Records before an abort in the same builder belong to another transaction.
            let own = |r: &&Seen| r.lsn >= appended.first && r.tx == seen[index].tx;
            let aborted = seen[..index].iter().filter(own).rfind(|r| r.kind == RecordKind::Abort as u8).map(|r| r.lsn);
            let first = seen.iter().filter(own).find(|r| aborted.is_none_or(|abort| r.lsn > abort)).unwrap();
            prop_assert_eq!(commit.first_lsn, first.lsn);
        }
        let disk = SimFs::on(sim.durable_disk());
        let (wal, _) = Wal::open(&env(Arc::new(disk.clone()), clock), dir, wal.end(), &options()).unwrap();
        let again = everything(&wal, &(Arc::new(disk) as Arc<dyn FileSystem>), dir);
        prop_assert_eq!(again, seen);
    }
}
