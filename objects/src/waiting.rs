//! Waiting for leases to end.

use crate::{Lease, LeaseRole, Objects, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Longest time between two listings of the leases.
const LIST_EVERY: Duration = Duration::from_secs(1);

impl Objects {
    /// Waits until each of these leases has ended or was renewed; returns the renewed ones. A lease
    /// that is not renewed for `expiry` is deleted.
    ///
    /// # Errors
    /// Errors of the store.
    pub fn wait_for_leases(&self, wanted: &BTreeSet<String>, expiry: Duration) -> Result<BTreeSet<String>> {
        let clock = &self.env().clock;
        let (begun, mut warned) = (clock.monotonic(), false);
        let mut first: BTreeMap<String, u64> = BTreeMap::new();
        let mut alive = BTreeSet::new();
        // A listing may miss an object that is being renewed: a lease has ended when two listings
        // in a row lack it.
        let mut missing: BTreeMap<String, u32> = wanted.iter().map(|id| (id.clone(), 0)).collect();
        loop {
            missing.values_mut().for_each(|times| *times += 1);
            let mut undecided = false;
            for seen in self.leases()? {
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
                } else if !self.end_lapsed(&seen)? {
                    alive.insert(id);
                }
            }
            undecided |= missing.iter().any(|(id, times)| *times == 1 && !alive.contains(id));
            if !undecided {
                return Ok(alive);
            }
            if !std::mem::replace(&mut warned, true) {
                let (seconds, leases) = (expiry.as_secs(), first.len());
                tracing::warn!(
                    "waiting up to {seconds} s for {leases} leases of processes that may have died"
                );
            }
            clock.sleep(LIST_EVERY.min(expiry / 10));
        }
    }

    /// The lease of a living collector other than `own`, or `None`. Waits until it is certain:
    /// until each collector's lease has ended, was renewed, or was not renewed for `expiry`.
    ///
    /// # Errors
    /// Errors of the store; [`Error::Object`](crate::Error::Object) about a damaged lease.
    pub fn other_collector(&self, own: Option<&Lease>, expiry: Duration) -> Result<Option<String>> {
        let mut others = BTreeSet::new();
        let mut checked: BTreeSet<_> = own.map(Lease::id).into_iter().collect();
        // A lease that is renewed during this check is checked again.
        while let Some(seen) = self.leases()?.into_iter().find(|seen| !checked.contains(&seen.id)) {
            match self.role_of(&seen)? {
                Some(LeaseRole::Collect) => drop(others.insert(seen.id.to_string())),
                Some(_) => {}
                None => continue,
            }
            checked.insert(seen.id);
        }
        Ok(self.wait_for_leases(&others, expiry)?.pop_first())
    }
}
