//! Waiting for leases to end.

use crate::Result;
use pitr_objects::Objects;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Longest time between two listings of the leases.
const LIST_EVERY: Duration = Duration::from_secs(1);

/// Waits until each of these leases has ended or was renewed; returns the renewed ones. A lease
/// that is not renewed for `expiry` is deleted.
pub(crate) fn wait_for(
    objects: &Objects,
    wanted: &BTreeSet<String>,
    expiry: Duration,
) -> Result<BTreeSet<String>> {
    let clock = &objects.env().clock;
    let (begun, mut warned) = (clock.monotonic(), false);
    let mut first: BTreeMap<String, u64> = BTreeMap::new();
    let mut alive = BTreeSet::new();
    // A listing may miss an object that is being renewed: a lease has ended when two listings in a
    // row lack it.
    let mut missing: BTreeMap<String, u32> = wanted.iter().map(|id| (id.clone(), 0)).collect();
    loop {
        missing.values_mut().for_each(|times| *times += 1);
        let mut undecided = false;
        for seen in objects.leases()? {
            let id = seen.id.to_string();
            if !wanted.contains(&id) {
                continue;
            }
            missing.insert(id.clone(), 0);
            let counter = *first.entry(id.clone()).or_insert(seen.counter);
            if seen.counter > counter {
                alive.insert(id);
            } else if clock.monotonic().saturating_sub(begun) < expiry {
                undecided = true;
            } else if !objects.end_lapsed(&seen)? {
                alive.insert(id);
            }
        }
        undecided |= missing.iter().any(|(id, times)| *times == 1 && !alive.contains(id));
        if !undecided {
            return Ok(alive);
        }
        if !std::mem::replace(&mut warned, true) {
            let (seconds, leases) = (expiry.as_secs(), first.len());
            tracing::warn!("waiting up to {seconds} s for {leases} leases of processes that may have died");
        }
        clock.sleep(LIST_EVERY.min(expiry / 10));
    }
}
