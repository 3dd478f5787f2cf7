//! The base of a replay for an engine that logs checkpoints and takes no snapshots.

use crate::lab::history;
use crate::world::{World, commit, options};
use pitr_format::Lsn;
use pitr_objects::layout::LogName;
use pitr_recovery::History;
use pitr_wal::Checkpoint;

/// A source with three checkpoints, and small objects between them.
fn source(dir: &std::path::Path) -> (World, Vec<Checkpoint>, Lsn) {
    let mut world = World::new(dir, 5, 1, options(1, 3_000));
    let (mut tx, mut taken) = (0, Vec::new());
    let mut more = |world: &mut World| {
        let mut end = Lsn::ORIGIN;
        for _ in 0..4 {
            tx += 1;
            end = commit(&world.wal, tx, &[(tx, tx as u8)], None).lsn;
            world.shipper.ship(&world.wal).unwrap();
        }
        end
    };
    for nth in 1..=3_u8 {
        more(&mut world);
        let redo_from = world.wal.redo_point();
        taken.push(world.wal.checkpoint(redo_from, &[nth; 5_000]).unwrap());
        world.shipper.ship(&world.wal).unwrap();
    }
    let end = more(&mut world);
    (world, taken, end)
}

fn base(history: &History, stop: Lsn) -> Option<(Lsn, u8)> {
    let found = history.find_base_checkpoint(stop).unwrap()?;
    let state = history.read_checkpoint(&found).unwrap();
    assert!(state.len() == 5_000 && state.iter().all(|byte| *byte == state[0]));
    Some((found.entry.lsn, state[0]))
}

#[test]
fn a_replay_begins_at_the_newest_checkpoint_at_or_before_the_stop() {
    let dir = tempfile::tempdir().unwrap();
    let (world, taken, end) = source(dir.path());
    let history = history(&world.archive);
    assert_eq!(base(&history, taken[0].end.before()), None);
    assert_eq!(base(&history, taken[0].end), Some((taken[0].lsn, 1)));
    assert_eq!(base(&history, taken[1].end.before()), Some((taken[0].lsn, 1)));
    assert_eq!(base(&history, end), Some((taken[2].lsn, 3)));
    assert_eq!(base(&history, Lsn::new(end.get() + (1 << 30))), None, "the log does not lead there");
}

#[test]
fn a_checkpoint_before_a_hole_is_no_base_for_a_state_after_it() {
    // FAILURES 11
    let dir = tempfile::tempdir().unwrap();
    let (world, taken, end) = source(dir.path());
    let lose = |name: &LogName| {
        let path = world.archive.folder().path(&pitr_archive::SourceObject::Log(*name));
        std::fs::remove_file(dir.path().join("repo").join(path)).unwrap();
    };
    let pieces = history(&world.archive).pieces().to_vec();
    let holding = |lsn: Lsn| pieces.iter().find(|piece| piece.from() < lsn && lsn <= piece.to).unwrap();
    // An object between the second and the third: only the third has all of its log.
    lose(&holding(taken[2].redo_from).name);
    let with_hole = history(&world.archive);
    assert_eq!(base(&with_hole, taken[1].end), Some((taken[1].lsn, 2)));
    assert_eq!(base(&with_hole, end), Some((taken[2].lsn, 3)));
    // The object with the third's redo point: no checkpoint leads to the end.
    lose(&holding(Lsn::new(taken[2].redo_from.get() + 1)).name);
    let with_hole = history(&world.archive);
    assert_eq!(base(&with_hole, end), None);
    assert_eq!(base(&with_hole, taken[1].end), Some((taken[1].lsn, 2)));
}
