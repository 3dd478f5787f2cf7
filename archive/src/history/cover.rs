//! Which objects of a timeline count, where some were merged from others.
//!
//! # Promises
//! - No position counts twice.
//! - A merged object replaces those in its range. Merged objects may overlap each other: two
//!   writers may have merged the same log, or a put may have landed late. All hold the same log, so
//!   any choice that leaves no hole is right.
//! - Shipped objects that overlap are refused, unless they are the same range: their content must
//!   be compared (FAILURES 13).

use crate::error::Error;
use pitr_format::Lsn;
use pitr_objects::layout::LogName;
use std::cmp::Reverse;
use std::collections::HashMap;

/// A log object and its size in bytes.
pub(super) type Sized = (LogName, u64);

/// The objects of a timeline, by what they are good for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Cover {
    /// The objects that count. They ascend and do not overlap.
    pub(super) line: Vec<Sized>,
    /// Pairs of shipped objects with the same range. The first of each counts.
    pub(super) twins: Vec<(LogName, LogName)>,
    /// Objects whose range others hold.
    pub(super) replaced: Vec<Sized>,
}

impl Cover {
    /// Chooses among the objects of one timeline.
    pub(super) fn of(mut found: Vec<Sized>) -> Result<Cover, Error> {
        // Of one range the highest level comes first, then the earliest writer.
        found.sort_unstable_by_key(|(name, _)| (name.from, name.to, Reverse(name.level), name.epoch));
        let mut cover = Cover::default();
        let mut ranges: Vec<Sized> = Vec::with_capacity(found.len());
        for one in found {
            match ranges.last() {
                Some((last, _)) if (last.from, last.to) == (one.0.from, one.0.to) => match last.level {
                    0 => cover.twins.push((*last, one.0)),
                    _ => cover.replaced.push(one),
                },
                _ => ranges.push(one),
            }
        }
        let (chosen, others) = split(ranges);
        cover.line = chosen;
        for other in others {
            cover.check_replaced(&other.0)?;
            cover.replaced.push(other);
        }
        Ok(cover)
    }

    /// Fails unless objects that count hold the range of this one.
    fn check_replaced(&self, other: &LogName) -> Result<(), Error> {
        let meeting = meeting(&self.line, other);
        let mut reached = other.from;
        let holds = meeting.iter().all(|(name, _)| {
            // A shipped object was merged as a whole; only merged ones overlap in other ways.
            let may_hold =
                if other.level == 0 { name.covers(other) && name.level > 0 } else { name.from <= reached };
            reached = name.to;
            may_hold
        });
        if holds && reached >= other.to {
            return Ok(());
        }
        let overlapping = meeting.first().map_or(*other, |(name, _)| *name);
        let (a, b) = if overlapping < *other { (overlapping, *other) } else { (*other, overlapping) };
        Err(Error::Overlap { a, b })
    }
}

/// The objects of a line that share a position with this one.
pub(super) fn meeting<'l>(line: &'l [Sized], other: &LogName) -> &'l [Sized] {
    let first = line.partition_point(|(name, _)| name.to <= other.from);
    let rest = &line[first..];
    &rest[..rest.partition_point(|(name, _)| name.from < other.to)]
}

