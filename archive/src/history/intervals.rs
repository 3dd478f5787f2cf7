//! Restorable intervals and gaps of a history. Pure: derived from names alone.
//!
//! A state is restorable if there is a snapshot at or before it, and no part of the log between the
//! snapshot's `redo_from` and the state is missing. If the log reaches back to its origin, the
//! empty base serves as a snapshot.

use super::lineage::{Lineage, Piece};
use crate::stored::ForkReason;
use pitr_format::record::GapReason;
use pitr_format::{Lsn, TimelineId};
use pitr_objects::layout::LogName;
use std::fmt;

/// The parts of a snapshot that coverage needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Base {
    /// The snapshot's state includes every commit up to here.
    pub consistent_at: Lsn,
    /// First LSN of the needed log. Equal to `consistent_at` if the snapshot needs no log.
    pub redo_from: Lsn,
    /// Timeline of the snapshot.
    pub timeline: TimelineId,
}

/// A part of the log without a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Start of the run.
    pub from: Lsn,
    /// End of the run.
    pub to: Lsn,
    /// The first object of the run.
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
    /// Commits of the source were not captured, with the reason if the log states one.
    NotLogged(Option<GapReason>),
    /// Commits of the source were not captured before a new timeline began.
    Forked(ForkReason),
    /// The log exists, but there is no snapshot to begin from.
    NoBase,
    /// Retention removed the log.
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

/// A span that can't be restored: the states after `from` and before `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The last restorable state before it.
    pub from: Lsn,
    /// The first restorable state after it, or the end of the log.
    pub to: Lsn,
    /// The cause.
    pub cause: Cause,
    /// The log object after the hole; its footer may state a more exact cause.
    pub behind: Option<LogName>,
}

/// The restorable intervals and the gaps of a history.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Coverage {
    /// Ascending; they do not touch.
    pub intervals: Vec<Interval>,
    /// Ascending, between the intervals and after the last.
    pub gaps: Vec<Gap>,
}

impl Gap {
    /// The part of the log that is missing or unusable.
    pub(crate) fn hole(&self) -> (Lsn, Lsn) {
        (self.from, self.behind.map_or(self.to, |name| name.from))
    }
}

impl Coverage {
    /// The interval that contains this state.
    #[must_use]
    pub fn interval_at(&self, lsn: Lsn) -> Option<&Interval> {
        self.intervals.iter().find(|i| i.from <= lsn && lsn <= i.to)
    }
}

/// The runs of pieces without a hole; the pieces must ascend.
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

/// True if `base` and these runs reach the state at `stop`.
#[must_use]
pub fn reaches(base: &Base, stop: Lsn, runs: &[Run]) -> bool {
    let alone = base.redo_from == base.consistent_at && stop == base.consistent_at;
    let held = |run: &Run| run.from <= base.redo_from && stop <= run.to;
    base.consistent_at <= stop && (alone || runs.iter().any(held))
}

/// Where the restore of a state starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The empty state at the log's origin.
    Origin,
    /// The base at this position of the list.
    Base(usize),
}

/// The start of a restore of the state at `stop`: the newest base from which the log leads there
/// without a hole, or else the origin. `None` if the state can't be restored. Bases and runs belong
/// to one history.
#[must_use]
pub fn start_for(bases: &[Base], stop: Lsn, runs: &[Run]) -> Option<Start> {
    let reaching = bases.iter().enumerate().filter(|(_, base)| reaches(base, stop, runs));
    let newest = reaching.max_by_key(|(_, base)| (base.consistent_at, base.redo_from));
    let from_origin = || runs.iter().any(|run| run.from == Lsn::ORIGIN && stop <= run.to);
    newest.map(|(at, _)| Start::Base(at)).or_else(|| from_origin().then_some(Start::Origin))
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
            // Without a later object, the log up to the next snapshot is missing too.
            cause: Cause::Missing,
            behind: behind.map(|run| run.first),
        });
    }
    if let (true, Some(first), Some(to)) = (intervals.is_empty(), runs.first(), log_end) {
        gaps.push(Gap { from: first.from, to, cause: Cause::NoBase, behind: None });
    }
    gaps
}

/// True if these ranges cover every position from `from` up to `to`.
pub(crate) fn cover(ranges: impl IntoIterator<Item = (Lsn, Lsn)>, from: Lsn, to: Lsn) -> bool {
    let mut ranges: Vec<(Lsn, Lsn)> = ranges.into_iter().collect();
    ranges.sort_unstable();
    let reached =
        ranges.into_iter().fold(from, |at, (begin, end)| if begin <= at { at.max(end) } else { at });
    reached >= to
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Leg;
    use pitr_format::Epoch;
    use proptest::prelude::*;

    fn path() -> Lineage {
        Lineage::new(vec![Leg { timeline: TimelineId::FIRST, from: Lsn::ORIGIN, to: Lsn::MAX }])
    }

    fn pieces(ranges: &[(u64, u64)]) -> Vec<Piece> {
        let piece = |&(from, to)| {
            let (from, to) = (Lsn::new(from), Lsn::new(to));
            let name = LogName { timeline: TimelineId::FIRST, from, to, epoch: Epoch::FIRST, level: 0 };
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
    fn log_after_a_hole_without_a_snapshot_is_a_gap_to_its_end() {
        let found = coverage(&path(), &pieces(&[(0, 20), (40, 50)]), &[]);
        assert_eq!(spans(&found), [(0, 20)]);
        assert_eq!((found.gaps[0].from, found.gaps[0].to), (Lsn::new(20), Lsn::new(50)));
        let none = coverage(&path(), &pieces(&[(10, 20)]), &[]);
        assert!(none.intervals.is_empty());
        assert_eq!(none.gaps[0].cause, Cause::NoBase);
    }

    #[test]
    fn a_snapshot_that_needs_log_is_not_restorable_without_it() {
        let found = coverage(&path(), &pieces(&[(20, 30)]), &[base(15, 25), base(22, 26)]);
        assert_eq!(spans(&found), [(26, 30)]);
        assert_eq!(spans(&coverage(&path(), &[], &[base(15, 25), base(7, 7)])), [(7, 7)]);
    }

    proptest! {
        /// Law 5 in small: a state lies in an interval exactly if a base reaches it.
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

    #[test]
    fn ranges_cover_together_what_none_covers_alone() {
        let lsn = Lsn::new;
        let ranges = [(lsn(20), lsn(30)), (lsn(0), lsn(12)), (lsn(10), lsn(20))];
        assert!(cover(ranges, lsn(5), lsn(30)));
        assert!(!cover(ranges, lsn(5), lsn(31)));
        assert!(!cover([(lsn(0), lsn(12)), (lsn(13), lsn(30))], lsn(5), lsn(30)));
        assert!(cover([], lsn(5), lsn(5)));
    }
}
