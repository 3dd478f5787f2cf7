//! `pitr log`.

use pitr::Pitr;
use pitr::archive::Search;
use pitr::format::{Lsn, SourceName, TimelineId};
use pitr::recovery::Moment;

use super::failure::explain;
use super::{open, sources_of, targets};
use crate::cli::args::{Global, Log};
use crate::cli::documents::{self, Position, Time};
use crate::cli::exit::CliError;
use crate::cli::target::Target;

pub(crate) fn run(global: &Global, args: &Log) -> Result<(), CliError> {
    let pitr = open(global)?;
    let sources = sources_of(&pitr, &global.sources, args.all).map_err(explain)?;
    let [source] = sources.as_slice() else { return several(global, args, &pitr, &sources) };
    global.output().answer(&documents::Log { transactions: of_source(&pitr, source, args)? })
}

/// The transactions of several sources, merged by time.
fn several(global: &Global, args: &Log, pitr: &Pitr, sources: &[SourceName]) -> Result<(), CliError> {
    let has_numbers = |target: &Option<Target>| {
        target.is_some_and(|target| !matches!(target, Target::Latest | Target::Time(_)))
    };
    if args.timeline.is_some() || has_numbers(&args.from) || has_numbers(&args.to) {
        let what = "timelines, transactions, LSNs and snapshots are each source's own";
        return Err(CliError::usage(what).next("give times for several sources"));
    }
    let mut transactions = Vec::new();
    for source in sources {
        let named = |tx| documents::Transaction { source: Some(source.to_string()), ..tx };
        transactions.extend(of_source(pitr, source, args)?.into_iter().map(named));
    }
    // Those of one source stay in their order.
    transactions.sort_by_key(|tx| tx.at.time.0);
    global.output().answer(&documents::Log { transactions })
}

fn of_source(pitr: &Pitr, source: &SourceName, args: &Log) -> Result<Vec<documents::Transaction>, CliError> {
    let history = pitr.history(source, args.timeline.map(TimelineId::new)).map_err(explain)?;
    let now = pitr.clock().now();
    let moment = |target| targets::in_log(pitr, source, target, now);
    let (from, to) = (args.from.map(moment).transpose()?, args.to.map(moment).transpose()?);
    let search = Search::new(history.archive(), history.pieces());
    let mut transactions = Vec::new();
    for found in search.transactions(Lsn::ORIGIN) {
        let commit = found.map_err(|e| explain(e.into()))?.commit;
        let at = (commit.time, commit.lsn, commit.tx);
        let behind_from = from.is_none_or(|from| match from {
            Moment::Latest | Moment::Snapshot(_) => false,
            Moment::Time(time) => at.0 >= time,
            Moment::Lsn(lsn) => at.1 >= lsn,
            Moment::Tx(tx) => at.2 >= tx,
        });
        let before_to = to.is_none_or(|to| match to {
            Moment::Latest | Moment::Snapshot(_) => true,
            Moment::Time(time) => at.0 <= time,
            Moment::Lsn(lsn) => at.1 <= lsn,
            Moment::Tx(tx) => at.2 <= tx,
        });
        if behind_from && before_to {
            transactions.push(documents::Transaction {
                source: None,
                at: Position { lsn: commit.lsn.get(), tx: commit.tx.get(), time: Time(commit.time) },
                earliest: Time(commit.earliest),
                blocks: commit.blocks,
                bytes: commit.bytes,
            });
        }
    }
    if matches!(from, Some(Moment::Latest)) {
        // "From the latest on" is the latest one.
        transactions = last_only(&search)?;
    }
    Ok(transactions)
}

fn last_only(search: &Search<'_>) -> Result<Vec<documents::Transaction>, CliError> {
    let last = search.split(|_| true).map_err(|e| explain(e.into()))?.before;
    let Some(last) = last else { return Ok(Vec::new()) };
    let found = search.transaction(last.tx).map_err(|e| explain(e.into()))?;
    Ok(found
        .map(|found| documents::Transaction {
            source: None,
            at: Position { lsn: last.lsn.get(), tx: last.tx.get(), time: Time(last.time) },
            earliest: Time(found.commit.earliest),
            blocks: found.commit.blocks,
            bytes: found.commit.bytes,
        })
        .into_iter()
        .collect())
}
