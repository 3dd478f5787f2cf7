//! From a target to a position, or to an error that names the nearest restorable states (law 5).
//!
//! # Rules
//! - A time T means the commits with a time at or before T; exclusive, those before T. Commits with
//!   the same time are included or excluded together.
//! - T is refused if a commit may have happened on either side of it (`earliest <= T < time`),
//!   unless T is the exact time of a commit: then T means that commit. T is also refused if the
//!   clock showed it twice, if it is after the watermark, and if it is in a gap.
//! - An LSN means the commits at or before it, a transaction everything up to its commit;
//!   exclusive, the state just before.
//! - A base has the state of its last transaction only if there is no gap between the two.
//! - A snapshot means its consistent point, a recovery point its position. A point on a timeline
//!   that is not part of the history is refused.
//! - The latest state is that of the last archived commit. It is refused if it is after a gap
//!   without a snapshot.

use crate::error::{Error, Result, Unreachable, Why};
use crate::history::{History, Restorable};
use crate::plan::Plan;
use crate::target::{Point, RecoveryTarget, Stop, Target};
use pitr_archive::{Around, Cause, CommitPoint, MarkKind, PointName, Search};
use pitr_format::{Lsn, Timestamp, TxId};

impl History {
    /// The position at which to stop for a target, and the state there.
    ///
    /// # Errors
    /// [`Error::TargetUnreachable`]; [`Error::Damaged`] if the target may be a state that needs a
    /// damaged snapshot; errors of reading footers.
    pub fn resolve(&self, target: &Target) -> Result<Stop> {
        let spans = self.restorable()?;
        let found = self.resolve_in(target, &spans);
        match self.hidden(target, &found, &spans)? {
            None => found,
            Some(root) => Err(Error::damaged(target, root, found)),
        }
    }

    fn resolve_in(&self, target: &Target, spans: &[Restorable]) -> Result<Stop> {
        if spans.is_empty() {
            return Err(Error::unreachable(target, Why::NothingThere, (None, None)));
        }
        match &target.moment {
            RecoveryTarget::Latest => self.latest(target, spans),
            RecoveryTarget::Lsn(lsn) => self.lsn(target, spans, *lsn),
            RecoveryTarget::Transaction(tx) => self.transaction(target, spans, *tx),
            RecoveryTarget::Timestamp(time) => self.time(target, spans, *time),
            RecoveryTarget::RecoveryPoint(name) => self.lsn(target, spans, self.position_of(target, name)?),
            RecoveryTarget::Snapshot(id) => match self.snapshots().iter().find(|snapshot| snapshot.id == *id)
            {
                Some(snapshot) => self.lsn(target, spans, snapshot.meta.consistent_at),
                None => Err(Error::unreachable(target, Why::NoSuchSnapshot, (None, None))),
            },
        }
    }

    /// Like [`resolve`](Self::resolve). For an unreachable target, returns the newest restorable
    /// state before it, and why the target is unreachable. For sources with rare backups.
    ///
    /// # Errors
    /// [`Error::TargetUnreachable`] if no state before the target can be reached;
    /// [`Error::Damaged`] as in [`resolve`](Self::resolve); errors of reading footers.
    pub fn resolve_or_before(&self, target: &Target) -> Result<(Stop, Option<Unreachable>)> {
        match self.resolve(target) {
            Err(Error::TargetUnreachable(instead)) => match instead.before {
                Some(reached) => Ok((Stop { lsn: reached.lsn, reached }, Some(*instead))),
                None => Err(Error::TargetUnreachable(instead)),
            },
            other => other.map(|stop| (stop, None)),
        }
    }

    /// The plan for a target or, with `or_before`, for the newest restorable state before a target
    /// that can't be restored. Then also returns why it can't.
    ///
    /// # Errors
    /// Those of [`resolve`](Self::resolve) and [`plan`](Self::plan).
    pub fn plan_or_before(&self, target: &Target, or_before: bool) -> Result<(Plan, Option<Unreachable>)> {
        let (stop, instead) = match or_before {
            true => self.resolve_or_before(target)?,
            false => (self.resolve(target)?, None),
        };
        Ok((self.plan(&stop)?, instead))
    }

    /// The position of a recovery point, if the point is on a timeline of this history.
    pub(crate) fn position_of(&self, target: &Target, name: &PointName) -> Result<Lsn> {
        let refused = |why| Err(Error::unreachable(target, why, (None, None)));
        match self.archive().named_point(name)? {
            Some(point) if self.lineage().holds(point.timeline, point.lsn) => Ok(point.lsn),
            Some(point) => refused(Why::OnTimeline(point.timeline)),
            None => refused(Why::NoSuchPoint),
        }
    }

