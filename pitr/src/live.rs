//! Comparison of a live source with the archive.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pitr_format::SourceName;
use pitr_recovery::{CompareOptions, History, Target};
use pitr_verify::{Level, LiveReport, Record, VerifiedState, compare_live};
use pitr_vfs::Rate;

use crate::{Error, Pitr, Result};

/// Usual rate, bytes a second: about 5% of a core.
const RATE: u64 = 16 << 20;
/// The part of the budget that is planned for the files.
const SHARE_OF_FILES: f64 = 0.8;
/// Attempts to pin the source at a commit that the archive has.
const ATTEMPTS: u32 = 5;

/// How a live source is compared.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveOptions {
    /// The part of the source that is compared, 0 to 1; chosen at random.
    pub share: f64,
    /// Time after which the comparison ends; none if `None`. The source's `-wal` file can't restart
    /// while it is compared.
    pub budget: Option<Duration>,
    /// Bytes that are compared in a second, at most; as many as possible if `None`. With a budget,
    /// a source that is too large for both is compared in parts that are chosen at random.
    pub rate: Option<NonZeroU64>,
    /// Folder of the source's local log, if it is not the usual one.
    pub state: Option<PathBuf>,
    /// Who compares, for the history.
    pub by: String,
}

impl Default for LiveOptions {
    /// Everything that a minute has time for, at a rate that an application does not notice.
    fn default() -> Self {
        let (budget, rate) = (Some(Duration::from_secs(60)), NonZeroU64::new(RATE));
        LiveOptions { share: 1.0, budget, rate, state: None, by: String::new() }
    }
}

impl LiveOptions {
    /// The bytes of the source that budget and rate have time for. Some of the time goes into the
    /// log, of which every block is compared again.
    fn bytes_max(&self) -> Option<u64> {
        let (budget, rate) = self.budget.zip(self.rate)?;
        Some((budget.as_secs_f64() * rate.get() as f64 * SHARE_OF_FILES) as u64)
    }
}

impl Pitr {
    /// Compares a live source with what the archive has of it, at one commit, while applications
    /// write. The source is at `path`, or where the repository knows it to be. A difference means
    /// that capture missed something: restored states are wrong from some commit on, until a new
    /// base is taken.
    ///
    /// Not in the process that watches the source.
    ///
    /// # Errors
    /// [`Error::Engine`] if the engine can't, or if no watcher answers; [`Error::NotComparable`] if
    /// the commits of the source can't be told apart; those of the source and the repository.
    pub fn compare_live(
        &self,
        source: &SourceName,
        path: Option<&Path>,
        options: &LiveOptions,
    ) -> Result<LiveReport> {
        let begun = self.clock().monotonic();
        let (capture, mut watched) = self.watched(source, None, options.state.clone())?;
        if let Some(path) = path {
            watched = capture.source(&capture.locate(path)?, source.clone(), options.state.clone());
        }
        let path = watched.place.resolved.as_path();
        let live = self.engines().detect(path)?.need_live()?;
        // The history, with every commit that returned before the call.
        let complete = || -> Result<History> {
            capture.ask_to_archive(&self.engine_context(), &watched)?;
            self.history(source, None)
        };
        let mut report = LiveReport::default();
        for _ in 0..ATTEMPTS {
            let before = complete()?.plan_for(&Target::latest()).ok().map(|plan| plan.reached.lsn);
            let failed = |error| Error::Live { path: path.to_owned(), source: error };
            let pinned = live.pin(self.objects().env(), path).map_err(failed)?;
            let history = complete()?;
            let Some(lsn) = pinned.find(&history, before).map_err(failed)? else { continue };
            let plan = history.plan_for(&Target::at(lsn))?;
            let pace = Pace::new(self, options);
            let seed = u64::from_le_bytes(self.objects().random_bytes()?);
            let go_on = |bytes| pace.go_on(bytes);
            let compare =
                CompareOptions { share: options.share, bytes_max: options.bytes_max(), seed, go_on: &go_on };
            let compared = self.with_restorer(&history, &plan, &|_| {}, |restorer| {
                compare_live(restorer, pinned.as_ref(), lsn, compare)
            })?;
            report = compared.ok_or_else(|| Error::NotComparable { path: path.to_owned() })?;
            break;
        }
        let took = self.clock().monotonic().saturating_sub(begun);
        self.record(&self.record_of_live(source, &report, took, &options.by));
        Ok(report)
    }

