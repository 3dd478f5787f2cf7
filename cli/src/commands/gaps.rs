//! The gaps of a history, for `info` and `log`.

use pitr::recovery::{History, Restorable};

use super::targets;
use crate::failure::CliError;
use crate::failure::explain::explain;
use crate::output::values::{Gap, Position, Time};

/// The gaps between the restorable spans of a history and after the last one. Keeps a gap if
/// `wanted` returns true for the span after it.
pub(crate) fn of(
    history: &History,
    spans: &[Restorable],
    wanted: impl Fn(Option<&Restorable>) -> bool,
) -> Result<Vec<Gap>, CliError> {
    let mut out = Vec::new();
    for gap in history.gaps().map_err(|e| explain(e.into()))? {
        let from = spans
            .iter()
            .rev()
            .find(|span| span.end <= gap.from)
            .map(|span| Position { time: Time(span.watermark), ..targets::position(&span.to) });
        let after = spans.iter().find(|span| span.from.lsn >= gap.to);
        let Some(from) = from.filter(|_| wanted(after)) else { continue };
        let to = after.map(|span| targets::position(&span.from));
        out.push(Gap { source: None, from, to, reason: gap.cause.to_string() });
    }
    Ok(out)
}
