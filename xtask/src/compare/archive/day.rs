//! A day of the measured pace: bytes, requests, price.

use pitr_testkit::proxy::Kind;

pub(super) const DAY_SECONDS: f64 = 86_400.0;
/// S3 standard, US dollars for 1,000 requests. Deletions are free.
const WRITES_USD: f64 = 0.005;
const READS_USD: f64 = 0.0004;

/// Bytes that the commits added to an archive.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bytes {
    /// When the application ended.
    pub(super) added: u64,
    /// After everything that compaction makes superfluous is deleted; `None` if the program deletes
    /// it only later.
    pub(super) compacted: Option<u64>,
    /// A day with compaction, as far as the run shows it.
    pub(super) day: Option<f64>,
}

/// Price of a day's requests, US dollars. `requests` says how many of a kind there were in these
/// seconds.
pub(super) fn price(requests: impl Fn(Kind) -> u64, seconds: f64) -> f64 {
    let usd = |kind: Kind| match kind {
        Kind::Put | Kind::List | Kind::Other => WRITES_USD,
        Kind::Get | Kind::Head => READS_USD,
        Kind::Delete => 0.0,
    };
    let in_a_run: f64 = Kind::ALL.iter().map(|kind| requests(*kind) as f64 / 1000.0 * usd(*kind)).sum();
    in_a_run * DAY_SECONDS / seconds
}

/// Files of Litestream that the commits caused, of level 0 and 1: their number of transactions, and
/// their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Level {
    pub(super) transactions: u64,
    pub(super) bytes: u64,
}

/// A day of Litestream's levels 0 and 1: level 0 keeps this many seconds, and level 1 the day.
/// `None` if there is no file of level 1.
pub(super) fn of_levels(level_0: Level, level_1: Level, seconds: f64, kept_seconds: f64) -> Option<f64> {
    let a_day = level_0.transactions as f64 / seconds * DAY_SECONDS;
    let newest = level_0.bytes as f64 / seconds * kept_seconds;
    (level_1.transactions > 0).then(|| newest + level_1.bytes as f64 / level_1.transactions as f64 * a_day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_and_listings_cost_more_than_reads_and_deletions_nothing() {
        let a_day = |kind: Kind| price(|other| if other == kind { 1_000 } else { 0 }, DAY_SECONDS);
        assert_eq!([Kind::Put, Kind::List].map(a_day), [0.005, 0.005]);
        assert_eq!([Kind::Get, Kind::Head, Kind::Delete].map(a_day), [0.0004, 0.0004, 0.0]);
        // One PUT a second.
        assert_eq!(price(|kind| u64::from(kind == Kind::Put) * 60, 60.0), 0.432);
    }

    #[test]
    fn a_day_of_levels_has_the_newest_of_level_0_and_all_of_level_1() {
        let level_0 = Level { transactions: 100, bytes: 5_000 };
        let level_1 = Level { transactions: 60, bytes: 600 };
        // 300 s of level 0 at 50 B/s, and 86,400 transactions of 10 B.
        assert_eq!(of_levels(level_0, level_1, 100.0, 300.0), Some(15_000.0 + 864_000.0));
        assert_eq!(of_levels(level_0, Level::default(), 100.0, 300.0), None);
    }
}
