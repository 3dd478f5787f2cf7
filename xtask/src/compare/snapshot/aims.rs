//! What we are out for, and whether a comparison shows it.

use super::{Bounds, LISTED, MedianTable, Step, WATCHED};
use crate::usage::MEMORY_MAX;
use std::fmt;

/// A full backup and a restore: so many times as fast as the best of the others, or this share of the bound.
const FULL_TIMES: f64 = 1.5;
const BOUND_SHARE: f64 = 0.85;
/// An increment: so many times as fast, and this share of what is added by those that cut files into chunks.
const INCREMENT_TIMES: f64 = 3.0;
const ADDED_SHARE: f64 = 0.1;

/// What came of an aim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Reached,
    /// Not reached, and the machine gives hardly more.
    OutOfReach,
    Missed,
}

impl Outcome {
    fn reached(is: bool) -> Self {
        if is { Outcome::Reached } else { Outcome::Missed }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outcome::Reached => "reached",
            Outcome::OutOfReach => "out of reach here",
            Outcome::Missed => "missed",
        })
    }
}

/// Each aim that can be told of those that took part, with what came of it.
pub(super) fn of(megabytes: f64, table: &MedianTable, bounds: Bounds) -> Vec<(Outcome, String)> {
    let mut aims = Vec::new();
    let share_of_bound = |step| {
        let (ours, bound) = (table.get(&(step, "pitr"))?, bounds.of(step)?);
        Some(megabytes / ours.seconds / bound)
    };
    let told_share = |share| format!("{} of the bound, of {}", percent(share), percent(BOUND_SHARE));
    for step in [Step::First, Step::Restore].map(Step::name) {
        let times = times(table, step, step);
        let share = share_of_bound(step);
        let reached = times.is_some_and(|(_, times)| times >= FULL_TIMES)
            || share.is_some_and(|share| share >= BOUND_SHARE);
        let told = [
            times.map(|(name, times)| format!("{times:.2} times as fast as {name}, of {FULL_TIMES}")),
            share.map(told_share),
        ];
        let told: Vec<String> = told.into_iter().flatten().collect();
        if !told.is_empty() {
            aims.push((Outcome::reached(reached), format!("{step} {}", told.join(", or "))));
        }
    }
    // However it came by what changed, an increment stands beside theirs.
    let second = Step::Second.name();
    for step in [second, WATCHED, LISTED] {
        let Some(ours) = table.get(&(step, "pitr")) else { continue };
        if let Some((name, times)) = times(table, step, second) {
            let told = format!("{step} {times:.2} times as fast as {name}, of {INCREMENT_TIMES}");
            aims.push(match share_of_bound(step) {
                // Nobody is faster than the disk who has to read everything.
                Some(share) if times < INCREMENT_TIMES => {
                    let outcome = if share < BOUND_SHARE { Outcome::Missed } else { Outcome::OutOfReach };
                    (outcome, format!("{told}, at {}", told_share(share)))
                }
                _ => (Outcome::reached(times >= INCREMENT_TIMES), told),
            });
        }
        let others = others(table, second).filter(|(name, _)| !name.starts_with("pgbackrest"));
        if let Some(least) = others.map(|(_, row)| row.added).min_by(f64::total_cmp) {
            let share = ours.added / least;
            let told = format!(
                "{step} adds {} of the least that others add, of {}",
                percent(share),
                percent(ADDED_SHARE)
            );
            aims.push((Outcome::reached(share <= ADDED_SHARE), told));
        }
    }
    let ours = table.iter().filter(|((_, name), _)| *name == "pitr");
    if let Some(most) = ours.map(|(_, row)| row.memory).max_by(f64::total_cmp) {
        let told = format!("{:.0} MB of memory at most, below {:.0}", most / 1e6, MEMORY_MAX as f64 / 1e6);
        aims.push((Outcome::reached(most < MEMORY_MAX as f64), told));
    }
    aims
}

fn others<'t>(
    table: &'t MedianTable,
    step: &'t str,
) -> impl Iterator<Item = (&'static str, &'t super::Medians)> {
    table
        .iter()
        .filter(move |((of, name), _)| *of == step && *name != "pitr")
        .map(|((_, name), row)| (*name, row))
}

/// The fastest of the others in a step, and how many times as fast we are in `ours`.
fn times(table: &MedianTable, ours: &'static str, theirs: &str) -> Option<(&'static str, f64)> {
    let (name, best) = others(table, theirs).min_by(|a, b| a.1.seconds.total_cmp(&b.1.seconds))?;
    Some((name, best.seconds / table.get(&(ours, "pitr"))?.seconds))
}

fn percent(share: f64) -> String {
    format!("{:.0}%", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::snapshot::Medians;

    #[test]
    fn an_aim_is_judged_by_the_best_of_the_others() {
        let row = |seconds, added, memory| Medians { seconds, cpu_seconds: 1.0, memory, stored: 1e9, added };
        let none = Bounds { first: 0.0, second: 0.0, restore: 0.0 };
        let mut table = MedianTable::new();
        table.insert(("first", "pitr"), row(2.0, 1e6, 100e6));
        table.insert(("second", "pitr"), row(1.0, 8e6, 300e6));
        table.insert((LISTED, "pitr"), row(0.5, 20e6, 100e6));
        assert_eq!(of(1000.0, &table, none).len(), 1, "nobody to stand beside");
        for (name, first, second, added) in
            [("rustic", 3.1, 2.9, 100e6), ("borg", 9.0, 9.0, 150e6), ("pgbackrest", 9.0, 2.0, 1e6)]
        {
            table.insert(("first", name), row(first, 1e9, 1e9));
            table.insert(("second", name), row(second, added, 1e9));
        }
        let told = of(1000.0, &table, none);
        let expected = [
            (true, "first 1.55 times as fast as rustic, of 1.5"),
            (false, "second 2.00 times as fast as pgbackrest, of 3"),
            (true, "second adds 8% of the least that others add, of 10%"),
            (true, "second, listed 4.00 times as fast as pgbackrest, of 3"),
            (false, "second, listed adds 20% of the least that others add, of 10%"),
            (false, "300 MB of memory at most, below 256"),
        ];
        assert_eq!(told, expected.map(|(reached, told)| (Outcome::reached(reached), told.to_owned())));

        // Slower than the others, and near the bound.
        table.insert(("first", "rustic"), row(1.9, 1e9, 1e9));
        for (bound, near) in [(510.0, true), (650.0, false)] {
            assert_eq!(of(1000.0, &table, Bounds { first: bound, ..none })[0].0, Outcome::reached(near));
        }
        // Who is not told what changed reads everything; who is told is not excused by that.
        for (bound, outcome) in [(1100.0, Outcome::OutOfReach), (1300.0, Outcome::Missed)] {
            let told = of(1000.0, &table, Bounds { second: bound, ..none });
            assert_eq!(told[1].0, outcome);
        }
        table.insert((LISTED, "pitr"), row(0.9, 1e6, 100e6));
        let told = of(1000.0, &table, Bounds { second: 1100.0, ..none });
        assert_eq!(told[3].0, Outcome::Missed, "{told:?}");
    }
}
