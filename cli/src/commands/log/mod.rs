//! `pitr log`.

pub(crate) mod args;
mod document;

use pitr::Pitr;
use pitr::archive::{Search, Transaction as Found};
use pitr::format::{Lsn, SourceName, TimelineId, Timestamp, TxId};
use pitr::recovery::{History, RecoveryTarget};

use self::args::Log;
use self::document::{Fork, Log as Answer, Times, Transaction};
use super::targets::Wanted;
use super::{gaps, open_view, sources_of, targets};
use crate::args::Global;
use crate::args::target::Target;
use crate::failure::CliError;
use crate::failure::explain::explain;
use crate::output::values::{Position, Time};

pub(crate) fn run(global: &Global, args: &Log) -> Result<(), CliError> {
    let pitr = open_view(global)?;
    let sources = sources_of(&pitr, &global.sources, args.all).map_err(explain)?;
    let answer = match sources.as_slice() {
        [source] => of_source(global, &pitr, source, args)?,
        several => of_several(global, &pitr, several, args)?,
    };
    global.output().answer(&answer)
}

/// The logs of several sources, merged by time.
fn of_several(global: &Global, pitr: &Pitr, sources: &[SourceName], args: &Log) -> Result<Answer, CliError> {
    let has_numbers = |target: &Option<Target>| {
        target.as_ref().is_some_and(|target| !matches!(target, Target::Latest | Target::Time(_)))
    };
    if args.timeline.is_some() || has_numbers(&args.from) || has_numbers(&args.to) {
        let what = "timelines, transactions, LSNs, snapshots and points differ between sources";
        return Err(CliError::usage(what).next("give times for several sources"));
    }
    let logs = sources.iter().map(|source| Ok((source.as_str(), of_source(global, pitr, source, args)?)));
    Ok(Answer::merged(logs.collect::<Result<Vec<_>, CliError>>()?))
}

fn of_source(global: &Global, pitr: &Pitr, source: &SourceName, args: &Log) -> Result<Answer, CliError> {
    let now = pitr.clock().now();
    let wanted = |target| Wanted::new(pitr, source, target, now);
    let from = args.from.as_ref().map(wanted).transpose()?;
    let to = args.to.as_ref().map(wanted).transpose()?;
    let ends: Vec<&Wanted<'_>> = from.iter().chain(&to).collect();
    let history = history(pitr, source, args.timeline, &ends)?;
    if named(&ends)?.is_none() {
        for end in &ends {
            end.others(&history, args.timeline)?.remark(global);
        }
    }
    let window = Window { from: from.as_ref().map(targets::in_log), to: to.as_ref().map(targets::in_log) };
    let transactions = transactions(&history, &window)?;
    let spans = history.restorable().map_err(|e| explain(e.into()))?;
    let mut gaps = gaps::of(&history, &spans, |_| true)?;
    gaps.retain(|gap| window.meets(place(&gap.from), gap.to.as_ref().map(place)));
    let mut forks = forks(&history);
    forks.retain(|fork| {
        // A fork has an LSN but no transaction: take the last transaction before the fork.
        let before = transactions.iter().rev().find(|tx| tx.at.lsn <= fork.lsn);
        let tx = before.map_or(TxId::NONE, |before| TxId::new(before.at.tx));
        let at = (fork.time.0, Lsn::new(fork.lsn), tx);
        window.meets(at, Some(at))
    });
    Ok(Answer { transactions, gaps, forks })
}

