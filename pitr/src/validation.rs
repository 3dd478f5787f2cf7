//! Rounds of a continuous validation: some snapshots are rehearsed, and the objects are checked.

use std::num::NonZeroU32;
use std::time::Duration;

use pitr_format::{SourceName, Timestamp};
use pitr_recovery::Target;
use pitr_snapshot::SnapshotKind;
use pitr_verify::{
    COVERAGE_WINDOW, Candidate, Coverage, Depth, Fault, Health, Level, Options, Record, Rehearsal, Report,
    Strategy, Verifications, select,
};

use crate::{Error, Pitr, RehearsalRequest, Result};

/// What a round of validation does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidationOptions {
    /// How a copy is rehearsed.
    pub rehearsal: RehearsalRequest,
    /// Which snapshots are rehearsed.
    pub strategy: Strategy,
    /// Snapshots that are rehearsed in a round, at most.
    pub at_most: usize,
    /// Time after which a round begins no other rehearsal; none if `None`.
    pub budget: Option<Duration>,
    /// Time within which every snapshot and every object is to be verified once.
    pub window: Duration,
    /// Only these sources; all if empty.
    pub sources: Vec<SourceName>,
}

impl ValidationOptions {
    /// At most 5 snapshots in a round, those first whose verification is the longest ago, and
    /// everything within a week.
    #[must_use]
    pub fn new(rehearsal: RehearsalRequest) -> Self {
        let (strategy, window) = (Strategy::default(), COVERAGE_WINDOW);
        ValidationOptions { rehearsal, strategy, at_most: 5, budget: None, window, sources: Vec::new() }
    }
}

/// The outcome of a round of validation.
#[derive(Debug)]
pub struct Round {
    /// The check of the objects.
    pub report: Report,
    /// True if every byte of the objects was read. Otherwise a frame of each object was.
    pub is_whole: bool,
    /// The rehearsals, in their order. An error, such as a sandbox that is too small, ends one
    /// rehearsal, not the round.
    pub rehearsals: Vec<(Candidate, Result<Rehearsal>)>,
    /// Chosen snapshots for which the budget left no time.
    pub left: usize,
}

impl Round {
    /// Number of findings: faults of objects, and findings in copies.
    #[must_use]
    pub fn findings(&self) -> usize {
        let of_copies = self.rehearsals.iter().filter_map(|(_, rehearsal)| rehearsal.as_ref().ok());
        self.report.faults.len() + of_copies.map(|rehearsal| rehearsal.findings.len()).sum::<usize>()
    }
}

impl Pitr {
    /// The snapshots that can be rehearsed: those of one source, by their age.
    pub fn candidates(&self, source: &SourceName) -> Result<Vec<Candidate>> {
        let backups = self.backups(source)?.backups.into_iter();
        Ok(backups
            .map(|backup| Candidate {
                source: source.clone(),
                snapshot: backup.id,
                timeline: backup.timeline,
                is_full: backup.kind == SnapshotKind::Full,
                created: backup.created,
                bytes: backup.logical_bytes,
            })
            .collect())
    }

    /// What was verified of a source within the window, and how far it can be relied on.
    pub fn health(&self, source: &SourceName, window: Duration) -> Result<(Coverage, Health)> {
        Ok(self.health_of(source, &self.candidates(source)?, &self.verifications()?, window))
    }

    /// The health of a source with these snapshots and verifications.
    pub(crate) fn health_of(
        &self,
        source: &SourceName,
        snapshots: &[Candidate],
        history: &Verifications,
        window: Duration,
    ) -> (Coverage, Health) {
        let now = self.clock().now();
        let coverage = Coverage::of(snapshots, history, now, window);
        (coverage, Health::of(source, snapshots, history, now, window))
    }

    /// A round of validation: checks the objects, then rehearses some snapshots. Everything goes
    /// into the repository's history.
    ///
    /// The objects are read whole if half of the window has passed since that was last done, and
    /// else a frame of each. `tell` receives each rehearsal when it ends.
    ///
    /// # Errors
    /// Errors of the repository. What is wrong with objects or copies is in the answer.
    pub fn validation_round(
        &self,
        options: &ValidationOptions,
        tell: &mut dyn FnMut(&Candidate, &Result<Rehearsal>),
    ) -> Result<Round> {
        let begun = self.clock().monotonic();
        let history = self.verifications()?;
        let now = self.clock().now();
        let checked = Coverage::of(&[], &history, now, options.window / 2).objects_checked;
        let is_whole = checked.is_none();
        let depth = if is_whole { Depth::Whole } else { Depth::Sample(NonZeroU32::MIN) };
        let report = self.verify(Options { depth, metadata: true }, &|_| {})?;
        let took = self.clock().monotonic().saturating_sub(begun);
        self.record(&of_objects(self.clock().now(), took, &report, &options.rehearsal.by));

        let view = self.view()?;
        let sources = match options.sources.is_empty() {
            true => view.sources()?,
            false => options.sources.clone(),
        };
        let mut candidates = Vec::new();
        for source in &sources {
            candidates.extend(view.candidates(source)?);
        }
        let seed = u64::from_le_bytes(self.objects().random_bytes()?);
        let chosen = select(&candidates, &history, options.strategy, options.at_most, seed);
        let mut round = Round { report, is_whole, rehearsals: Vec::new(), left: 0 };
        for candidate in chosen {
            let spent = self.clock().monotonic().saturating_sub(begun);
            if options.budget.is_some_and(|budget| spent >= budget) {
                round.left += 1;
                continue;
            }
            let rehearsed = view.rehearse_snapshot(&candidate, &options.rehearsal);
            if let Err(Error::Objects(error)) = rehearsed {
                return Err(error.into());
            }
            tell(&candidate, &rehearsed);
            round.rehearsals.push((candidate, rehearsed));
        }
        Ok(round)
    }

