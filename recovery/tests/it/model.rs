//! Every commit of random transactions, by every kind of target, from every kind of snapshot,
//! against the model.

use crate::lab::{bytes, history, meta, restored, take};
use crate::world::{Dice, State, World, options};
use pitr_archive::Merged;
use pitr_dedup::ChunkStore;
use pitr_format::{Lsn, Timestamp, TxId};
use pitr_recovery::{Error, LogDelta, RecoveryTarget, Target, Why};
use pitr_snapshot::{Manifest, write_increment};
use proptest::prelude::*;

/// Snapshots at random states: clean, while transactions were open, spread over several states, and
/// by increments.
fn take_snapshots(world: &World, dice: &mut Dice) {
    let mut parent: Option<Manifest> = None;
    for (no, state) in world.states.iter().enumerate() {
        if dice.roll(6) != 0 {
            continue;
        }
        let (content, redo_from) = match dice.roll(2) {
            0 => (bytes(state), state.redo_from),
            _ => spread(&world.states[no.saturating_sub(dice.roll(6) as usize)..=no], dice),
        };
        let meta = meta(&world.archive, redo_from, state.lsn, state.time, state.tx);
        parent = Some(match parent {
            Some(parent) if dice.roll(3) == 0 => increment(world, &parent, state),
            _ => take(&world.archive, content, meta),
        });
    }
}

/// A snapshot that was read while commits continued: each block has the content of some state in
/// between.
fn spread(states: &[State], dice: &mut Dice) -> (Vec<u8>, Lsn) {
    let mut content = bytes(&states[0]);
    for block in content.chunks_mut(crate::world::BLOCK).enumerate() {
        let state = bytes(&states[dice.roll(states.len() as u64) as usize]);
        let (at, len) = (block.0 * crate::world::BLOCK, block.1.len());
        let have = state.get(at..).unwrap_or_default();
        let have = &have[..have.len().min(len)];
        block.1[..have.len()].copy_from_slice(have);
        block.1[have.len()..].fill(0);
    }
    (content, states[0].redo_from)
}

fn increment(world: &World, parent: &Manifest, state: &State) -> Manifest {
    let history = history(&world.archive);
    let merged =
        Merged::new(&world.archive, history.pieces(), parent.snapshot.meta.redo_from, state.lsn).unwrap();
    let mut delta = LogDelta::new(merged, parent).unwrap();
    let meta = meta(&world.archive, state.redo_from, state.lsn, state.time, state.tx);
    let chunks = ChunkStore::open(world.archive.objects().clone()).unwrap();
    let manifest = write_increment(&chunks, parent, &mut delta, meta).unwrap();
    manifest.publish(&chunks).unwrap()
}

fn expect(world: &World, no: Option<usize>) -> Vec<u8> {
    no.map_or_else(Vec::new, |no| bytes(&world.states[no]))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    // FAILURES 15, 16, 45 and law 5: exactly the target is restored, whatever was open, aborted or
    // cut off.
    #[test]
    fn every_commit_is_restored_exactly(seed: u64, steps in 40usize..140, object in 600u32..20_000, frame in 300u32..6000) {
        let dir = tempfile::tempdir().unwrap();
        let mut world = World::new(dir.path(), seed, 1, options(object, frame));
        world.live(steps);
        let mut dice = Dice(seed ^ 1);
        take_snapshots(&world, &mut dice);
        let history = history(&world.archive);
        let restored = |target: Target, workers| restored(dir.path(), &history, &target, workers);
        for (no, state) in world.states.iter().enumerate() {
            let (now, before) = (expect(&world, Some(no)), expect(&world, no.checked_sub(1)));
            prop_assert!(restored(Target::at(RecoveryTarget::Lsn(state.lsn)), 1) == now, "lsn {}", state.lsn);
            prop_assert!(restored(Target::at(RecoveryTarget::Transaction(state.tx)), 4) == now, "tx {}", state.tx);
            prop_assert!(restored(Target::just_before(RecoveryTarget::Transaction(state.tx)), 2) == before, "before tx {}", state.tx);
            prop_assert!(restored(Target::just_before(RecoveryTarget::Lsn(state.lsn)), 1) == before);
        }
        times(&world, dir.path(), &history)?;
        if let Some(last) = world.states.last() {
            prop_assert!(restored(Target::at(RecoveryTarget::Latest), 2) == bytes(last));
            prop_assert!(restored(Target::just_before(RecoveryTarget::Latest), 2) == expect(&world, world.states.len().checked_sub(2)));
        }
    }
}

