//! In which spans of a history every commit can be restored, in which not, and why. Pure: names in, spans out.
//!
//! A state is restorable if some snapshot, or the empty base when the log reaches back to its origin, stands at or
//! before it and no part of the log between the snapshot's `redo_from` and it is missing.

use crate::lineage::{Lineage, Piece};
use crate::timeline::ForkReason;
use pitr_format::record::GapReason;
use pitr_format::{Lsn, TimelineId};
use pitr_objects::layout::LogName;
use std::fmt;

/// A snapshot, as far as coverage is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Base {
    /// Its state includes every commit up to here.
    pub consistent_at: Lsn,
    /// The log is needed from here on. Equal to `consistent_at` if the snapshot needs no log.
    pub redo_from: Lsn,
    /// Timeline that it was taken of.
    pub timeline: TimelineId,
}

/// A span of the log without a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Where it begins.
    pub from: Lsn,
    /// Where it ends.
    pub to: Lsn,
    /// Its first object.
    pub first: LogName,
}

/// A span in which every commit can be restored, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    /// The oldest state.
    pub from: Lsn,
    /// The newest state.
    pub to: Lsn,
}

/// Why a span can't be restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// Log objects are missing.
    Missing,
    /// Commits of the source were not captured, for the reason that the log gives when it gives one.
    NotLogged(Option<GapReason>),
    /// Commits of the source were not captured before a new timeline began.
    Forked(ForkReason),
    /// The log is there, but no snapshot to begin from.
    NoBase,
    /// Retention took it away.
    Pruned,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cause::Missing => "log objects are missing from the repository; `pitr verify` names the range",
            Cause::NotLogged(Some(reason)) => reason.as_str(),
            Cause::NotLogged(None) => "commits made while the database was not watched were not captured",
            Cause::Forked(reason) => reason.as_str(),
            Cause::NoBase => "its commits are archived, but there is no snapshot to restore them from",
            Cause::Pruned => "pruned: retention removed it",
        })
    }
}

/// A span that can't be restored: the states behind `from` and before `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The last state before it.
    pub from: Lsn,
    /// The first state after it, or the end of the log.
    pub to: Lsn,
    /// Why.
    pub cause: Cause,
    /// The log object behind the hole; its footer may know a better reason.
    pub behind: Option<LogName>,
}

/// What of a history can be restored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Coverage {
    /// Ascending, apart from each other.
    pub intervals: Vec<Interval>,
    /// Ascending, between the intervals and behind the last.
    pub gaps: Vec<Gap>,
}

impl Gap {
    /// The part of the log that is not there, or is of no use.
    pub(crate) fn hole(&self) -> (Lsn, Lsn) {
        (self.from, self.behind.map_or(self.to, |name| name.from))
    }
}

impl Coverage {
    /// The interval that holds this state.
    #[must_use]
    pub fn interval_at(&self, lsn: Lsn) -> Option<&Interval> {
        self.intervals.iter().find(|i| i.from <= lsn && lsn <= i.to)
    }
}

/// The spans without a hole of pieces that ascend.
#[must_use]
pub fn runs(pieces: &[Piece]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for piece in pieces {
        match runs.last_mut() {
            Some(run) if run.to == piece.from() => run.to = piece.to,
            _ => runs.push(Run { from: piece.from(), to: piece.to, first: piece.name }),
        }
    }
    runs
}

/// True if `base` can be brought to the state at `stop` with these runs.
#[must_use]
pub fn reaches(base: &Base, stop: Lsn, runs: &[Run]) -> bool {
    let alone = base.redo_from == base.consistent_at && stop == base.consistent_at;
    let held = |run: &Run| run.from <= base.redo_from && stop <= run.to;
    base.consistent_at <= stop && (alone || runs.iter().any(held))
}

/// The intervals and gaps of a history whose log objects are `pieces`, ascending.
#[must_use]
pub fn coverage(lineage: &Lineage, pieces: &[Piece], bases: &[Base]) -> Coverage {
    let runs = runs(pieces);
    let mut spans: Vec<Interval> = Vec::new();
    if let Some(run) = runs.iter().find(|run| run.from == Lsn::ORIGIN) {
        spans.push(Interval { from: Lsn::ORIGIN, to: run.to });
    }
    for base in bases.iter().filter(|base| lineage.holds(base.timeline, base.consistent_at)) {
        let from = base.consistent_at;
        let run = runs.iter().find(|run| run.from <= base.redo_from && from <= run.to);
        match run {
            Some(run) => spans.push(Interval { from, to: run.to }),
            None if base.redo_from == from => spans.push(Interval { from, to: from }),
            None => {}
        }
    }
    let intervals = joined(spans);
    let gaps = gaps(&intervals, &runs);
    Coverage { intervals, gaps }
}

fn joined(mut spans: Vec<Interval>) -> Vec<Interval> {
    spans.sort_unstable_by_key(|s| (s.from, s.to));
    let mut out: Vec<Interval> = Vec::new();
    for span in spans {
        match out.last_mut() {
            Some(last) if span.from <= last.to => last.to = last.to.max(span.to),
            _ => out.push(span),
        }
    }
    out
}

