//! A common moment of several sources.
//!
//! Sources that are restored together are restored to one time. The newest such time is the
//! earliest of their watermarks, because up to it every commit of every source is known. If a
//! commit may have happened on either side of this time, an earlier time is tried, until the state
//! of each source is certain.

use crate::error::{Error, Result, Why};
use crate::history::History;
use crate::target::{RecoveryTarget, Target};
use pitr_format::Timestamp;

/// Number of attempts to find an earlier moment. If all sources are written without a pause, there
/// may be no moment at which the state of each is certain.
const TRIES: usize = 64;

/// The newest time at which the state of each history is known.
///
/// # Errors
/// The number of a history, and why it has no such time: its latest state can't be restored, or no
/// such time was found.
pub fn newest_common(histories: &[History]) -> Result<Timestamp, (usize, Error)> {
    let mut at = earliest_watermark(histories)?;
    for tries_left in (0..TRIES).rev() {
        match first_refusal(histories, at)? {
            None => return Ok(at),
            Some((number, error)) if tries_left == 0 => return Err((number, error)),
            Some((_, error)) => at = moved_back(at, &error),
        }
    }
    Ok(at)
}

/// The earliest of the histories' watermarks: the newest time up to which every commit of each is
/// known.
///
/// # Errors
/// Those of [`newest_common`].
pub fn earliest_watermark(histories: &[History]) -> Result<Timestamp, (usize, Error)> {
    let mut earliest = Timestamp::MAX;
    for (number, history) in histories.iter().enumerate() {
        let watermark = || {
            // Fails if the latest state can't be restored: an older state must not replace it.
            history.resolve(&Target::at(RecoveryTarget::Latest))?;
            Ok(history.restorable()?.last().map(|span| span.watermark))
        };
        let watermark: Result<Option<Timestamp>> = watermark();
        earliest = earliest.min(watermark.map_err(|error| (number, error))?.unwrap_or(Timestamp::MAX));
    }
    Ok(earliest)
}

/// The first history in which a commit may have happened on either side of the time.
fn first_refusal(histories: &[History], at: Timestamp) -> Result<Option<(usize, Error)>, (usize, Error)> {
    for (number, history) in histories.iter().enumerate() {
        match history.resolve(&Target::at(RecoveryTarget::Timestamp(at))) {
            Ok(_) => {}
            Err(Error::TargetUnreachable(found)) if matches!(found.why, Why::Uncertain { .. }) => {
                return Ok(Some((number, Error::TargetUnreachable(found))));
            }
            Err(error) => return Err((number, error)),
        }
    }
    Ok(None)
}

/// A time before the commit that may have happened on either side of `at`.
fn moved_back(at: Timestamp, refusal: &Error) -> Timestamp {
    let before = Timestamp::from_micros(at.micros().saturating_sub(1));
    match refusal {
        Error::TargetUnreachable(found) => match found.why {
            // The commit's earliest time may be the time of the previous commit, which is certain.
            Why::Uncertain { earliest, .. } if earliest < at => earliest,
            _ => before,
        },
        _ => before,
    }
}
