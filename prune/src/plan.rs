//! What of a source stays, by its names alone. Pure.
//!
//! For each timeline that counts, a rule that keeps commits has an *anchor*: the last snapshot of the path to that timeline
//! that can be restored and of which, and of all before which, every commit is older than the rule's begin. All snapshots
//! from the anchor on stay, and all log from its `redo_from` on. Where there is no such snapshot everything stays.
//!
//! A timeline was superseded when the next one was claimed. A window that begins later does not need it, except for the
//! part that its descendants share.

use crate::{Policy, Reason};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use pitr_archive::{Base, Catalog, Lineage, LogName, PrunedRange, coverage, reaches, runs};
use pitr_format::{Lsn, TimelineId, Timestamp};
use pitr_snapshot::Snapshot;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

/// A source, as listed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Listed<'a> {
    pub(crate) catalog: &'a Catalog,
    pub(crate) snapshots: &'a [Snapshot],
    /// The newest moment that the repository knows of each timeline: of its log, its snapshots.
    pub(crate) newest: &'a BTreeMap<TimelineId, Timestamp>,
}

/// What becomes of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SourcePlan {
    /// By snapshot: why it stays; it goes if there is no reason.
    pub(crate) reasons: Vec<BTreeSet<Reason>>,
    /// Log objects that go.
    pub(crate) logs: Vec<(LogName, u64)>,
    /// The ranges that they make up.
    pub(crate) ranges: Vec<PrunedRange>,
}

/// Works out what of a source stays.
pub(crate) fn plan(listed: Listed<'_>, policy: &Policy, now: Timestamp) -> Result<SourcePlan, &'static str> {
    let mut plan = Planner::new(listed)?;
    let newest_line = plan.newest_line();
    plan.keep_since(&newest_line, Timestamp::MAX, Reason::Newest);
    // A fork that was claimed and has nothing of its own yet stands on what is its past.
    plan.keep_since(&listed.catalog.newest_timeline(), Timestamp::MAX, Reason::Newest);
    if let Some(length) = policy.keep_within {
        // FAILURES 22: a clock that is ahead must not make the window end later than anything was seen.
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
    Ok(plan.finish())
}

/// The path to a timeline, and the snapshots on it.
struct Line {
    lineage: Lineage,
    /// Places of the snapshots, by consistent point.
    snapshots: Vec<usize>,
    /// Whether each can be restored: the log that it needs is there.
    sound: Vec<bool>,
}

impl Line {
    /// Where on the line the last sound snapshot stands of which and of all before which this holds.
    fn anchor(&self, is_old: impl Fn(usize) -> bool) -> Option<usize> {
        let old = self.snapshots.iter().take_while(|at| is_old(**at)).count();
        self.sound[..old].iter().rposition(|sound| *sound)
    }
}

struct Planner<'a> {
    listed: Listed<'a>,
    lines: BTreeMap<TimelineId, Line>,
    reasons: Vec<BTreeSet<Reason>>,
    /// What is kept of the log of each timeline.
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

    /// The timeline that holds the newest state: as a restore of the latest state chooses it.
    fn newest_line(&self) -> Option<TimelineId> {
        let has = |id: &&TimelineId| {
            !self.listed.catalog.logs(**id).is_empty()
                || self.listed.snapshots.iter().any(|s| s.meta.timeline == **id)
        };
        self.lines.keys().rfind(has).copied()
    }

    /// When another timeline took a timeline's place: not before its own newest moment, whatever the clock showed that the
    /// other one began by.
    fn superseded(&self, timeline: TimelineId) -> Option<Timestamp> {
        let timelines = self.listed.catalog.timelines();
        let behind = (std::ops::Bound::Excluded(timeline), std::ops::Bound::Unbounded);
        let (_, next) = timelines.range(behind).next()?;
        Some(self.listed.newest.get(&timeline).map_or(next.created, |last| next.created.max(*last)))
    }

    /// The moment whose state a snapshot is: of its last commit, or, where there is no log, when it was taken.
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

    /// Keeps every commit since then on the path to a timeline.
    fn keep_since(&mut self, timeline: &Option<TimelineId>, since: Timestamp, reason: Reason) {
        let Some(line) = timeline.as_ref().and_then(|id| self.lines.get(id)) else { return };
        let anchor = line.anchor(|at| self.moment(at) <= since);
        self.keep_from(timeline, anchor, reason);
    }

    /// Keeps all from the snapshot at this place of a line on, or everything.
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
            // There are fewer: nothing goes.
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

    /// Places of the snapshots that can be restored, newest first.
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

    /// Keeps the last snapshot of each of the newest spans of the calendar that have one, and what it needs of the log.
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
                if meta.redo_from < meta.consistent_at {
                    let Some(line) = self.lines.get(&meta.timeline) else { continue };
                    for leg in line.lineage.legs() {
                        let span = (meta.redo_from.max(leg.from), meta.consistent_at.min(leg.to));
                        if span.0 < span.1 {
                            self.kept.entry(leg.timeline).or_default().push(span);
                        }
                    }
                }
            }
        }
    }

    /// Errors if a commit since then can't be restored now.
    fn must_be_restorable(
        &self,
        timeline: &Option<TimelineId>,
        since: Timestamp,
    ) -> Result<(), &'static str> {
        let Some(line) = timeline.as_ref().and_then(|id| self.lines.get(id)) else {
            return Err("there is nothing");
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
                    return Err("no snapshot is so old");
                }
                Lsn::ORIGIN
            }
        };
        // Without a log there is nothing between two states.
        let has_log = !catalog.timelines().is_empty();
        match has_log && coverage.gaps.iter().any(|gap| gap.to > begin) {
            true => Err("there is a gap since"),
            false => Ok(()),
        }
    }

    fn finish(self) -> SourcePlan {
        let mut plan = SourcePlan { reasons: self.reasons, ..SourcePlan::default() };
        for timeline in self.lines.keys() {
            let spans = self.kept.get(timeline).map_or(&[][..], Vec::as_slice);
            let logs = self.listed.catalog.logs(*timeline);
            let is_kept = |name: &LogName| spans.iter().any(|(from, to)| name.from < *to && *from < name.to);
            // The last object of a timeline stays: there a writer learns how far the archive has come.
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
    // A time that the calendar does not know is as good as the oldest day.
    let known = jiff::Timestamp::from_microsecond(time.micros()).unwrap_or(jiff::Timestamp::MIN);
    TimeZone::UTC.to_datetime(known).date()
}

fn monday_of(day: Date) -> Date {
    let behind = i64::from(day.weekday().to_monday_zero_offset());
    day.checked_sub(jiff::Span::new().days(behind)).unwrap_or(day)
}

#[cfg(test)]
mod tests;
