//! Logical records: every state of random histories through an engine's `Redo`, against a model.

mod ledger;
mod story;

use crate::lab::{history, options};
use crate::world::TestClock;
use ledger::{Cells, Fault, Ledger, LedgerRedo, PHYSICAL, SOUND, cells, name};
use pitr_archive::Merged;
use pitr_dedup::ChunkStore;
use pitr_format::{Lsn, PartitionId};
use pitr_recovery::{
    Error, History, LogicalRecord, RecoveryTarget, Redo, Replayed, RestoreTarget, Restored, Restorer, Target,
    replay,
};
use pitr_vfs::sim::SimFs;
use pitr_vfs::{Access, FileSystem, Spawn};
use proptest::prelude::*;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender};
use std::thread::ThreadId;
use std::time::Duration;
use story::{PARTITIONS, State, Story, physical};

const OUT: &str = "/out/ledger";

fn restore(
    fs: &SimFs,
    history: &History,
    target: &dyn RestoreTarget,
    to: Target,
    workers: usize,
) -> Result<Restored, Error> {
    fs.create_dir_all(Path::new("/out")).unwrap();
    let plan = history.plan_for(&to).unwrap();
    let chunks = ChunkStore::open(history.archive().objects().clone()).unwrap();
    let (clock, progress) = (TestClock::default(), |_| {});
    let restorer = Restorer { history, chunks: &chunks, target, fs, clock: &clock, progress: &progress };
    restorer.restore(&plan, &options(Path::new(OUT), workers))
}

/// All bytes of the restored folder.
fn files(fs: &SimFs, root: &Path) -> Vec<(String, Vec<u8>)> {
    let read = |name: std::ffi::OsString| {
        let file = fs.open(&root.join(&name), Access::Read).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        (name.into_string().unwrap(), bytes)
    };
    fs.list(root).unwrap().into_iter().map(read).collect()
}

fn is_exact(fs: &SimFs, state: &State) -> bool {
    let root = Path::new(OUT);
    let blocks =
        files(fs, root).into_iter().find(|(file, _)| *file == name(PHYSICAL)).map(|(_, bytes)| bytes);
    cells(fs, root, PARTITIONS) == state.cells && blocks.unwrap_or_default() == physical(&state.blocks)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    // FAILURES 16 and law 5: transactions interleave in a partition and change several of them;
    // some are aborted, some are unfinished, some died with their process. Bases are fuzzy.
    #[test]
    fn every_state_of_a_logical_history_is_restored(seed: u64, steps in 40usize..200, is_inline: bool) {
        let mut story = Story::new(seed, is_inline, true);
        story.live(steps);
        let history = history(&story.archive);
        for (no, state) in story.states.iter().enumerate() {
            let fs = SimFs::new();
            let done = restore(&fs, &history, &SOUND, Target::at(RecoveryTarget::Transaction(state.tx)), 1 + no % 3).unwrap();
            prop_assert!(is_exact(&fs, state), "tx {}", state.tx);
            let files = files(&fs, Path::new(OUT));
            let bytes: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
            // From the empty base, the replay creates files that are not laid out.
            prop_assert!(done.bytes == bytes as u64 || files.len() as u64 > done.files);
        }
    }

    // FAILURES 16 and law 6
    #[test]
    fn any_number_of_workers_replays_the_same_bytes(seed: u64) {
        let mut story = Story::new(seed, false, true);
        story.live(120);
        let history = history(&story.archive);
        let restored: Vec<_> = (1..=8).map(|workers| {
            let fs = SimFs::new();
            let done = restore(&fs, &history, &SOUND, Target::at(RecoveryTarget::Latest), workers).unwrap();
            (files(&fs, Path::new(OUT)), done.stats.logical_records)
        }).collect();
        prop_assert!(restored.windows(2).all(|pair| pair[0] == pair[1]));
    }

    // FAILURES 32: a replay that was killed begins again over what it wrote.
    #[test]
    fn a_killed_replay_is_run_again_to_the_same_state(seed: u64, kills in prop::collection::vec(0u64..60, 1..6)) {
        let mut story = Story::new(seed, false, true);
        story.live(120);
        let Some(last) = story.states.last() else { return Ok(()) };
        let (found, died) = replay_with_kills(&story, last.lsn, Fault::None, &kills);
        prop_assert!(found == last.cells, "{died} kills");
    }
}