    fn rehearse_snapshot(&self, candidate: &Candidate, request: &RehearsalRequest) -> Result<Rehearsal> {
        let history = self.history(&candidate.source, Some(candidate.timeline))?;
        let plan = history.plan_for(&Target::at(candidate.snapshot))?;
        self.rehearse(&history, &plan, request, &|_| {})
    }

    /// Adds to the history of verifications. If that can't be written, it is a warning.
    pub(crate) fn record(&self, record: &Record) {
        if let Err(error) = Verifications::add(&self.objects().live(), record) {
            tracing::warn!("a verification could not be recorded in the repository: {error}");
        }
    }
}

/// The record of a check of all objects.
pub(crate) fn of_objects(at: Timestamp, took: Duration, report: &Report, by: &str) -> Record {
    let level = if report.is_of_every_byte() { Level::Checksum } else { Level::Metadata };
    let text = |Fault { object, what, .. }: &Fault| format!("{object}: {what}");
    Record {
        bytes: report.bytes,
        count: report.faults.len() as u64,
        findings: report.faults.iter().map(text).collect(),
        ..Record::new(at, level, took, by)
    }
}

#[cfg(feature = "sqlite")]
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]
mod tests {
    use super::*;
    use crate::PitrConfig;
    use pitr_recovery::{RecoveryTarget, Restored};
    use pitr_verify::RehearsalOptions;
    use std::fs;
    use std::path::Path;

    /// A repository with snapshots of a database.
    fn repository(dir: &Path, snapshots: usize) -> Pitr {
        let pitr = Pitr::init(&PitrConfig::at(dir.join("repository"))).unwrap();
        let path = dir.join("app.db");
        let conn = rusqlite::Connection::open(&path).unwrap();
        conn.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(a);").unwrap();
        for _ in 0..snapshots {
            conn.execute_batch("INSERT INTO t VALUES(randomblob(3000));").unwrap();
            pitr.backup(&path).unwrap();
        }
        pitr
    }

    fn options(dir: &Path) -> ValidationOptions {
        ValidationOptions::new(RehearsalRequest::new(RehearsalOptions::within(dir)))
    }

    #[test]
    fn rounds_cover_every_snapshot_and_find_what_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let pitr = repository(dir.path(), 7);
        let sandbox = dir.path().join("sandbox");
        fs::create_dir(&sandbox).unwrap();
        let options = options(&sandbox);
        let source = pitr.only_source().unwrap();
        let score = || pitr.health(&source, options.window).unwrap();
        assert_eq!(score().1.score, 60);
        let mut told = 0;
        let mut round = || pitr.validation_round(&options, &mut |_, _| told += 1).unwrap();
        let first = round();
        assert_eq!((first.findings(), first.rehearsals.len(), first.is_whole, first.left), (0, 5, true, 0));
        assert_eq!((score().0.rehearsed, score().0.objects_checked.is_some()), (5, true));
        let second = round();
        assert!(!second.is_whole && second.report.bytes < first.report.bytes);
        assert_eq!((score().1.score, score().0.rehearsed), (100, 7));
        assert_eq!(told, 10);

        let packs = pitr.objects().list("packs").unwrap();
        let repository = dir.path().join("repository");
        packs.iter().for_each(|pack| fs::remove_file(repository.join(&pack.path)).unwrap());
        let third = pitr.validation_round(&options, &mut |_, _| {}).unwrap();
        assert!(third.findings() > 5 && !third.report.is_sound(), "{third:?}");
        assert!(score().1.score < 50, "{:?}", score());
        assert_eq!(fs::read_dir(&sandbox).unwrap().count(), 0);
    }

    #[test]
    fn the_budget_and_the_sources_limit_a_round_and_one_error_does_not_end_it() {
        let dir = tempfile::tempdir().unwrap();
        let pitr = repository(dir.path(), 3);
        let of = |options: &ValidationOptions| pitr.validation_round(options, &mut |_, _| {}).unwrap();
        let none = ValidationOptions { budget: Some(Duration::ZERO), ..options(dir.path()) };
        assert_eq!((of(&none).rehearsals.len(), of(&none).left), (0, 3));
        let others =
            ValidationOptions { sources: vec![SourceName::new("other").unwrap()], ..options(dir.path()) };
        assert_eq!(of(&others).rehearsals.len(), 0);
        let two = ValidationOptions { at_most: 2, ..options(dir.path()) };
        assert_eq!(of(&two).rehearsals.len(), 2);
        let mut small = options(dir.path());
        small.rehearsal.options.max_bytes = Some(1);
        let small = of(&small);
        assert!(
            small.rehearsals.len() == 3 && small.rehearsals.iter().all(|(_, done)| done.is_err()),
            "{small:?}"
        );
    }

    #[test]
    fn the_time_of_a_rehearsal_is_known_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let pitr = repository(dir.path(), 1);
        let source = pitr.only_source().unwrap();
        assert_eq!(pitr.verifications().unwrap().last_rehearsal(&source), None);
        pitr.validation_round(&options(dir.path()), &mut |_, _| {}).unwrap();
        let history = pitr.verifications().unwrap();
        let record = history.last_rehearsal(&source).unwrap();
        assert!(record.is_sound() && record.restore_took.unwrap() <= record.took && record.bytes > 0);
        let state = record.state.as_ref().unwrap();
        let output = dir.path().join("restored.db");
        let restored: Restored =
            pitr.restore_to(&source, &Target::at(RecoveryTarget::Lsn(state.lsn)), output).unwrap();
        assert_eq!(restored.reached().tx, state.tx);
    }
}
