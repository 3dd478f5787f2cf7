//! From what people write to what the library resolves.

use pitr::format::{Lsn, Timestamp, TxId};
use pitr::recovery::{Moment, Point};

use crate::cli::documents::{Position, Time};
use crate::cli::target::Target;

/// The library's moment for a target, when it is `now`.
pub(crate) fn moment(target: Target, now: Timestamp) -> Moment {
    match target {
        Target::Latest => Moment::Latest,
        Target::Time(moment) => Moment::Time(moment.resolve(now)),
        Target::Lsn(lsn) => Moment::Lsn(Lsn::new(lsn)),
        Target::Tx(tx) => Moment::Tx(TxId::new(tx)),
    }
}

/// A point as documents show it.
pub(crate) fn position(point: &Point) -> Position {
    let Point { lsn, tx, time, named, .. } = *point;
    Position { named, ..Position::of(lsn, tx, Time(time)) }
}
