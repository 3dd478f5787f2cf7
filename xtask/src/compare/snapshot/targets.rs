//! The targets of a comparison, and whether it reaches them.

use super::{Bounds, LISTED, MedianTable, Step, WATCHED};
use crate::usage::MEMORY_MAX;
use std::fmt;

/// Full backup and restore: required speed relative to the best of the others, or share of the
/// bound.
const FULL_TIMES: f64 = 1.5;
const BOUND_SHARE: f64 = 0.85;
/// Increment: required speed relative to the best of the others, and maximum share of the bytes
/// that content-defined chunking adds.
const INCREMENT_TIMES: f64 = 3.0;
const ADDED_SHARE: f64 = 0.1;

/// The outcome of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Reached,
    /// Not reached, but the machine allows little more.
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

/// Each target that can be checked with these participants, and its outcome.
pub(super) fn of(megabytes: f64, table: &MedianTable, bounds: Bounds) -> Vec<(Outcome, String)> {
    let mut targets = Vec::new();
    let share_of_bound = |step| {
        let (ours, bound) = (table.get(&(step, "pitr"))?, bounds.of(step)?);
        Some(megabytes / ours.seconds / bound)
    };
    let share_text = |share| format!("{} of the bound, target {}", percent(share), percent(BOUND_SHARE));
    for step in [Step::First, Step::Restore].map(Step::name) {
        let times = times(table, step, step);
        let share = share_of_bound(step);
        let reached = times.is_some_and(|(_, times)| times >= FULL_TIMES)
            || share.is_some_and(|share| share >= BOUND_SHARE);
        let text = [
            times.map(|(name, times)| format!("{times:.2} times as fast as {name}, target {FULL_TIMES}")),
            share.map(share_text),
        ];
        let text: Vec<String> = text.into_iter().flatten().collect();
        if !text.is_empty() {
            targets.push((Outcome::reached(reached), format!("{step} {}", text.join(", or "))));
        }
    }
    // Compares every kind of pitr's increments with theirs.
    let second = Step::Second.name();
    for step in [second, WATCHED, LISTED] {
        let Some(ours) = table.get(&(step, "pitr")) else { continue };
        if let Some((name, times)) = times(table, step, second) {
            let text = format!("{step} {times:.2} times as fast as {name}, target {INCREMENT_TIMES}");
            targets.push(match share_of_bound(step) {
                // A program that must read everything can't be faster than the disk.
                Some(share) if times < INCREMENT_TIMES => {
                    let outcome = if share < BOUND_SHARE { Outcome::Missed } else { Outcome::OutOfReach };
                    (outcome, format!("{text}, at {}", share_text(share)))
                }
                _ => (Outcome::reached(times >= INCREMENT_TIMES), text),
            });
        }
        let others = others(table, second).filter(|(name, _)| !name.starts_with("pgbackrest"));
        if let Some(least) = others.map(|(_, row)| row.added).min_by(f64::total_cmp) {
            let share = ours.added / least;
            let text = format!(
                "{step} adds {} of the least that others add, target {}",
                percent(share),
                percent(ADDED_SHARE)
            );
            targets.push((Outcome::reached(share <= ADDED_SHARE), text));
        }
    }
    let ours = table.iter().filter(|((_, name), _)| *name == "pitr");
    if let Some(most) = ours.map(|(_, row)| row.memory).max_by(f64::total_cmp) {
        let text =
            format!("{:.0} MB of memory at most, target below {:.0}", most / 1e6, MEMORY_MAX as f64 / 1e6);
        targets.push((Outcome::reached(most < MEMORY_MAX as f64), text));
    }
    targets
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

/// The fastest of the others in a step, and our speed in `ours` relative to it.
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
    fn a_target_is_judged_by_the_best_of_the_others() {
        let row = |seconds, added, memory| Medians { seconds, cpu_seconds: 1.0, memory, stored: 1e9, added };
        let none = Bounds { first: 0.0, second: 0.0, restore: 0.0 };
        let mut table = MedianTable::new();
        table.insert(("first", "pitr"), row(2.0, 1e6, 100e6));
        table.insert(("second", "pitr"), row(1.0, 8e6, 300e6));
        table.insert((LISTED, "pitr"), row(0.5, 20e6, 100e6));
        assert_eq!(of(1000.0, &table, none).len(), 1, "no other program to compare with");
        for (name, first, second, added) in
            [("rustic", 3.1, 2.9, 100e6), ("borg", 9.0, 9.0, 150e6), ("pgbackrest", 9.0, 2.0, 1e6)]
        {
            table.insert(("first", name), row(first, 1e9, 1e9));
            table.insert(("second", name), row(second, added, 1e9));
        }
        let text = of(1000.0, &table, none);
        let expected = [
            (true, "first 1.55 times as fast as rustic, target 1.5"),
            (false, "second 2.00 times as fast as pgbackrest, target 3"),
            (true, "second adds 8% of the least that others add, target 10%"),
            (true, "second, listed 4.00 times as fast as pgbackrest, target 3"),
            (false, "second, listed adds 20% of the least that others add, target 10%"),
            (false, "300 MB of memory at most, target below 256"),
        ];
        assert_eq!(text, expected.map(|(reached, text)| (Outcome::reached(reached), text.to_owned())));

        // Slower than the others, and close to the bound.
        table.insert(("first", "rustic"), row(1.9, 1e9, 1e9));
        for (bound, near) in [(510.0, true), (650.0, false)] {
            assert_eq!(of(1000.0, &table, Bounds { first: bound, ..none })[0].0, Outcome::reached(near));
        }
        // Without a list, an increment must read everything, so the bound limits it. With a list,
        // it need not: then the target is missed.
        for (bound, outcome) in [(1100.0, Outcome::OutOfReach), (1300.0, Outcome::Missed)] {
            let text = of(1000.0, &table, Bounds { second: bound, ..none });
            assert_eq!(text[1].0, outcome);
        }
        table.insert((LISTED, "pitr"), row(0.9, 1e6, 100e6));
        let text = of(1000.0, &table, Bounds { second: 1100.0, ..none });
        assert_eq!(text[3].0, Outcome::Missed, "{text:?}");
    }
}