    fn record_of_live(&self, source: &SourceName, report: &LiveReport, took: Duration, by: &str) -> Record {
        let state = report.state.map(|state| VerifiedState {
            source: source.clone(),
            timeline: state.timeline,
            lsn: state.lsn,
            tx: state.tx,
            time: state.time,
            snapshot: None,
        });
        let found = |difference: &pitr_recovery::Difference| {
            format!("bytes {} to {} differ", difference.range.start, difference.range.end)
        };
        let mut findings: Vec<String> = report.comparison.differences.iter().map(found).collect();
        let mut count = report.comparison.count;
        if state.is_none() {
            findings.push(format!("the archive lacks the newest commit of {source}"));
            count += 1;
        }
        let record = Record::new(self.clock().now(), Level::Live, took, by);
        Record { state, bytes: report.comparison.bytes, count, findings, ..record }
    }
}

/// Keeps a comparison within its budget and rate.
struct Pace<'a> {
    pitr: &'a Pitr,
    end: Option<Duration>,
    rate: Option<Rate>,
}

impl<'a> Pace<'a> {
    fn new(pitr: &'a Pitr, options: &LiveOptions) -> Self {
        let now = pitr.clock().monotonic();
        let end = options.budget.map(|budget| now.saturating_add(budget));
        Pace { pitr, end, rate: options.rate.map(Rate::new) }
    }

    /// Waits until the next bytes may be read. False if the budget is used up before that.
    fn go_on(&self, bytes: u64) -> bool {
        let clock = self.pitr.clock();
        let now = clock.monotonic();
        let begin = self.rate.as_ref().map_or(now, |rate| rate.reserve(now, bytes).start);
        if self.end.is_some_and(|end| begin >= end) {
            return false;
        }
        clock.sleep(begin.saturating_sub(now));
        true
    }
}

#[cfg(feature = "sqlite")]
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]
mod tests {
    use super::*;
    use crate::PitrConfig;
    use pitr_sqlite::Sqlite;
    use pitr_verify::Live;
    use std::os::unix::fs::FileExt;
    use std::time::Instant;

    /// A database in a repository, and a connection that keeps its `-wal` file.
    fn archived(dir: &Path) -> (Pitr, PathBuf, rusqlite::Connection) {
        let pitr = Pitr::init(&PitrConfig::at(dir.join("repository"))).unwrap();
        let path = dir.join("app.db");
        let conn = rusqlite::Connection::open(&path).unwrap();
        conn.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(a); PRAGMA wal_autocheckpoint=0;")
            .unwrap();
        (pitr, path, conn)
    }

    /// Compares the database with the archive, of which the newest commit is known.
    fn compared(pitr: &Pitr, path: &Path, compare: CompareOptions<'_>) -> Option<LiveReport> {
        let source = pitr.only_source().unwrap();
        let history = pitr.history(&source, None).unwrap();
        let newest = history.plan_for(&Target::latest()).unwrap().reached.lsn;
        let pinned = Sqlite.pin(pitr.objects().env(), path).unwrap();
        let lsn = pinned.find(&history, Some(newest)).unwrap()?;
        let plan = history.plan_for(&Target::at(lsn)).unwrap();
        let compared = pitr.with_restorer(&history, &plan, &|_| {}, |restorer| {
            compare_live(restorer, pinned.as_ref(), lsn, compare)
        });
        compared.unwrap()
    }

    fn all(pitr: &Pitr, path: &Path) -> Option<LiveReport> {
        compared(pitr, path, CompareOptions::default())
    }

