//! The tail decision: what to do where the valid batches end (law 2).
//!
//! Valid batches end at D. The rest of the segment is searched for statements of a durable point
//! above D. The first matching row decides:
//!
//! | row | a witness above D | rest of the segment | last record | decision |
//! | --- | --- | --- | --- | --- |
//! | a | yes | any | any | refuse: a hole |
//! | b | no | bytes | any | cut at D: a torn tail |
//! | c | no | zeros, or none | unfinished | cut at D: the write with its rest is lost |
//! | d | no | zeros, or none | whole | append at D |
//!
//! A witness is one of these:
//! - the header of a later batch of the same incarnation whose `durable` is above D;
//! - the header of the next segment, which states where this one ends (`follows.end`);
//! - the archive, which takes only durable bytes.
//!
//! Damage to the last acknowledged batch, with no later witness, looks like a torn tail: no log can
//! distinguish the two.

use crate::error::{Damage, Witness};
use pitr_format::Lsn;

/// The bytes after the last valid batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    /// No bytes: the segment is full, or its successor starts here.
    None,
    /// Zeros to the end of the segment.
    Zeros,
    /// Other bytes. `reach` is the distance from D to the end of the last byte that is not zero.
    Bytes { reach: u64, damage: Damage },
}

/// The state at the end of the valid batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tail {
    /// D: the end of the valid batches.
    pub(crate) at: Lsn,
    pub(crate) rest: Rest,
    /// True if the last record before D is incomplete.
    pub(crate) unfinished: bool,
    /// The highest stated durable point, and its witness.
    pub(crate) stated: Option<(Lsn, Witness)>,
}

/// The decision about a tail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Row a.
    Hole { durable: Lsn, witness: Witness, damage: Damage },
    /// Rows b and c: end the segment at D and begin the next one under a higher incarnation. Drops
    /// `bytes`.
    Cut { bytes: u64 },
    /// Row d.
    Append,
}

/// Decides by the table in the module's head.
pub(crate) fn decide(tail: &Tail) -> Decision {
    match (tail.stated, tail.rest, tail.unfinished) {
        // row a
        (Some((durable, witness)), rest, _) if durable > tail.at => {
            let damage = match rest {
                Rest::None => Damage::Unfinished,
                Rest::Zeros => Damage::Zeros,
                Rest::Bytes { damage, .. } => damage,
            };
            Decision::Hole { durable, witness, damage }
        }
        // row b
        (_, Rest::Bytes { reach, .. }, _) => Decision::Cut { bytes: reach },
        // row c
        (_, Rest::None | Rest::Zeros, true) => Decision::Cut { bytes: 0 },
        // row d
        (_, Rest::None | Rest::Zeros, false) => Decision::Append,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: Lsn = Lsn::new(5000);
    const BYTES: Rest = Rest::Bytes { reach: 77, damage: Damage::Bytes };

    fn tail(stated: Option<u64>, rest: Rest, unfinished: bool) -> Tail {
        Tail { at: D, rest, unfinished, stated: stated.map(|lsn| (Lsn::new(lsn), Witness::Archive)) }
    }

    #[test]
    fn row_a_a_witness_above_the_damage_makes_it_a_hole() {
        // FAILURES 12
        for (rest, damage) in
            [(Rest::None, Damage::Unfinished), (Rest::Zeros, Damage::Zeros), (BYTES, Damage::Bytes)]
        {
            for unfinished in [false, true] {
                let hole = Decision::Hole { durable: Lsn::new(5001), witness: Witness::Archive, damage };
                assert_eq!(decide(&tail(Some(5001), rest, unfinished)), hole);
            }
        }
    }

    #[test]
    fn row_b_bytes_without_a_witness_are_a_torn_tail() {
        // FAILURES 12
        for stated in [None, Some(4000), Some(5000)] {
            for unfinished in [false, true] {
                assert_eq!(decide(&tail(stated, BYTES, unfinished)), Decision::Cut { bytes: 77 });
            }
        }
    }

    #[test]
    fn row_c_a_record_whose_rest_was_lost_is_cut_off_though_only_zeros_follow() {
        for rest in [Rest::None, Rest::Zeros] {
            assert_eq!(decide(&tail(Some(5000), rest, true)), Decision::Cut { bytes: 0 });
        }
    }

    #[test]
    fn row_d_a_clean_tail_is_appended_to() {
        for rest in [Rest::None, Rest::Zeros] {
            for stated in [None, Some(5000)] {
                assert_eq!(decide(&tail(stated, rest, false)), Decision::Append);
            }
        }
    }
}