    fn latest(&self, target: &Target, spans: &[Restorable]) -> Result<Stop> {
        let end = self.pieces().last().map_or(Lsn::ORIGIN, |piece| piece.to);
        let Some(last) = spans.last().filter(|span| span.end >= end) else {
            return self.unreachable(target, spans, self.gap_at(end)?, |_| true);
        };
        if !target.exclusive {
            return Ok(Stop { lsn: last.end, reached: last.to });
        }
        self.before(target, spans, last, last.to.lsn)
    }

    fn lsn(&self, target: &Target, spans: &[Restorable], lsn: Lsn) -> Result<Stop> {
        let stop = if target.exclusive { lsn.before() } else { lsn };
        let Some(span) = spans.iter().find(|span| span.from.lsn <= stop && stop <= span.end) else {
            return self.unreachable(target, spans, self.gap_at(stop)?, |point| point.lsn <= stop);
        };
        let (before, _) = self.around(span, |point| point.lsn <= stop)?;
        Ok(Stop { lsn: stop, reached: before.unwrap_or(span.from) })
    }

    fn transaction(&self, target: &Target, spans: &[Restorable], tx: TxId) -> Result<Stop> {
        for span in spans {
            if !target.exclusive && span.from.named && span.from.tx == tx {
                return Ok(Stop { lsn: span.from.lsn, reached: span.from });
            }
            if tx == TxId::NONE {
                continue; // no commit has this number
            }
            let pieces = self.pieces_in(span.from.lsn, span.end);
            let found = Search::new(self.archive(), pieces).transaction(tx)?;
            let inside =
                found.filter(|found| found.commit.lsn > span.from.lsn && found.commit.lsn <= span.end);
            match inside {
                Some(found) if target.exclusive => return self.before(target, spans, span, found.commit.lsn),
                Some(found) => {
                    let reached = self.point(&(&found.commit).into());
                    return Ok(Stop { lsn: found.commit.lsn, reached });
                }
                None => {}
            }
        }
        self.unreachable(target, spans, self.why_no_transaction(tx)?, |point| point.tx < tx)
    }

    /// Why the state of a transaction is unreachable. Its commit may be archived.
    fn why_no_transaction(&self, tx: TxId) -> Result<Why> {
        if tx == TxId::NONE {
            return Ok(Why::BeforeFirst);
        }
        match Search::new(self.archive(), self.pieces()).transaction(tx)? {
            Some(found) => self.gap_at(found.commit.lsn),
            None => Ok(Why::NoSuchTransaction),
        }
    }

    fn time(&self, target: &Target, spans: &[Restorable], time: Timestamp) -> Result<Stop> {
        // A base without a transaction has no commit whose time could equal the target.
        let counts = |point: &CommitPoint| {
            let including = !target.exclusive || point.tx == TxId::NONE;
            if including { point.time <= time } else { point.time < time }
        };
        let twice = self.shown_twice(spans)?;
        if let Some((from, to)) = twice.into_iter().find(|(from, to)| (*from..=*to).contains(&time)) {
            // Commits at this time, or between the two times, have no order relative to the target.
            let before = self.nearest(spans, |point| point.time < from)?.0;
            let after = self.nearest(spans, |point| point.time <= to)?.1;
            return Err(Error::unreachable(target, Why::ClockSetBack { from, to }, (before, after)));
        }
        let begins = |from: &Point| counts(&CommitPoint { tx: from.tx, lsn: from.lsn, time: from.time });
        let known = |span: &&Restorable| begins(&span.from) && time <= span.watermark;
        let unseen = self.unseen_at(time)?;
        let Some(span) = spans.iter().rev().find(known).filter(|_| unseen.is_none()) else {
            let why = match unseen {
                Some(cause) => Why::WalGap(cause),
                None => self.why_not(spans, time)?,
            };
            return self.unreachable(target, spans, why, counts);
        };
        let pieces = self.pieces_in(span.from.lsn, span.end);
        let search = Search::new(self.archive(), pieces);
        let named = search.split(|commit| commit.time < time)?.after;
        let exact = span.from.time == time || named.is_some_and(|found| found.commit.time == time);
        let doubtful = if exact { None } else { search.uncertain_at(time)? };
        if let Some(found) = doubtful.filter(|found| found.commit.lsn > span.from.lsn) {
            let commit = found.commit;
            let why = Why::Uncertain { tx: commit.tx, earliest: commit.earliest, time: commit.time };
            return self.unreachable(target, spans, why, |point| point.lsn < commit.lsn);
        }
        let (before, after) = self.around(span, counts)?;
        let reached = before.unwrap_or(span.from);
        // Nothing changes before the next commit, so stop just before it.
        Ok(Stop { lsn: after.map_or(span.end, |next| next.lsn.before()), reached })
    }