/// The history to list: that of the given timeline, or of the timeline that the ends of the window
/// name, or else the newest one. If the newest one does not have a snapshot or a point at an end,
/// the history of that state.
fn history(
    pitr: &Pitr,
    source: &SourceName,
    given: Option<u32>,
    ends: &[&Wanted<'_>],
) -> Result<History, CliError> {
    ends.iter().try_for_each(|end| end.timeline(given).map(drop))?;
    let chosen = given.map(TimelineId::new).or(named(ends)?);
    let mut history = pitr.history(source, chosen).map_err(explain)?;
    if chosen.is_none()
        && let Some(own) = ends.iter().find_map(|end| end.missing_in(&history))
    {
        history = pitr.history(source, Some(own)).map_err(explain)?;
    }
    ends.iter().try_for_each(|end| end.check_in(&history))?;
    Ok(history)
}

/// The timeline that the ends of the window name.
fn named(ends: &[&Wanted<'_>]) -> Result<Option<TimelineId>, CliError> {
    let mut named = ends.iter().filter_map(|end| end.named());
    match (named.next(), named.next()) {
        (Some((a, from)), Some((b, to))) if a != b => {
            let what = format_args!("{from} and {to} are on different timelines").to_string();
            Err(CliError::usage(what).next("give both on the timeline whose history to list"))
        }
        (first, _) => Ok(first.map(|(timeline, _)| timeline)),
    }
}

/// A position in the history: time, LSN and transaction.
type Place = (Timestamp, Lsn, TxId);

fn place(position: &Position) -> Place {
    (position.time.0, Lsn::new(position.lsn), TxId::new(position.tx))
}

/// The requested part of the history, both ends included.
struct Window {
    from: Option<RecoveryTarget>,
    to: Option<RecoveryTarget>,
}

impl Window {
    fn holds(&self, at: Place) -> bool {
        self.meets(at, Some(at))
    }

    /// True if the window overlaps the range from `begin` to `end`. A range without an end is open.
    fn meets(&self, begin: Place, end: Option<Place>) -> bool {
        let ends_after_from = match (&self.from, end) {
            (None, _) | (_, None) => true,
            (
                Some(RecoveryTarget::Latest | RecoveryTarget::RecoveryPoint(_) | RecoveryTarget::Snapshot(_)),
                _,
            ) => false,
            (Some(RecoveryTarget::Timestamp(time)), Some(end)) => end.0 >= *time,
            (Some(RecoveryTarget::Lsn(lsn)), Some(end)) => end.1 >= *lsn,
            (Some(RecoveryTarget::Transaction(tx)), Some(end)) => end.2 >= *tx,
        };
        let begins_before_to = match &self.to {
            None
            | Some(RecoveryTarget::Latest | RecoveryTarget::RecoveryPoint(_) | RecoveryTarget::Snapshot(_)) => {
                true
            }
            Some(RecoveryTarget::Timestamp(time)) => begin.0 <= *time,
            Some(RecoveryTarget::Lsn(lsn)) => begin.1 <= *lsn,
            Some(RecoveryTarget::Transaction(tx)) => begin.2 <= *tx,
        };
        ends_after_from && begins_before_to
    }
}

fn transactions(history: &History, window: &Window) -> Result<Vec<Transaction>, CliError> {
    let search = Search::new(history.archive(), history.pieces());
    if matches!(window.from, Some(RecoveryTarget::Latest)) {
        // `--from latest` lists only the last transaction.
        return last_only(history, &search);
    }
    let mut transactions = Vec::new();
    for found in search.transactions(Lsn::ORIGIN) {
        let found = found.map_err(|e| explain(e.into()))?;
        let commit = &found.commit;
        if window.holds((commit.time, commit.lsn, commit.tx)) {
            transactions.push(transaction(history, &found));
        }
    }
    Ok(transactions)
}

fn last_only(history: &History, search: &Search<'_>) -> Result<Vec<Transaction>, CliError> {
    let last = search.split(|_| true).map_err(|e| explain(e.into()))?.before;
    let Some(last) = last else { return Ok(Vec::new()) };
    let found = search.transaction(last.tx).map_err(|e| explain(e.into()))?;
    Ok(found.map(|found| transaction(history, &found)).into_iter().collect())
}

fn transaction(history: &History, found: &Found) -> Transaction {
    let commit = &found.commit;
    Transaction {
        source: None,
        timeline: found.timeline.get(),
        at: Position::of(commit.lsn, commit.tx, Time(commit.time)),
        earliest: Time(commit.earliest),
        blocks: commit.blocks,
        bytes: commit.bytes,
        restorable: history.coverage().interval_at(commit.lsn).is_some(),
    }
}

/// The points at which the history continues on another timeline.
fn forks(history: &History) -> Vec<Fork> {
    let timelines = history.catalog().timelines();
    let legs = history.lineage().legs().iter().skip(1);
    let forks = legs.filter_map(|leg| {
        let timeline = timelines.get(&leg.timeline)?;
        let ambiguous = timeline.ambiguous.map(|(from, to)| Times { from: Time(from), to: Time(to) });
        Some(Fork {
            source: None,
            timeline: leg.timeline.get(),
            parent: timeline.parent.map(TimelineId::get),
            lsn: timeline.fork.get(),
            time: Time(timeline.created),
            reason: timeline.reason.as_str().to_owned(),
            ambiguous,
        })
    });
    forks.collect()
}
