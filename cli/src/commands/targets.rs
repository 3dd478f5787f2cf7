//! Converts targets of the command line to targets of the library.

use pitr::archive::{NamedPoint, PointName};
use pitr::format::{Lsn, SourceName, TimelineId, Timestamp, TxId};
use pitr::recovery::{Point, RecoveryTarget};
use pitr::{BackupMetadata, Backups, Pitr};

use crate::args::target::{IdPrefix, Target};
use crate::failure::explain::explain;
use crate::failure::{CliError, Code};
use crate::output::values::{Position, Time};

/// The target's moment in a source at the current time `now`, and its timeline if the target
/// determines one.
pub(crate) fn in_source(
    pitr: &Pitr,
    source: &SourceName,
    target: &Target,
    now: Timestamp,
) -> Result<(RecoveryTarget, Option<TimelineId>), CliError> {
    Ok(match target {
        Target::Latest => (RecoveryTarget::Latest, None),
        Target::Time(moment) => (RecoveryTarget::Timestamp(moment.resolve(now)), None),
        Target::Lsn(lsn) => (RecoveryTarget::Lsn(Lsn::new(*lsn)), None),
        Target::Tx(tx) => (RecoveryTarget::Transaction(TxId::new(*tx)), None),
        Target::Snapshot(id) => {
            let snapshot = snapshot(pitr, source, *id)?;
            (RecoveryTarget::Snapshot(snapshot.id), Some(snapshot.timeline))
        }
        Target::Point(name) => {
            let point = point(pitr, source, name)?;
            (RecoveryTarget::from(&point), Some(point.timeline))
        }
    })
}

fn point(pitr: &Pitr, source: &SourceName, name: &PointName) -> Result<NamedPoint, CliError> {
    pitr.point(source, name).map_err(|error| match error {
        error @ pitr::Error::UnknownPoint { .. } => {
            CliError::of(Code::UnreachableTarget, error).next("`pitr point list` lists the points")
        }
        other => explain(other),
    })
}

/// Like [`in_source`], for a position in the log. A snapshot is at the LSN where it is consistent, a
/// recovery point at its LSN.
pub(crate) fn in_log(
    pitr: &Pitr,
    source: &SourceName,
    target: &Target,
    now: Timestamp,
) -> Result<RecoveryTarget, CliError> {
    match target {
        Target::Snapshot(id) => Ok(RecoveryTarget::Lsn(snapshot(pitr, source, *id)?.consistent_at)),
        Target::Point(name) => Ok(RecoveryTarget::Lsn(point(pitr, source, name)?.lsn)),
        other => Ok(in_source(pitr, source, other, now)?.0),
    }
}

/// The only snapshot whose ID begins with `id`.
fn snapshot(pitr: &Pitr, source: &SourceName, id: IdPrefix) -> Result<BackupMetadata, CliError> {
    let Backups { backups: mut found, damaged } = pitr.backups(source).map_err(explain)?;
    found.retain(|backup| id.fits(backup.id.0));
    match (found.pop(), found.len(), damaged.first()) {
        (Some(only), 0, _) => Ok(only),
        (None, _, None) => {
            let what = format_args!("source {source} has no snapshot {id}").to_string();
            Err(CliError::of(Code::UnreachableTarget, what).next("`pitr info` lists them"))
        }
        // The snapshot may be an unreadable one: "not found" would be a wrong answer (FAILURES 55).
        (None, _, Some(error)) => {
            let count = damaged.len();
            let what = format_args!(
                "{source} has no readable snapshot {id}, and {count} of its snapshots are damaged: {error}"
            )
            .to_string();
            Err(CliError::of(Code::Corrupt, what)
                .next("`pitr info` lists the states that can still be restored"))
        }
        (Some(_), others, _) => {
            let what = format_args!("{} snapshots of {source} begin with {id}", others + 1).to_string();
            Err(CliError::usage(what).next("give more digits of the ID"))
        }
    }
}

/// A point as a position in an answer.
pub(crate) fn position(point: &Point) -> Position {
    let Point { lsn, tx, time, named, .. } = *point;
    Position { named, ..Position::of(lsn, tx, Time(time)) }
}