    /// The state just before the commit at `lsn`, which is in `span`.
    fn before(&self, target: &Target, spans: &[Restorable], span: &Restorable, lsn: Lsn) -> Result<Stop> {
        if lsn <= span.from.lsn {
            return self.unreachable(target, spans, Why::BeforeFirst, |point| point.lsn < lsn);
        }
        let (before, _) = self.around(span, |point| point.lsn < lsn)?;
        Ok(Stop { lsn: lsn.before(), reached: before.unwrap_or(span.from) })
    }

    /// The states of a span before and after a moment.
    fn around(
        &self,
        span: &Restorable,
        earlier: impl Fn(&CommitPoint) -> bool,
    ) -> Result<(Option<Point>, Option<Point>)> {
        let Point { lsn, tx, time, .. } = span.from;
        if !earlier(&CommitPoint { tx, lsn, time }) {
            return Ok((None, Some(span.from)));
        }
        let search = Search::new(self.archive(), self.pieces_in(lsn, span.end));
        let Around { before, after } = search.split(|commit| commit.lsn <= lsn || earlier(commit))?;
        let before = before.filter(|commit| commit.lsn > lsn && commit.lsn <= span.end);
        let after = after.filter(|found| found.commit.lsn <= span.end);
        Ok((
            Some(before.map_or(span.from, |commit| self.point(&commit))),
            after.map(|found| self.point(&(&found.commit).into())),
        ))
    }

    fn nearest(
        &self,
        spans: &[Restorable],
        earlier: impl Fn(&CommitPoint) -> bool,
    ) -> Result<(Option<Point>, Option<Point>)> {
        let mut nearest = None;
        for span in spans {
            let (before, after) = self.around(span, &earlier)?;
            nearest = before.or(nearest);
            if after.is_some() {
                return Ok((nearest, after));
            }
        }
        Ok((nearest, None))
    }

    fn unreachable<T>(
        &self,
        target: &Target,
        spans: &[Restorable],
        why: Why,
        earlier: impl Fn(&CommitPoint) -> bool,
    ) -> Result<T> {
        Err(Error::unreachable(target, why, self.nearest(spans, earlier)?))
    }

    /// Why the state at `lsn` is unreachable.
    fn gap_at(&self, lsn: Lsn) -> Result<Why> {
        let first = self.coverage().intervals.first().map_or(Lsn::MAX, |interval| interval.from);
        let gap = self.coverage().gaps.iter().find(|gap| gap.from < lsn && lsn <= gap.to);
        Ok(match gap {
            _ if self.has_no_log() => Why::NoLog,
            Some(gap) => {
                let cause = self.archive().cause(self.catalog(), self.lineage(), gap)?;
                let is_archived = gap.behind.is_some_and(|first| first.from < lsn);
                Why::WalGap(match cause {
                    // The commits that were not captured are before the target.
                    Cause::NotLogged(_) | Cause::Forked(_) if is_archived => Cause::NoBase,
                    cause => cause,
                })
            }
            None if lsn < first => Why::BeforeFirst,
            None => Why::BehindLast,
        })
    }

    /// Why the state at a time outside every span is unknown.
    fn why_not(&self, spans: &[Restorable], time: Timestamp) -> Result<Why> {
        let next = spans.iter().position(|span| span.from.time >= time);
        match (next.and_then(|no| spans.get(no)), spans.last()) {
            (Some(next), _) if next.from == spans[0].from => Ok(Why::BeforeFirst),
            (Some(next), _) => self.gap_at(next.from.lsn),
            (None, Some(last)) => Ok(Why::NotYetCertain { watermark: last.watermark }),
            (None, None) => Ok(Why::NothingThere),
        }
    }

    /// Why commits at this time were not captured, if the log says so.
    fn unseen_at(&self, time: Timestamp) -> Result<Option<Cause>> {
        for gap in self.coverage().gaps.iter().filter_map(|gap| gap.behind) {
            let footer = self.archive().footer(&gap)?;
            for mark in &footer.marks {
                if let MarkKind::Gap { reason, since, until } = mark.what
                    && since < time
                    && time < until
                {
                    return Ok(Some(Cause::NotLogged(Some(reason))));
                }
            }
        }
        Ok(None)
    }

    /// Spans of time that the clock showed twice: a timeline forked there because the clock was set
    /// back, or timestamps did not advance.
    fn shown_twice(&self, spans: &[Restorable]) -> Result<Vec<(Timestamp, Timestamp)>> {
        let forks = self.lineage().legs().iter().skip(1);
        let mut twice: Vec<_> =
            forks.filter_map(|leg| self.catalog().timelines().get(&leg.timeline)?.ambiguous).collect();
        for span in spans {
            let pieces = self.pieces_in(span.from.lsn, span.end);
            twice.extend(Search::new(self.archive(), pieces).frozen_spans()?);
        }
        Ok(twice)
    }
}
