//! The questions that a pass asks about open transactions, and the join of two passes.

use crate::log::{Logged, What, acts, log};
use pitr_format::{Incarnation, Lsn, TxId};
use pitr_redo::{Open, OpenTransactions};
use proptest::prelude::*;
use proptest::sample::Index;

/// Counts the records of each open transaction.
fn pass(records: &[Logged]) -> OpenTransactions<u64> {
    let mut open = OpenTransactions::default();
    for logged in records {
        open.enter(logged.incarnation);
        match logged.what {
            What::Commit { .. } | What::Abort => drop(open.end(logged.tx)),
            _ => *open.record(logged.tx, logged.lsn, || 0) += 1,
        }
    }
    open
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    // Law 6
    #[test]
    fn the_open_transactions_of_two_parts_join_to_those_of_the_whole(acts in acts(), place: Index) {
        let log = log(&acts);
        let (earlier, later) = log.split_at(place.index(log.len() + 1));
        let mut joined = pass(earlier);
        for logged in later {
            joined.enter(logged.incarnation);
            if matches!(logged.what, What::Commit { .. } | What::Abort) {
                joined.end(logged.tx);
            }
        }
        joined.join(pass(later), |own, added| *own += added);
        prop_assert_eq!(joined, pass(&log));
    }
}

fn tx(number: u64) -> TxId {
    TxId::new(number)
}

#[test]
fn a_transaction_is_open_from_its_first_record_to_its_end() {
    let mut open = OpenTransactions::default();
    open.enter(Incarnation::FIRST);
    assert!(open.is_empty() && !open.contains(tx(1)) && open.get_mut(tx(1)).is_none());
    open.record(tx(1), Lsn::new(5), || 'a');
    open.record(tx(2), Lsn::new(7), || 'b');
    *open.record(tx(1), Lsn::new(9), || 'c') = 'd';
    assert!(!open.is_empty() && open.contains(tx(1)) && open.contains(tx(2)) && !open.contains(tx(3)));
    assert_eq!((open.get_mut(tx(1)).copied(), open.get_mut(tx(2)).copied()), (Some('d'), Some('b')));
    assert_eq!(open.end(tx(1)), Some(Open { first: Lsn::new(5), state: 'd' }));
    assert_eq!(open.end(tx(1)), None, "it has ended");
    assert!(!open.contains(tx(1)) && open.contains(tx(2)));
    open.end(tx(2));
    assert!(open.is_empty());
}

#[test]
fn the_current_transaction_is_that_of_the_last_record() {
    let mut open = OpenTransactions::default();
    open.enter(Incarnation::FIRST);
    assert!(!open.is_current(tx(1)));
    open.record(tx(1), Lsn::new(5), || ());
    open.record(tx(2), Lsn::new(7), || ());
    assert!(open.is_current(tx(2)) && !open.is_current(tx(1)));
    open.end(tx(1));
    assert!(!open.is_current(tx(2)), "unknown after an end");
    open.record(tx(2), Lsn::new(9), || ());
    open.join(OpenTransactions::default(), |(), ()| ());
    assert!(!open.is_current(tx(2)), "unknown after a join");
    open.record(tx(2), Lsn::new(9), || ());
    open.enter(Incarnation::FIRST.next().unwrap());
    assert!(!open.is_current(tx(2)), "its writer died");
}

#[test]
fn a_new_incarnation_is_told_and_ends_what_was_open() {
    let (first, second) = (Incarnation::FIRST, Incarnation::FIRST.next().unwrap());
    let mut open = OpenTransactions::default();
    assert_eq!(open.incarnation(), None);
    assert!(!open.enter(first), "there was none before");
    open.record(tx(1), Lsn::new(5), || ());
    assert!(!open.enter(first) && open.contains(tx(1)), "the same one");
    assert!(open.enter(second) && open.is_empty());
    assert_eq!(open.incarnation(), Some(second));
}

#[test]
fn equal_are_the_same_transactions_after_the_same_incarnation() {
    let of = |incarnation, numbers: &[u64]| {
        let mut open = OpenTransactions::default();
        open.enter(incarnation);
        numbers.iter().for_each(|number| _ = open.record(tx(*number), Lsn::new(*number), || ()));
        open
    };
    let (first, second) = (Incarnation::FIRST, Incarnation::FIRST.next().unwrap());
    assert_eq!(of(first, &[1, 2]), of(first, &[2, 1]), "the order does not count");
    assert_ne!(of(first, &[1, 2]), of(first, &[1]));
    assert_ne!(of(first, &[1]), of(first, &[2]));
    assert_ne!(of(first, &[1]), of(second, &[1]));
}
