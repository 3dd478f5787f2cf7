//! `pitr log`.

use pitr::archive::Search;
use pitr::format::{Lsn, TimelineId};
use pitr::recovery::Moment;

use super::failure::explain;
use super::{open, targets};
use crate::cli::args::{Global, Log};
use crate::cli::documents::{self, Position, Time};
use crate::cli::exit::CliError;

pub(crate) fn run(global: &Global, args: &Log) -> Result<(), CliError> {
    let pitr = open(global)?;
    let source = pitr.source(global.source.as_deref()).map_err(explain)?;
    let history = pitr.history(&source, args.timeline.map(TimelineId::new)).map_err(explain)?;
    let now = pitr.clock().now();
    let from = args.from.map(|target| targets::moment(target, now));
    let to = args.to.map(|target| targets::moment(target, now));
    let search = Search::new(history.archive(), history.pieces());
    let mut transactions = Vec::new();
    for found in search.transactions(Lsn::ORIGIN) {
        let commit = found.map_err(|e| explain(e.into()))?.commit;
        let at = (commit.time, commit.lsn, commit.tx);
        let behind_from = from.is_none_or(|from| match from {
            Moment::Latest => false,
            Moment::Time(time) => at.0 >= time,
            Moment::Lsn(lsn) => at.1 >= lsn,
            Moment::Tx(tx) => at.2 >= tx,
        });
        let before_to = to.is_none_or(|to| match to {
            Moment::Latest => true,
            Moment::Time(time) => at.0 <= time,
            Moment::Lsn(lsn) => at.1 <= lsn,
            Moment::Tx(tx) => at.2 <= tx,
        });
        if behind_from && before_to {
            transactions.push(documents::Transaction {
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
    global.output().answer(&documents::Log { transactions })
}

fn last_only(search: &Search<'_>) -> Result<Vec<documents::Transaction>, CliError> {
    let last = search.split(|_| true).map_err(|e| explain(e.into()))?.before;
    let Some(last) = last else { return Ok(Vec::new()) };
    let found = search.transaction(last.tx).map_err(|e| explain(e.into()))?;
    Ok(found
        .map(|found| documents::Transaction {
            at: Position { lsn: last.lsn.get(), tx: last.tx.get(), time: Time(last.time) },
            earliest: Time(found.commit.earliest),
            blocks: found.commit.blocks,
            bytes: found.commit.bytes,
        })
        .into_iter()
        .collect())
}