/// Targets by time: exactly on commits, some of which share a timestamp, between commits, and
/// within their uncertainty.
fn times(
    world: &World,
    dir: &std::path::Path,
    history: &pitr_recovery::History,
) -> Result<(), TestCaseError> {
    let mut stamps: Vec<Timestamp> = world.states.iter().map(|s| s.time).collect();
    stamps.dedup();
    for (no, stamp) in stamps.iter().enumerate() {
        let upto = world.states.iter().rposition(|s| s.time <= *stamp);
        let before = world.states.iter().rposition(|s| s.time < *stamp);
        let found = restored(dir, history, &Target::at(RecoveryTarget::Timestamp(*stamp)), 1);
        prop_assert!(found == expect(world, upto), "at {stamp}");
        let found = restored(dir, history, &Target::just_before(RecoveryTarget::Timestamp(*stamp)), 1);
        prop_assert!(found == expect(world, before), "just before {stamp}");
        // Commits of the model can have happened up to 10 microseconds before their stamp.
        let doubtful = Timestamp::from_micros(stamp.micros() - 3);
        let refused = history.resolve(&Target::at(RecoveryTarget::Timestamp(doubtful)));
        let uncertain = matches!(&refused, Err(Error::TargetUnreachable(found)) if matches!(found.why, Why::Uncertain { .. }));
        prop_assert!(uncertain || no == 0 && doubtful < Timestamp::from_micros(1_000_000), "{refused:?}");
        let clear = Timestamp::from_micros(stamp.micros() - 11);
        if no > 0 {
            let found = restored(dir, history, &Target::at(RecoveryTarget::Timestamp(clear)), 1);
            prop_assert!(found == expect(world, before), "between, {clear}");
        }
    }
    Ok(())
}

#[test]
fn one_worker_and_many_give_the_same_bytes() {
    // FAILURES 16 and law 6, for a file of several extents.
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(dir.path(), 3, 1, options(200_000, 20_000));
    let (mut dice, mut shipper) = (Dice(9), world.shipper);
    let base: Vec<u8> = (0..3 << 20).map(|_| dice.roll(251) as u8).collect();
    let start = world.wal.durable();
    take(&world.archive, base.clone(), meta(&world.archive, start, start, Timestamp::MIN, TxId::NONE));
    let mut expected = base;
    let mut last = Lsn::ORIGIN;
    for tx in 1..40 {
        let mut blocks: Vec<(u64, u8)> = (0..50).map(|_| (dice.roll(6500), tx as u8)).collect();
        blocks.sort_unstable();
        blocks.dedup_by_key(|b| b.0);
        last = crate::world::commit(&world.wal, tx, &blocks, None).lsn;
        for (block, fill) in blocks {
            let at = block as usize * crate::world::BLOCK;
            expected.resize(expected.len().max(at + crate::world::BLOCK), 0);
            let content = crate::world::content(pitr_format::FileId::FIRST, block, fill);
            expected[at..at + crate::world::BLOCK].copy_from_slice(&content);
        }
    }
    shipper.ship(&world.wal).unwrap();
    let history = history(&world.archive);
    for workers in [1, 2, 3, 8] {
        let found = restored(dir.path(), &history, &Target::at(RecoveryTarget::Lsn(last)), workers);
        assert!(found == expected, "{workers} workers");
    }
}
