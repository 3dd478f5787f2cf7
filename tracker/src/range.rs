//! Ranges of a log.

use crate::{Error, Result};
use pitr_format::Lsn;
use std::fmt;

/// The log positions from one LSN (inclusive) to another (exclusive).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LsnRange {
    from: Lsn,
    to: Lsn,
}

impl LsnRange {
    /// Creates the range from `from` (inclusive) to `to` (exclusive).
    ///
    /// # Errors
    /// [`Error::Range`] if `to` is below `from`.
    pub fn new(from: Lsn, to: Lsn) -> Result<Self> {
        if from <= to { Ok(LsnRange { from, to }) } else { Err(Error::Range { from, to }) }
    }

    /// The first position.
    #[must_use]
    pub fn from(&self) -> Lsn {
        self.from
    }

    /// The position right after the last one.
    #[must_use]
    pub fn to(&self) -> Lsn {
        self.to
    }

    /// True if the range contains no position.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.from == self.to
    }

    /// True if the range contains this position.
    #[must_use]
    pub fn contains(&self, lsn: Lsn) -> bool {
        self.from <= lsn && lsn < self.to
    }

    /// True if the range contains every position of `other`.
    #[must_use]
    pub fn covers(&self, other: &LsnRange) -> bool {
        other.is_empty() || (self.from <= other.from && other.to <= self.to)
    }

    /// True if the ranges have a position in common.
    #[must_use]
    pub fn overlaps(&self, other: &LsnRange) -> bool {
        self.from.max(other.from) < self.to.min(other.to)
    }

    /// The non-empty parts of this range before and after `covered`.
    pub(crate) fn minus(&self, covered: &LsnRange) -> impl Iterator<Item = LsnRange> + use<> {
        let front = LsnRange { from: self.from, to: self.to.min(covered.from) };
        let back = LsnRange { from: self.from.max(covered.to), to: self.to };
        let parts = if covered.is_empty() { [Some(*self), None] } else { [Some(front), Some(back)] };
        parts.into_iter().flatten().filter(|part| part.from < part.to)
    }
}

impl fmt::Display for LsnRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", self.from, self.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range() -> impl Strategy<Value = LsnRange> {
        (0u64..12, 0u64..12).prop_map(|(a, b)| LsnRange { from: Lsn::new(a.min(b)), to: Lsn::new(a.max(b)) })
    }

    proptest! {
        #[test]
        fn a_difference_holds_the_positions_of_the_first_range_only(a in range(), b in range(), at in 0u64..12) {
            let at = Lsn::new(at);
            let parts: Vec<LsnRange> = a.minus(&b).collect();
            let held = parts.iter().filter(|part| part.contains(at)).count();
            prop_assert_eq!(held, usize::from(a.contains(at) && !b.contains(at)));
            prop_assert!(parts.iter().all(|part| !part.is_empty()));
            prop_assert_eq!(a.overlaps(&b), (0..12).any(|at| a.contains(Lsn::new(at)) && b.contains(Lsn::new(at))));
        }
    }

    #[test]
    fn a_range_that_ends_before_it_begins_is_refused() {
        assert!(LsnRange::new(Lsn::new(2), Lsn::new(1)).is_err());
        assert!(LsnRange::new(Lsn::new(2), Lsn::new(2)).is_ok_and(|range| range.is_empty()));
    }
}