    #[test]
    fn an_archived_commit_is_found_by_its_place_in_the_log_and_is_equal() {
        let dir = tempfile::tempdir().unwrap();
        let (pitr, path, conn) = archived(dir.path());
        for round in 0..3 {
            conn.execute_batch("INSERT INTO t VALUES(randomblob(30000)); DELETE FROM t WHERE rowid % 3 = 1;")
                .unwrap();
            pitr.backup(&path).unwrap();
            let report = all(&pitr, &path).unwrap();
            assert!(report.is_sound() && report.comparison.is_whole, "{report:?}");
            let pages: i64 = conn.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
            assert_eq!(report.comparison.bytes, pages as u64 * 4096);
            // The database file alone.
            conn.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
            assert!(all(&pitr, &path).unwrap().is_sound(), "round {round}");
        }
        conn.execute_batch("INSERT INTO t VALUES(1)").unwrap();
        let behind = all(&pitr, &path).unwrap();
        assert!(!behind.is_sound(), "a commit that is not archived: {behind:?}");
        // Beside a writer, the place in the `-wal` file tells which commit it is.
        let source = pitr.only_source().unwrap();
        let pinned = Sqlite.pin(pitr.objects().env(), &path).unwrap();
        let find = || pinned.find(&pitr.history(&source, None).unwrap(), None).unwrap();
        assert_eq!(find(), None);
        pitr.backup(&path).unwrap();
        let reached = pitr.history(&source, None).unwrap().plan_for(&Target::latest()).unwrap().reached.lsn;
        assert_eq!(find(), Some(reached));
    }

    #[test]
    fn a_page_that_was_changed_behind_the_log_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let (pitr, path, conn) = archived(dir.path());
        conn.execute_batch("INSERT INTO t VALUES(randomblob(3000000));").unwrap();
        pitr.backup(&path).unwrap();
        conn.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        let len = path.metadata().unwrap().len();
        // Another program's handle: closing one of this process would drop SQLite's locks.
        let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
        for place in [5000, 1 << 20, len - 1] {
            let mut byte = [0];
            file.read_exact_at(&mut byte, place).unwrap();
            file.write_all_at(&[byte[0] ^ 1], place).unwrap();
            let report = all(&pitr, &path).unwrap();
            assert_eq!(report.comparison.count, 1, "{report:?}");
            assert!(report.comparison.differences[0].range.contains(&place));
            file.write_all_at(&byte, place).unwrap();
            assert!(all(&pitr, &path).unwrap().is_sound());
        }
    }

    #[test]
    fn share_budget_and_rate_limit_a_comparison() {
        let dir = tempfile::tempdir().unwrap();
        let (pitr, path, conn) = archived(dir.path());
        conn.execute_batch("INSERT INTO t VALUES(randomblob(20000000));").unwrap();
        pitr.backup(&path).unwrap();
        let bytes = |share, seed| {
            let compare = CompareOptions { share, seed, ..CompareOptions::default() };
            let report = compared(&pitr, &path, compare).unwrap();
            assert!(report.is_sound());
            report.comparison.bytes
        };
        let (whole, half) = (bytes(1.0, 1), bytes(0.5, 1));
        assert!(half > whole / 5 && half < whole * 4 / 5, "{half} of {whole}");
        assert_eq!(bytes(0.5, 1), half);
        let sizes: std::collections::BTreeSet<u64> = (0..8).map(|seed| bytes(0.3, seed)).collect();
        assert!(sizes.len() > 1, "every seed chooses the same: {sizes:?}");

        let options = |budget, rate| LiveOptions {
            budget: Some(budget),
            rate: NonZeroU64::new(rate),
            ..LiveOptions::default()
        };
        let pace = Pace::new(&pitr, &options(Duration::ZERO, 1 << 40));
        let ended = compared(
            &pitr,
            &path,
            CompareOptions { go_on: &|bytes| pace.go_on(bytes), ..Default::default() },
        );
        assert!(!ended.as_ref().unwrap().comparison.is_whole && ended.unwrap().comparison.bytes == 0);
        let pace = Pace::new(&pitr, &options(Duration::from_secs(60), 10_000));
        let begun = Instant::now();
        assert!(pace.go_on(500) && pace.go_on(500) && pace.go_on(1));
        assert!(begun.elapsed() >= Duration::from_millis(99));

        // Larger than budget and rate have time for: a part of it, and all over it.
        assert_eq!(options(Duration::from_secs(10), 1000).bytes_max(), Some(8000));
        let part =
            compared(&pitr, &path, CompareOptions { bytes_max: Some(whole / 2), ..Default::default() });
        let part = part.unwrap().comparison;
        assert!(part.bytes > whole / 5 && part.bytes < whole * 4 / 5 && !part.is_whole, "{part:?}");
        let fits = CompareOptions { bytes_max: Some(whole * 2), ..Default::default() };
        assert!(compared(&pitr, &path, fits).unwrap().comparison.is_whole);
    }
}