fn gaps(intervals: &[Interval], runs: &[Run]) -> Vec<Gap> {
    let mut gaps = Vec::new();
    let log_end = runs.iter().map(|run| run.to).max();
    for (no, interval) in intervals.iter().enumerate() {
        let next = intervals.get(no + 1).map(|next| next.from);
        let Some(to) = next.or(log_end).filter(|to| *to > interval.to) else { continue };
        let behind = runs.iter().find(|run| interval.to < run.from && run.from <= to);
        gaps.push(Gap {
            from: interval.to,
            to,
            // Without an object behind it the log has not come as far as the next snapshot: it is missing too.
            cause: Cause::Missing,
            behind: behind.map(|run| run.first),
        });
    }
    if let (true, Some(first), Some(to)) = (intervals.is_empty(), runs.first(), log_end) {
        gaps.push(Gap { from: first.from, to, cause: Cause::NoBase, behind: None });
    }
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lineage::Leg;
    use pitr_format::Epoch;
    use proptest::prelude::*;

    fn path() -> Lineage {
        Lineage::new(vec![Leg { timeline: TimelineId::FIRST, from: Lsn::ORIGIN, to: Lsn::MAX }])
    }

    fn pieces(ranges: &[(u64, u64)]) -> Vec<Piece> {
        let piece = |&(from, to)| {
            let (from, to) = (Lsn::new(from), Lsn::new(to));
            let name = LogName { timeline: TimelineId::FIRST, from, to, epoch: Epoch::FIRST };
            Piece { name, stored_bytes: 1, to }
        };
        ranges.iter().map(piece).collect()
    }

    fn base(redo_from: u64, consistent_at: u64) -> Base {
        let (consistent_at, redo_from) = (Lsn::new(consistent_at), Lsn::new(redo_from));
        Base { consistent_at, redo_from, timeline: TimelineId::FIRST }
    }

    fn spans(coverage: &Coverage) -> Vec<(u64, u64)> {
        coverage.intervals.iter().map(|i| (i.from.get(), i.to.get())).collect()
    }

    #[test]
    fn a_missing_object_in_the_middle_is_a_gap() {
        // FAILURES 11
        let found =
            coverage(&path(), &pieces(&[(10, 20), (20, 30), (40, 50)]), &[base(10, 10), base(44, 44)]);
        assert_eq!(spans(&found), [(10, 30), (44, 50)]);
        assert_eq!((found.gaps[0].from, found.gaps[0].to), (Lsn::new(30), Lsn::new(44)));
        assert_eq!(found.gaps[0].behind.unwrap().from, Lsn::new(40));
        assert_eq!(found.gaps.len(), 1);
    }

    #[test]
    fn a_log_behind_a_hole_without_a_snapshot_is_a_gap_to_its_end() {
        let found = coverage(&path(), &pieces(&[(0, 20), (40, 50)]), &[]);
        assert_eq!(spans(&found), [(0, 20)]);
        assert_eq!((found.gaps[0].from, found.gaps[0].to), (Lsn::new(20), Lsn::new(50)));
        let none = coverage(&path(), &pieces(&[(10, 20)]), &[]);
        assert!(none.intervals.is_empty());
        assert_eq!(none.gaps[0].cause, Cause::NoBase);
    }

    #[test]
    fn a_snapshot_that_needs_log_is_worth_nothing_without_it() {
        let found = coverage(&path(), &pieces(&[(20, 30)]), &[base(15, 25), base(22, 26)]);
        assert_eq!(spans(&found), [(26, 30)]);
        assert_eq!(spans(&coverage(&path(), &[], &[base(15, 25), base(7, 7)])), [(7, 7)]);
    }

    proptest! {
        /// Law 5 in small: a state lies in an interval exactly if some base reaches it.
        #[test]
        fn intervals_are_what_bases_reach(
            cuts in prop::collection::btree_set(0u64..60, 2..12), holes: u16,
            raw in prop::collection::vec((0u64..60, 0u64..8), 0..5),
        ) {
            let cuts: Vec<u64> = cuts.into_iter().collect();
            let ranges: Vec<(u64, u64)> = cuts.windows(2).map(|w| (w[0], w[1])).enumerate()
                .filter(|(no, _)| holes >> no & 1 == 0).map(|(_, range)| range).collect();
            let pieces = pieces(&ranges);
            let mut bases: Vec<Base> = raw.iter().map(|(at, back)| base(at.saturating_sub(*back), *at)).collect();
            let found = coverage(&path(), &pieces, &bases);
            bases.push(base(0, 0));
            let runs = runs(&pieces);
            let from_origin = runs.iter().any(|run| run.from == Lsn::ORIGIN) || raw.iter().any(|(at, _)| *at == 0);
            for lsn in 0..64 {
                let lsn = Lsn::new(lsn);
                let usable = if from_origin { &bases[..] } else { &bases[..raw.len()] };
                let reached = usable.iter().any(|base| reaches(base, lsn, &runs));
                prop_assert_eq!(found.interval_at(lsn).is_some(), reached, "{}", lsn);
            }
            for pair in found.intervals.windows(2) {
                prop_assert!(pair[0].to < pair[1].from);
                prop_assert!(found.gaps.iter().any(|gap| gap.from == pair[0].to && gap.to == pair[1].from));
            }
        }
    }
}