/// Replays a history from its begin, into files. Kills the replay at these records, and begins it
/// again each time.
fn replay_with_kills(story: &Story, upto: Lsn, fault: Fault, kills: &[u64]) -> (Cells, usize) {
    let history = history(&story.archive);
    let merged = Merged::with_logical(&story.archive, history.pieces(), Lsn::ORIGIN, upto).unwrap();
    let (fs, root, mut died) = (SimFs::new(), Path::new("/ledger"), 0);
    fs.create_dir_all(root).unwrap();
    for (workers, fails_at) in (1..).zip(kills.iter().copied().chain([u64::MAX])) {
        let redo = LedgerRedo::new(&fs, root, fault, fails_at);
        let ended = replay(&redo, upto, Spawn::Threads, 1 + workers % 3, |each| {
            merged.for_each_logical::<Error>(each)
        });
        match ended {
            Ok(_) => {}
            Err(Error::Redo { source, .. }) => {
                assert_eq!(source.to_string(), "killed");
                died += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    (cells(&fs, root, PARTITIONS), died)
}

/// The number of seeds for which an engine reaches another state than the model.
fn wrong(fault: Fault, locks: bool) -> usize {
    let is_wrong = |seed: &u64| {
        let mut story = Story::new(*seed, false, locks);
        story.live(120);
        let Some(last) = story.states.last() else { return false };
        let kills: Vec<u64> = (1..6).map(|no| seed % 7 + no * 9).collect();
        replay_with_kills(&story, last.lsn, fault, &kills).0 != last.cells
    };
    (0..12).filter(is_wrong).count()
}

#[test]
fn an_engine_that_breaks_the_contract_is_caught() {
    // The model tells them from a sound engine, which is right for the same histories.
    assert_eq!(wrong(Fault::None, true), 0);
    assert!(wrong(Fault::IgnoresPages, true) > 0, "changes are applied twice");
    assert!(wrong(Fault::NotesOneLsn, true) > 0, "interleaved changes are lost");
    assert!(
        wrong(Fault::None, false) > 0,
        "without locks, the order of commits differs from that of records"
    );
}

#[test]
fn a_restore_that_fails_in_the_replay_names_the_place_and_publishes_nothing() {
    for workers in [1, 2, 5] {
        let mut story = Story::new(7, false, true);
        story.live(150);
        let (history, fs) = (history(&story.archive), SimFs::new());
        let target = Ledger { fails_at: 0, ..SOUND };
        match restore(&fs, &history, &target, Target::at(RecoveryTarget::Latest), workers) {
            Err(Error::Redo { partition, .. }) => assert!(PARTITIONS.contains(&partition.get())),
            other => panic!("{other:?}"),
        }
        assert!(!fs.exists(Path::new(OUT)).unwrap(), "nothing is published");
    }
}

/// Notes the calls of a replay.
#[derive(Default)]
struct Calls {
    calls: Mutex<Vec<(u32, String)>>,
    applied: u64,
}

impl Calls {
    fn note(&self, partition: PartitionId, what: String) {
        self.calls.lock().unwrap().push((partition.get(), what));
    }
}

impl Redo for Calls {
    fn applied(&self, partition: PartitionId) -> Result<Lsn, pitr_recovery::BoxError> {
        self.note(partition, "asked".to_owned());
        Ok(Lsn::new(self.applied))
    }

    fn begin(&self, partition: PartitionId) -> Result<(), pitr_recovery::BoxError> {
        self.note(partition, "begin".to_owned());
        Ok(())
    }

    fn apply(&self, record: &LogicalRecord<'_>) -> Result<(), pitr_recovery::BoxError> {
        self.note(record.partition, record.lsn.to_string());
        Ok(())
    }

    fn end(&self, partition: PartitionId, upto: Lsn) -> Result<(), pitr_recovery::BoxError> {
        self.note(partition, format!("end {upto}"));
        Ok(())
    }
}

/// Replays records of these partitions, positions, commits and lengths.
fn calls(applied: u64, workers: usize, records: &[(u32, u64, u64, usize)]) -> (Vec<(u32, String)>, Replayed) {
    let (calls, replayed) = outcome(applied, workers, records);
    (calls, replayed.unwrap())
}

fn outcome(
    applied: u64,
    workers: usize,
    records: &[(u32, u64, u64, usize)],
) -> (Vec<(u32, String)>, Result<Replayed, Error>) {
    let redo = Calls { applied, ..Calls::default() };
    let replayed = replay(&redo, Lsn::new(1_000_000), Spawn::Threads, workers, |each| {
        for (partition, lsn, commit, len) in records {
            let payload = vec![0; *len];
            let (lsn, commit, partition) = (Lsn::new(*lsn), Lsn::new(*commit), PartitionId::new(*partition));
            each(&LogicalRecord {
                lsn,
                commit,
                tx: pitr_format::TxId::new(1),
                partition,
                payload: &payload,
            })?;
        }
        Ok(())
    });
    let mut calls = redo.calls.into_inner().unwrap();
    calls.sort_by_key(|(partition, _)| *partition); // each partition's own order stays
    (calls, replayed)
}

#[test]
fn files_that_are_newer_than_the_target_are_refused() {
    let (calls, replayed) = outcome(1_000_001, 2, &[(1, 10, 40, 1)]);
    assert!(matches!(replayed, Err(Error::NewerThanTarget { .. })), "{replayed:?}");
    assert_eq!(calls.len(), 1, "nothing is applied: {calls:?}");
    assert!(outcome(1_000_000, 2, &[(1, 10, 40, 1)]).1.is_ok());
}

#[test]
fn what_a_partition_has_is_asked_once_and_skipped_by_commit() {
    // The record at 10 belongs to a commit after 30, which the files lack.
    let (calls, replayed) = calls(30, 1, &[(1, 10, 40, 1), (1, 20, 30, 1), (1, 50, 60, 1)]);
    let calls: Vec<&str> = calls.iter().map(|(_, call)| call.as_str()).collect();
    assert_eq!(calls, ["asked", "begin", "10", "50", "end 1000000"]);
    assert_eq!(replayed, Replayed { records: 2, skipped: 1 });
}

#[test]
fn batches_end_by_size_and_are_the_same_for_any_number_of_workers() {
    let mib = 1 << 20;
    let records: Vec<_> = (0..30).map(|no| (no % 12, 10 + u64::from(no), 500, mib + mib / 2)).collect();
    let (one, _) = calls(0, 1, &records);
    // 3 records of 1.5 MiB end a batch of their own, 22 of all partitions end all batches.
    let ends = one.iter().filter(|(_, call)| call.starts_with("end")).count();
    assert!(ends > 12, "{ends}: {one:?}");
    for workers in [2, 3, 8] {
        assert!(calls(0, workers, &records).0 == one, "{workers} workers");
    }
    let many: Vec<_> = (0..70_000).map(|no| (1, 10 + no, 900_000, 0)).collect();
    let ends: Vec<_> = calls(0, 2, &many).0.into_iter().filter(|(_, call)| call.starts_with("end")).collect();
    assert_eq!(ends, [(1, format!("end {}", 10 + 65_536)), (1, "end 1000000".to_owned())]);
}

/// Notes which threads apply the records of each partition, and reports each record.
struct Threads {
    seen: Mutex<BTreeMap<u32, HashSet<ThreadId>>>,
    reports: Sender<()>,
}

impl Redo for Threads {
    fn apply(&self, record: &LogicalRecord<'_>) -> Result<(), pitr_recovery::BoxError> {
        let own = std::thread::current().id();
        self.seen.lock().unwrap().entry(record.partition.get()).or_default().insert(own);
        Ok(self.reports.send(())?)
    }
}

/// Feeds one record of each partition in turn, `rounds` times. Returns the threads of each
/// partition. `at_the_end` is called with the reports before the feed returns.
fn threads(
    workers: usize,
    partitions: u32,
    rounds: u64,
    at_the_end: impl FnOnce(&Receiver<()>),
) -> Vec<HashSet<ThreadId>> {
    let (reports, received) = std::sync::mpsc::channel();
    let redo = Threads { seen: Mutex::default(), reports };
    let payload = vec![0; 64 << 10];
    replay(&redo, Lsn::new(1_000_000), Spawn::Threads, workers, |each| {
        for (lsn, no) in (10..).zip(0..rounds * u64::from(partitions)) {
            let partition = PartitionId::new((no % u64::from(partitions)) as u32);
            let (lsn, commit, tx) = (Lsn::new(lsn), Lsn::new(900_000), pitr_format::TxId::new(1));
            each(&LogicalRecord { lsn, commit, tx, partition, payload: &payload })?;
        }
        at_the_end(&received);
        Ok(())
    })
    .unwrap();
    redo.seen.into_inner().unwrap().into_values().collect()
}

#[test]
fn partitions_are_divided_among_the_workers_in_turn() {
    let own = std::thread::current().id();
    let found = threads(3, 7, 2, |_| ());
    assert_eq!(found.len(), 7);
    assert!(found.iter().all(|threads| threads.len() == 1 && !threads.contains(&own)), "{found:?}");
    for (no, threads) in found.iter().enumerate() {
        assert_eq!(threads, &found[no % 3], "partition {no}");
    }
    assert!(found[0] != found[1] && found[1] != found[2] && found[0] != found[2], "{found:?}");
}

#[test]
fn workers_begin_while_records_are_still_passed() {
    // Otherwise all records of a log would be in memory.
    threads(2, 2, 64, |received| {
        received
            .recv_timeout(Duration::from_secs(30))
            .expect("no record is applied before the last is passed");
    });
}
