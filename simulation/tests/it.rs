//! Worlds of seeds: their invariants, and that nothing but the seed decides what they store.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

use pitr_simulation::run;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::process::Command;
use std::thread;

proptest! {
    // A smaller seed is no simpler world.
    #![proptest_config(ProptestConfig {
        cases: 8, max_shrink_iters: 0, failure_persistence: None, ..ProptestConfig::default()
    })]

    /// Law 10.
    #[test]
    fn a_seed_gives_the_same_objects_twice(seed: u64) {
        prop_assert_eq!(run(seed), run(seed));
    }
}

#[test]
fn seeds_give_different_objects() {
    let worlds: BTreeMap<_, _> = (0..16).map(|seed| (run(seed), seed)).collect();
    assert_eq!(worlds.len(), 16);
}

#[test]
fn another_process_gives_the_same_objects() {
    // Each process has its own addresses and its own keys of hash maps.
    const NAME: &str = "another_process_gives_the_same_objects";
    let other = alone(NAME, || println!("digest {:?}", run(7)));
    let Some(other) = other else { return };
    assert!(other.contains(&format!("digest {:?}", run(7))), "{other}");
}

#[test]
fn a_world_starts_no_thread() {
    // law 10
    // Threads have consecutive numbers, also those that have ended.
    let number = || {
        let id = thread::spawn(|| format!("{:?}", thread::current().id())).join().unwrap();
        id.trim_matches(|c: char| !c.is_ascii_digit()).parse::<u64>().unwrap()
    };
    alone("a_world_starts_no_thread", || {
        let before = number();
        let _ = run(7);
        assert_eq!(number(), before + 1);
    });
}

/// Runs `test` in a process without other tests. Returns what it printed, and `None` in that
/// process.
fn alone(name: &str, test: impl FnOnce()) -> Option<String> {
    const ALONE: &str = "PITR_SIMULATION_ALONE";
    if std::env::var_os(ALONE).is_some() {
        test();
        return None;
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    let output = child.args(["--exact", name, "--nocapture"]).env(ALONE, "1").output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let has_run = output.status.success() && printed.contains("1 passed");
    assert!(has_run, "{printed}{}", String::from_utf8_lossy(&output.stderr));
    Some(printed)
}
