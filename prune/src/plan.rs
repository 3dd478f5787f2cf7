//! Which snapshots and log of a source are kept. Pure: it uses only names and descriptions.
//!
//! For each relevant timeline, a rule that keeps commits has an *anchor*: the last restorable
//! snapshot on the path to the timeline such that this snapshot and all earlier ones are older than
//! the rule's start. All snapshots from the anchor on are kept, and all log from its `redo_from`
//! on. Without an anchor everything is kept.
//!
//! A named recovery point keeps the snapshot that a restore of its state uses, and the log from
//! that snapshot to the point.
//!
//! A timeline is superseded when the next one is claimed. A window that starts later does not need
//! it, except for the part that its descendants share.
//!
//! The newest state of each instance of the source is kept: the original and its copies may all be
//! written.

use crate::{Policy, Reason};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use pitr_archive::{
    Base, Catalog, Lineage, LogName, NamedPoint, PointName, PrunedRange, Start, coverage, reaches, runs,
    start_for,
};
use pitr_format::{Lsn, TimelineId, Timestamp};
use pitr_snapshot::Snapshot;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

/// The listing of a source.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Listed<'a> {
    pub(crate) catalog: &'a Catalog,
    pub(crate) snapshots: &'a [Snapshot],
    /// The newest known moment of each timeline, from log and snapshots.
    pub(crate) newest: &'a BTreeMap<TimelineId, Timestamp>,
    pub(crate) points: &'a [NamedPoint],
    /// The newest timeline of each instance of the source.
    pub(crate) heads: &'a [TimelineId],
    /// The timeline whose history a restore uses unless told otherwise.
    pub(crate) followed: Option<TimelineId>,
}

/// Why nothing is pruned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A period that must remain restorable is not restorable: the missing state or object.
    Since(&'static str),
    /// This point can't be restored.
    Point(PointName),
}

impl From<&'static str> for Refusal {
    fn from(what: &'static str) -> Self {
        Refusal::Since(what)
    }
}

/// The plan for a source.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SourcePlan {
    /// For each snapshot, the rules that keep it. A snapshot that no rule keeps is deleted.
    pub(crate) reasons: Vec<BTreeSet<Reason>>,
    /// What each point needs.
    pub(crate) points: Vec<PointNeeds>,
    /// Log objects to delete.
    pub(crate) logs: Vec<(LogName, u64)>,
    /// The ranges of the log objects to delete.
    pub(crate) ranges: Vec<PrunedRange>,
}

/// What a recovery point needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PointNeeds {
    /// The snapshot; `None` if the point needs the log from its origin.
    pub(crate) base: Option<usize>,
    /// Parts of timelines whose log the point needs.
    spans: Vec<(TimelineId, Lsn, Lsn)>,
    /// Bytes of log that no rule and no other point keeps.
    pub(crate) log_bytes: u64,
    /// True if no rule and no other point keeps the snapshot.
    pub(crate) holds_base: bool,
}

impl PointNeeds {
    fn needs(&self, name: &LogName) -> bool {
        let within = |(timeline, from, to): &(TimelineId, Lsn, Lsn)| {
            *timeline == name.timeline && name.from < *to && *from < name.to
        };
        self.spans.iter().any(within)
    }
}

/// Plans which snapshots and log of a source are kept.
pub(crate) fn plan(listed: Listed<'_>, policy: &Policy, now: Timestamp) -> Result<SourcePlan, Refusal> {
    let mut plan = Planner::new(listed)?;
    let newest_line = plan.newest_line();
    plan.keep_since(&newest_line, Timestamp::MAX, Reason::Newest);
    for head in listed.heads {
        plan.keep_since(&Some(*head), Timestamp::MAX, Reason::Newest);
    }
    // A new fork without own objects needs the log of its ancestors.
    plan.keep_since(&listed.catalog.newest_timeline(), Timestamp::MAX, Reason::Newest);
    if let Some(length) = policy.keep_within {
        // FAILURES 22: a clock that is ahead must not move the window past the newest known moment.
        let end = listed.newest.values().max().map_or(now, |newest| now.min(*newest));
        plan.keep_window(before(end, length), Reason::Within);
    }
    if let Some(since) = policy.must_remain_since {
        plan.must_be_restorable(&newest_line, since)?;
        plan.keep_window(since, Reason::MustRemain);
    }
    if let Some(count) = policy.keep_snapshots {
        plan.keep_newest(count);
    }
    plan.keep_calendar(policy.keep_daily, Reason::Daily, |day| day);
    plan.keep_calendar(policy.keep_weekly, Reason::Weekly, monday_of);
    plan.keep_calendar(policy.keep_monthly, Reason::Monthly, |day| day.first_of_month());
    let by_rules = plan.kept.clone();
    let mut points = plan.keep_points()?;
    plan.hold(&mut points, &by_rules);
    Ok(SourcePlan { points, ..plan.finish() })
}

