//! Both traversals restore the same as the naive replay, and all three agree on which records count
//! and which transactions are open.

use crate::any_order::Part;
use crate::log::{Logged, What, acts, base, counts, log, replay, target};
use crate::newest_first::restored;
use pitr_format::{Incarnation, Lsn, TxId};
use pitr_redo::{OpenTransactions, Winners, is_within};
use proptest::prelude::*;
use proptest::sample::Index;
use std::collections::BTreeMap;
use std::ops::Bound;

fn winners(log: &[Logged], target: Bound<Lsn>) -> Winners {
    log.iter().filter_map(|logged| logged.span(target)).collect()
}

/// The log in parts that are divided at these places.
fn divided<'a>(log: &'a [Logged], places: &[Index]) -> Vec<&'a [Logged]> {
    let mut places: Vec<usize> = places.iter().map(|place| place.index(log.len() + 1)).collect();
    places.extend([0, log.len()]);
    places.sort_unstable();
    places.windows(2).map(|part| &log[part[0]..part[1]]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    // Law 6, FAILURES 16, 45: transactions that abort or never end, reused transaction numbers, and
    // blocks that are cut off.
    #[test]
    fn both_orders_equal_a_replay_oldest_first(
        acts in acts(),
        target in target(),
        base in base(),
        places in prop::collection::vec(any::<Index>(), 0..8),
        order in prop::collection::vec((any::<Index>(), any::<Index>()), 9),
    ) {
        let log = log(&acts);
        let model = replay(&log, target, &base);
        let objects = divided(&log, &places);
        prop_assert_eq!(&restored(&objects, target, &base), &model, "newest first");

        let winners = winners(&log, target);
        let mut parts: Vec<Part> = objects.iter().map(|part| Part::of(part, &winners)).collect();
        for (one, other) in order {
            // Joins any two parts, until one is left.
            if parts.len() > 1 {
                let one = parts.swap_remove(one.index(parts.len()));
                let other = parts.swap_remove(other.index(parts.len()));
                parts.push(one.join(other));
            }
        }
        let whole = parts.into_iter().reduce(Part::join).unwrap_or_default();
        prop_assert_eq!(whole.over(&base), model, "any order");
    }

    #[test]
    fn winners_are_the_records_that_a_later_commit_covers(acts in acts(), target in target()) {
        let log = log(&acts);
        let winners = winners(&log, target);
        for (nth, logged) in log.iter().enumerate().filter(|(_, l)| !matches!(l.what, What::Commit { .. })) {
            prop_assert_eq!(winners.counts(logged.tx, logged.lsn), counts(&log, target, nth), "record {}", nth);
            let span = winners.span_of(logged.tx, logged.lsn);
            prop_assert!(span.is_none_or(|span| span.covers(logged.tx, logged.lsn)));
        }
    }

    #[test]
    fn open_transactions_have_records_and_no_end(acts in acts(), target in target(), place: Index) {
        let log: Vec<Logged> = log(&acts).into_iter().filter(|l| is_within(target, l.end)).collect();
        let mut open = OpenTransactions::default();
        let place = place.index(log.len() + 1);
        for (nth, logged) in log.iter().enumerate() {
            if nth == place {
                // A pass that continues from a stored state.
                let stored: Vec<_> = open.iter().map(|(tx, open)| (tx, *open)).collect();
                open = OpenTransactions::resume(open.incarnation(), stored);
            }
            open.enter(logged.incarnation);
            match logged.what {
                What::Commit { .. } | What::Abort => drop(open.end(logged.tx)),
                _ => *open.record(logged.tx, logged.lsn, || 0u64) += 1,
            }
        }
        let found: BTreeMap<TxId, (Lsn, u64)> = open.iter().map(|(tx, open)| (tx, (open.first, open.state))).collect();
        prop_assert_eq!(found, naive_open(&log));
    }
}

/// The transactions whose last records in the last incarnation are neither commit nor abort: LSN of
/// the first of these, and their number.
fn naive_open(log: &[Logged]) -> BTreeMap<TxId, (Lsn, u64)> {
    let mut open = BTreeMap::new();
    let Some(last) = log.last() else { return open };
    for logged in log.iter().filter(|logged| logged.incarnation == last.incarnation) {
        match logged.what {
            What::Commit { .. } | What::Abort => drop(open.remove(&logged.tx)),
            _ => open.entry(logged.tx).or_insert((logged.lsn, 0)).1 += 1,
        }
    }
    open
}

#[test]
fn a_record_without_a_transaction_is_not_an_open_transaction() {
    let mut open = OpenTransactions::default();
    open.enter(Incarnation::FIRST);
    open.record(TxId::NONE, Lsn::new(5), || ());
    assert_eq!(open.iter().count(), 0);
}
