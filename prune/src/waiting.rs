//! Waiting for leases to end.

use crate::Result;
use pitr_objects::Objects;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How often leases are looked at, at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Waits until each of these leases has ended or has shown that its holder lives; returns the latter. One that nobody
/// renews for `expiry` is taken away.
pub(crate) fn wait_for(
    objects: &Objects,
    wanted: &BTreeSet<String>,
    expiry: Duration,
) -> Result<BTreeSet<String>> {
    let (begun, mut told) = (Instant::now(), false);
    let mut first: BTreeMap<String, u64> = BTreeMap::new();
    let mut alive = BTreeSet::new();
    // A listing may miss an object that is being renewed: who is not there twice has ended.
    let mut missing: BTreeMap<String, u32> = wanted.iter().map(|id| (id.clone(), 0)).collect();
    loop {
        missing.values_mut().for_each(|times| *times += 1);
        let mut undecided = false;
        for seen in objects.leases()?.into_iter().filter(|seen| wanted.contains(&seen.id)) {
            missing.insert(seen.id.clone(), 0);
            let counter = *first.entry(seen.id.clone()).or_insert(seen.counter);
            if seen.counter > counter {
                alive.insert(seen.id);
            } else if begun.elapsed() < expiry {
                undecided = true;
            } else if !objects.end_lapsed(&seen)? {
                alive.insert(seen.id);
            }
        }
        undecided |= missing.iter().any(|(id, times)| *times == 1 && !alive.contains(id));
        if !undecided {
            return Ok(alive);
        }
        if !std::mem::replace(&mut told, true) {
            let (seconds, leases) = (expiry.as_secs(), first.len());
            tracing::warn!("waits up to {seconds} s for {leases} that rely on what goes, and may have died");
        }
        std::thread::sleep(LOOK_EVERY.min(expiry / 10));
    }
}