/// The path to a timeline, and the snapshots on it.
struct Line {
    lineage: Lineage,
    /// Indices of the snapshots, sorted by consistent point.
    snapshots: Vec<usize>,
    /// For each snapshot: true if it can be restored, because the log that it needs exists.
    sound: Vec<bool>,
}

impl Line {
    /// The position of the last sound snapshot that is old and follows only old ones.
    fn anchor(&self, is_old: impl Fn(usize) -> bool) -> Option<usize> {
        let old = self.snapshots.iter().take_while(|at| is_old(**at)).count();
        self.sound[..old].iter().rposition(|sound| *sound)
    }
}

struct Planner<'a> {
    listed: Listed<'a>,
    lines: BTreeMap<TimelineId, Line>,
    reasons: Vec<BTreeSet<Reason>>,
    /// Kept ranges of log of each timeline.
    kept: BTreeMap<TimelineId, Vec<(Lsn, Lsn)>>,
}

impl<'a> Planner<'a> {
    fn new(listed: Listed<'a>) -> Result<Self, &'static str> {
        let taken = listed.snapshots.iter().map(|s| s.meta.timeline);
        let timelines: BTreeSet<TimelineId> =
            listed.catalog.timelines().keys().copied().chain(taken).collect();
        let mut lines = BTreeMap::new();
        for timeline in timelines {
            let lineage = listed.catalog.lineage(timeline);
            let lineage = lineage.map_err(|_| "a timeline has no history object")?;
            let mut snapshots: Vec<usize> = (0..listed.snapshots.len())
                .filter(|at| {
                    let meta = &listed.snapshots[*at].meta;
                    lineage.holds(meta.timeline, meta.consistent_at)
                })
                .collect();
            snapshots.sort_by_key(|at| {
                let meta = &listed.snapshots[*at].meta;
                (meta.consistent_at, meta.created)
            });
            let runs = runs(&listed.catalog.pieces(&lineage));
            let is_sound = |at: &usize| {
                let base = base(&listed.snapshots[*at]);
                reaches(&base, base.consistent_at, &runs)
            };
            let sound = snapshots.iter().map(is_sound).collect();
            lines.insert(timeline, Line { lineage, snapshots, sound });
        }
        let reasons = vec![BTreeSet::new(); listed.snapshots.len()];
        Ok(Planner { listed, lines, reasons, kept: BTreeMap::new() })
    }

    /// The timeline with the newest state: the one that a restore of the latest state uses.
    fn newest_line(&self) -> Option<TimelineId> {
        let has = |id: &&TimelineId| {
            !self.listed.catalog.logs(**id).is_empty()
                || self.listed.snapshots.iter().any(|s| s.meta.timeline == **id)
        };
        let newest = self.lines.keys().rfind(has).copied();
        // A timeline of which only snapshots are left has no writer.
        let is_logged = newest.is_some_and(|id| !self.listed.catalog.logs(id).is_empty());
        if is_logged { self.listed.followed.or(newest) } else { newest }
    }

    /// The time at which the next timeline superseded this one. This is never before the newest
    /// moment of this timeline, whatever the clock of the next timeline's writer showed.
    fn superseded(&self, timeline: TimelineId) -> Option<Timestamp> {
        let timelines = self.listed.catalog.timelines();
        let later = (std::ops::Bound::Excluded(timeline), std::ops::Bound::Unbounded);
        let (_, next) = timelines.range(later).next()?;
        Some(self.listed.newest.get(&timeline).map_or(next.created, |last| next.created.max(*last)))
    }

    /// The moment of a snapshot's state: its last commit, or its creation if there is no log.
    fn moment(&self, at: usize) -> Timestamp {
        let meta = &self.listed.snapshots[at].meta;
        if self.listed.catalog.timelines().is_empty() { meta.created } else { meta.time }
    }

    fn keep_window(&mut self, since: Timestamp, reason: Reason) {
        let lines: Vec<TimelineId> = self.lines.keys().copied().collect();
        for timeline in lines {
            if self.superseded(timeline).is_none_or(|at| at >= since) {
                self.keep_since(&Some(timeline), since, reason);
            }
        }
    }

    /// Keeps every commit since this time on the path to a timeline.
    fn keep_since(&mut self, timeline: &Option<TimelineId>, since: Timestamp, reason: Reason) {
        let Some(line) = timeline.as_ref().and_then(|id| self.lines.get(id)) else { return };
        let anchor = line.anchor(|at| self.moment(at) <= since);
        self.keep_from(timeline, anchor, reason);
    }

    /// Keeps everything on a line from the snapshot at this position on. Without a position, keeps
    /// the whole line.
    fn keep_from(&mut self, timeline: &Option<TimelineId>, anchor: Option<usize>, reason: Reason) {
        let Some(line) = timeline.as_ref().and_then(|id| self.lines.get(id)) else { return };
        let from = anchor.map_or(Lsn::ORIGIN, |at| {
            let kept = line.snapshots[at..].iter();
            kept.map(|at| self.listed.snapshots[*at].meta.redo_from).min().unwrap_or(Lsn::ORIGIN)
        });
        for leg in line.lineage.legs().iter().filter(|leg| from < leg.to) {
            let kept = self.kept.entry(leg.timeline).or_default();
            kept.push((from.max(leg.from), leg.to));
        }
        for at in &line.snapshots[anchor.unwrap_or(0)..] {
            self.reasons[*at].insert(reason);
        }
    }

    fn keep_newest(&mut self, count: NonZeroU32) {
        let mut kept = self.by_age();
        if kept.len() < count.get() as usize {
            // There are fewer snapshots: everything is kept.
            return self.keep_window(Timestamp::MIN, Reason::Count);
        }
        kept.truncate(count.get() as usize);
        let lines: Vec<TimelineId> = self.lines.keys().copied().collect();
        for timeline in lines {
            let oldest = self.lines[&timeline].snapshots.iter().position(|at| kept.contains(at));
            if oldest.is_some() {
                self.keep_from(&Some(timeline), oldest, Reason::Count);
            }
        }
    }

    /// Indices of the restorable snapshots, newest first.
    fn by_age(&self) -> Vec<usize> {
        let sound = |at: &usize| {
            let line = self.lines.get(&self.listed.snapshots[*at].meta.timeline);
            line.is_some_and(|line| {
                line.snapshots.iter().zip(&line.sound).any(|(on, sound)| on == at && *sound)
            })
        };
        let mut places: Vec<usize> = (0..self.listed.snapshots.len()).filter(sound).collect();
        places.sort_by_key(|at| {
            let meta = &self.listed.snapshots[*at].meta;
            std::cmp::Reverse((meta.created, meta.timeline, meta.consistent_at))
        });
        places
    }

    /// Keeps the last snapshot of each of the newest calendar periods that have one, and the log
    /// that it needs.
    fn keep_calendar(&mut self, count: Option<NonZeroU32>, reason: Reason, begin_of: fn(Date) -> Date) {
        let Some(count) = count else { return };
        let mut seen = BTreeSet::new();
        for at in self.by_age() {
            let meta = &self.listed.snapshots[at].meta;
            if seen.insert(begin_of(day_of(meta.created))) {
                if seen.len() > count.get() as usize {
                    return;
                }
                self.reasons[at].insert(reason);
                self.keep_log(meta.timeline, meta.redo_from, meta.consistent_at);
            }
        }
    }

    /// Keeps what each point needs.
    fn keep_points(&mut self) -> Result<Vec<PointNeeds>, Refusal> {
        self.listed.points.iter().map(|point| self.keep_point(point)).collect()
    }

    /// Computes what each point alone holds back. `by_rules` are the ranges of log that the rules
    /// keep (FAILURES 25).
    fn hold(&self, points: &mut [PointNeeds], by_rules: &BTreeMap<TimelineId, Vec<(Lsn, Lsn)>>) {
        for timeline in self.lines.keys() {
            let logs = self.listed.catalog.logs(*timeline);
            let kept = by_rules.get(timeline).map_or(&[][..], Vec::as_slice);
            // The last object is always kept.
            for (name, bytes) in logs.split_last().map_or(&[][..], |(_, earlier)| earlier) {
                if kept.iter().any(|(from, to)| name.from < *to && *from < name.to) {
                    continue;
                }
                let mut needing = points.iter_mut().filter(|point| point.needs(name));
                if let (Some(only), None) = (needing.next(), needing.next()) {
                    only.log_bytes = only.log_bytes.saturating_add(*bytes);
                }
            }
        }
        let only_points = |at: usize| self.reasons[at].iter().eq([&Reason::Point]);
        let bases: Vec<Option<usize>> = points.iter().map(|point| point.base).collect();
        for point in points {
            let shared = bases.iter().filter(|base| **base == point.base).count() > 1;
            point.holds_base = point.base.is_some_and(only_points) && !shared;
        }
    }

    fn keep_point(&mut self, point: &NamedPoint) -> Result<PointNeeds, Refusal> {
        let lost = || Refusal::Point(point.name.clone());
        let line = self.lines.get(&point.timeline).ok_or_else(lost)?;
        let bases: Vec<Base> = line.snapshots.iter().map(|at| base(&self.listed.snapshots[*at])).collect();
        let runs = runs(&self.listed.catalog.pieces(&line.lineage));
        let (at, from) = match start_for(&bases, point.lsn, &runs).ok_or_else(lost)? {
            Start::Origin => (None, Lsn::ORIGIN),
            Start::Base(at) => (Some(line.snapshots[at]), bases[at].redo_from),
        };
        if let Some(at) = at {
            self.reasons[at].insert(Reason::Point);
        }
        // The state before the first commit needs the first object: the log begins with it.
        let upto = if at.is_none() { point.lsn.max(Lsn::new(1)) } else { point.lsn };
        self.keep_log(point.timeline, from, upto);
        let spans = self.spans(point.timeline, from, upto);
        Ok(PointNeeds { base: at, spans, log_bytes: 0, holds_base: false })
    }

    /// Keeps the log between two positions on the path to a timeline.
    fn keep_log(&mut self, timeline: TimelineId, from: Lsn, to: Lsn) {
        for (timeline, from, to) in self.spans(timeline, from, to) {
            self.kept.entry(timeline).or_default().push((from, to));
        }
    }

    /// The parts of timelines between two positions on the path to a timeline.
    fn spans(&self, timeline: TimelineId, from: Lsn, to: Lsn) -> Vec<(TimelineId, Lsn, Lsn)> {
        let legs = self.lines.get(&timeline).map_or(&[][..], |line| line.lineage.legs());
        let span = |leg: &pitr_archive::Leg| (leg.timeline, from.max(leg.from), to.min(leg.to));
        legs.iter().map(span).filter(|(_, from, to)| from < to).collect()
    }

    /// Fails if a commit since this time can't be restored now.
    fn must_be_restorable(
        &self,
        timeline: &Option<TimelineId>,
        since: Timestamp,
    ) -> Result<(), &'static str> {
        let Some(line) = timeline.as_ref().and_then(|id| self.lines.get(id)) else {
            return Err("it has no snapshot");
        };
        let catalog = self.listed.catalog;
        let bases: Vec<Base> = line.snapshots.iter().map(|at| base(&self.listed.snapshots[*at])).collect();
        let coverage = coverage(&line.lineage, &catalog.pieces(&line.lineage), &bases);
        let anchor = line.anchor(|at| self.moment(at) <= since);
        let begin = match anchor {
            Some(at) => self.listed.snapshots[line.snapshots[at]].meta.consistent_at,
            None => {
                let first = line.lineage.legs().first().map(|leg| leg.timeline);
                let born = first.and_then(|id| catalog.timelines().get(&id)).map(|t| t.created);
                if born.is_none_or(|born| born > since) || coverage.interval_at(Lsn::ORIGIN).is_none() {
                    return Err("no snapshot is that old");
                }
                Lsn::ORIGIN
            }
        };
        // A source without a log has no states between two snapshots.
        let has_log = !catalog.timelines().is_empty();
        match has_log && coverage.gaps.iter().any(|gap| gap.to > begin) {
            true => Err("there is a later gap"),
            false => Ok(()),
        }
    }

