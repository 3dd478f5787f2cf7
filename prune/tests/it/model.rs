//! Random runs against a model.

use crate::world::{World, at, keep};
use pitr_prune::Policy;
use pitr_snapshot::SnapshotId;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::time::Duration;

#[derive(Debug, Clone)]
enum Step {
    Change { source: usize, extents: u64, extent: u64, seed: u64 },
    Backup { source: usize },
    Prune { keep: u32, max_waste: f64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Few seeds, so that the same content occurs again, also in the other source.
    let step = prop_oneof![
        4 => (0..2usize, 1..4u64, 0..4u64, 0..5u64)
            .prop_map(|(source, extents, extent, seed)| Step::Change { source, extents, extent, seed }),
        4 => (0..2usize).prop_map(|source| Step::Backup { source }),
        1 => (1..4u32, prop_oneof![Just(0.0), Just(0.1), Just(1.0)])
            .prop_map(|(keep, max_waste)| Step::Prune { keep, max_waste }),
    ];
    prop::collection::vec(step, 1..20)
}

fn newest(taken: &[SnapshotId], count: u32) -> impl Iterator<Item = SnapshotId> {
    taken.iter().rev().take(count as usize).copied()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn what_is_kept_reads_and_what_is_not_is_gone(steps in steps()) {
        let (mut world, names) = (World::new(), ["a", "b"]);
        let mut taken: [Vec<SnapshotId>; 2] = Default::default();
        for step in steps {
            match step {
                Step::Change { source, extents, extent, seed } => {
                    world.change(names[source], extents, extent, seed);
                }
                Step::Backup { source } => {
                    world.change(names[source], 1, 0, 0);
                    let manifest = world.backup(names[source]);
                    taken[source].push(manifest.snapshot.id);
                }
                Step::Prune { keep: count, max_waste } => {
                    let pruner = world.pruner(world.open(), keep(count)).max_waste(max_waste);
                    let planned = pruner.plan(at(world.hour)).unwrap();
                    let report = pruner.execute(at(world.hour)).unwrap();
                    prop_assert_eq!(&planned.sources, &report.sources);
                    prop_assert!(report.waiting.is_empty());
                    for taken in &mut taken {
                        let kept: BTreeSet<SnapshotId> = newest(taken, count).collect();
                        taken.retain(|id| kept.contains(id));
                    }
                    world.check_tidy();
                    if max_waste == 0.0 {
                        let again = pruner.plan(at(world.hour)).unwrap();
                        prop_assert_eq!((again.packs.worn, again.packs.waste_left), (0, 0));
                        prop_assert!(again.packs.small < planned.packs.small.max(4));
                    }
                }
            }
            let mut listed = taken.concat();
            listed.sort_unstable();
            prop_assert_eq!(world.check(), listed);
        }
    }
}

#[test]
fn a_window_ends_at_the_newest_known_moment_whatever_the_clock_shows() {
    // FAILURES 22: the clock of the pruning machine is a day ahead, or a day late.
    let world = World::furnished();
    let policy = Policy { keep_within: Some(Duration::from_secs(2 * 3600)), ..Policy::default() };
    let kept = |now| {
        let report = world.pruner(world.open(), policy.clone()).plan(at(now)).unwrap();
        report.sources.iter().map(|source| source.kept.len()).sum::<usize>()
    };
    let right = kept(world.hour - 1);
    assert!(right < 6);
    assert_eq!(kept(world.hour + 24), right);
    assert_eq!(kept(world.hour - 25), 6);
}

#[test]
fn many_small_packs_become_few_and_so_do_index_objects() {
    let mut world = World::new();
    // Each small pack has little more than a mebibyte, and there is at least one for each snapshot.
    for hour in 0..12 {
        world.change("a", 12, hour, hour);
        world.backup("a");
    }
    let count = |world: &World| ["packs", "index"].map(|folder| world.open().list(folder).unwrap().len());
    let before = count(&world);
    assert!(before.iter().all(|count| *count >= 12), "{before:?}");
    let pruner = |small| world.pruner(world.open(), keep(100)).small_packs(small);
    let few = pruner(before[0] + 1).plan(at(12)).unwrap();
    assert_eq!((few.packs.small, few.freed), (0, 0), "{few:?}");
    let planned = pruner(before[0]).plan(at(12)).unwrap();
    assert_eq!(planned.packs.small, before[0] as u64);
    assert!(planned.packs.repacked_bytes > 12 << 20 && planned.freed > planned.packs.repacked_bytes);
    let report = pruner(before[0]).execute(at(12)).unwrap();
    assert_eq!(report.packs, planned.packs);
    assert!(report.freed >= planned.freed, "{report:?}"); // it also counts index objects
    // Twelve mebibytes do not fill a pack.
    assert_eq!(count(&world), [1, 1]);
    assert_eq!(world.check().len(), 12);
    world.check_tidy();
}

#[test]
fn packs_with_much_waste_are_repacked_within_the_limit() {
    let mut world = World::new();
    // One pack of eight extents. The next snapshot needs one of these extents.
    for extent in 0..8 {
        world.change("a", 8, extent, extent);
    }
    world.backup("a");
    for extent in 1..8 {
        world.change("a", 8, extent, extent + 100);
    }
    world.backup("a");
    let before = world.pruner(world.open(), keep(1)).plan(at(9)).unwrap();
    // Two threads fill one pack each. The second pack may have the leaf of unchanged files.
    assert!((1..=2).contains(&before.packs.worn) && before.packs.repacked_bytes < 1 << 21, "{before:?}");
    let lazy = world.pruner(world.open(), keep(1)).max_waste(0.99).plan(at(9)).unwrap();
    assert!(lazy.packs.worn == 0 && lazy.packs.waste_left > 1 << 20, "{lazy:?}");
    let report = world.pruner(world.open(), keep(1)).execute(at(9)).unwrap();
    assert!(report.freed > 8 << 20, "{report:?}");
    assert_eq!(world.check().len(), 1);
    world.check_tidy();
}