/// Chooses a path through the ranges, which are sorted and differ: at each position the one from
/// which the log goes on furthest without a hole, then the longest. Returns it and the others.
fn split(ranges: Vec<Sized>) -> (Vec<Sized>, Vec<Sized>) {
    // For each start: how far a path reaches, the end of its first range, and that range.
    let mut best: HashMap<Lsn, (Lsn, Lsn, usize)> = HashMap::with_capacity(ranges.len());
    for (at, (name, _)) in ranges.iter().enumerate().rev() {
        let reach = best.get(&name.to).map_or(name.to, |(reach, ..)| *reach);
        let path = (reach, name.to, at);
        best.entry(name.from).and_modify(|known| *known = path.max(*known)).or_insert(path);
    }
    let (mut is_chosen, mut position) = (vec![false; ranges.len()], Lsn::ORIGIN);
    while let Some((name, _)) = ranges.get(ranges.partition_point(|(name, _)| name.from < position)) {
        let (_, to, at) = best[&name.from]; // each start has one
        (is_chosen[at], position) = (true, to);
    }
    let (mut chosen, mut others) = (Vec::with_capacity(ranges.len()), Vec::new());
    for (one, is_chosen) in ranges.into_iter().zip(is_chosen) {
        if is_chosen { chosen.push(one) } else { others.push(one) }
    }
    (chosen, others)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitr_format::{Epoch, TimelineId};
    use proptest::prelude::*;

    fn name(level: u8, epoch: u64, from: u64, to: u64) -> Sized {
        let (timeline, epoch) = (TimelineId::FIRST, Epoch::new(epoch));
        (LogName { timeline, epoch, from: Lsn::new(from), to: Lsn::new(to), level }, to - from)
    }

    fn spans(of: &[Sized]) -> Vec<(u8, u64, u64)> {
        of.iter().map(|(name, _)| (name.level, name.from.get(), name.to.get())).collect()
    }

    #[test]
    fn a_merged_object_replaces_those_in_its_range() {
        // FAILURES 24
        let found = vec![name(0, 1, 0, 10), name(0, 1, 10, 20), name(1, 1, 0, 20), name(0, 1, 20, 30)];
        let cover = Cover::of(found).unwrap();
        assert_eq!(spans(&cover.line), [(1, 0, 20), (0, 20, 30)]);
        assert_eq!(spans(&cover.replaced), [(0, 0, 10), (0, 10, 20)]);
    }

    #[test]
    fn merged_objects_of_two_writers_may_overlap() {
        let shipped = [(0, 10), (10, 20), (20, 30), (30, 40)].map(|(from, to)| name(0, 1, from, to));
        let merged = [name(1, 1, 0, 30), name(1, 2, 10, 40)];
        let cover = Cover::of(shipped.into_iter().chain(merged).collect()).unwrap();
        assert_eq!(spans(&cover.line), [(1, 0, 30), (0, 30, 40)]);
        // The shipped objects below the second one were deleted: the first one leads to a hole.
        let cover = Cover::of(vec![shipped[0], merged[0], merged[1]]).unwrap();
        assert_eq!(spans(&cover.line), [(0, 0, 10), (1, 10, 40)]);
        assert_eq!(spans(&cover.replaced), [(1, 0, 30)]);
        assert!(Cover::of(merged.to_vec()).is_err(), "neither holds all");
    }

    #[test]
    fn shipped_objects_that_overlap_are_refused() {
        // FAILURES 13
        for (a, b) in [((0, 10), (5, 15)), ((0, 20), (0, 10)), ((0, 20), (5, 10)), ((0, 20), (10, 20))] {
            let found = vec![name(0, 1, a.0, a.1), name(0, 2, b.0, b.1)];
            assert!(matches!(Cover::of(found), Err(Error::Overlap { .. })), "{a:?} {b:?}");
        }
        let found = vec![name(1, 1, 0, 20), name(0, 2, 10, 30)];
        assert!(matches!(Cover::of(found), Err(Error::Overlap { .. })), "it was not merged as a whole");
        let twins = Cover::of(vec![name(0, 1, 0, 10), name(0, 2, 0, 10)]).unwrap().twins;
        assert_eq!(twins, [(name(0, 1, 0, 10).0, name(0, 2, 0, 10).0)]);
    }

    proptest! {
        #[test]
        fn every_position_that_some_object_holds_counts_once(
            lens in prop::collection::vec((1u64..6, prop::bool::weighted(0.1)), 1..30),
            merges in prop::collection::vec((0usize..30, 2usize..12, 1u8..4, 1u64..3), 0..8),
            deleted in prop::collection::vec(prop::bool::ANY, 30),
        ) {
            // Shipped objects, some after a hole. Those below a merged object may be deleted.
            let mut at = 0;
            let shipped: Vec<Sized> = lens.iter().map(|(len, hole)| {
                let from = at + u64::from(*hole);
                at = from + len;
                name(0, 1, from, at)
            }).collect();
            let merged: Vec<Sized> = merges.iter().filter_map(|(first, count, level, epoch)| {
                let run = shipped.get(*first..(first + count).min(shipped.len()))?;
                let whole = run.windows(2).all(|pair| pair[0].0.to == pair[1].0.from);
                let (first, last) = (run.first()?, run.last()?);
                whole.then(|| name(*level, *epoch, first.0.from.get(), last.0.to.get()))
            }).collect();
            let before = Cover::of(shipped.iter().chain(&merged).copied().collect()).unwrap();
            // Prune deletes only what is replaced.
            let left: Vec<Sized> = before.line.iter().copied()
                .chain(before.replaced.iter().zip(&deleted).filter(|(_, gone)| !**gone).map(|(one, _)| *one))
                .collect();
            for found in [shipped.iter().chain(&merged).copied().collect(), left] {
                let cover = Cover::of(found).unwrap();
                prop_assert!(cover.line.windows(2).all(|pair| pair[0].0.to <= pair[1].0.from));
                let positions = |of: &[Sized]| -> Vec<u64> {
                    of.iter().flat_map(|(name, _)| name.from.get()..name.to.get()).collect()
                };
                prop_assert_eq!(positions(&cover.line), positions(&shipped));
            }
        }
    }
}