    fn finish(self) -> SourcePlan {
        let mut plan = SourcePlan { reasons: self.reasons, ..SourcePlan::default() };
        for timeline in self.lines.keys() {
            let spans = self.kept.get(timeline).map_or(&[][..], Vec::as_slice);
            let logs = self.listed.catalog.logs(*timeline);
            let is_kept = |name: &LogName| spans.iter().any(|(from, to)| name.from < *to && *from < name.to);
            // The last object of a timeline is kept: it tells a writer where the archive ends.
            let mut run: Option<PrunedRange> = None;
            for (no, (name, bytes)) in logs.iter().enumerate() {
                if no + 1 == logs.len() || is_kept(name) {
                    plan.ranges.extend(run.take());
                    continue;
                }
                plan.logs.push((*name, *bytes));
                let from = run.map_or(name.from, |run| run.from);
                run = Some(PrunedRange { timeline: *timeline, from, to: name.to });
            }
            plan.ranges.extend(run);
        }
        plan
    }
}

fn base(snapshot: &Snapshot) -> Base {
    let meta = &snapshot.meta;
    Base { consistent_at: meta.consistent_at, redo_from: meta.redo_from, timeline: meta.timeline }
}

fn before(time: Timestamp, length: std::time::Duration) -> Timestamp {
    let micros = i64::try_from(length.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(time.micros().saturating_sub(micros))
}

fn day_of(time: Timestamp) -> Date {
    // A time outside the calendar counts as its first day.
    let known = jiff::Timestamp::from_microsecond(time.micros()).unwrap_or(jiff::Timestamp::MIN);
    TimeZone::UTC.to_datetime(known).date()
}

fn monday_of(day: Date) -> Date {
    let behind = i64::from(day.weekday().to_monday_zero_offset());
    day.checked_sub(jiff::Span::new().days(behind)).unwrap_or(day)
}

#[cfg(test)]
mod tests;
