//! What was verified, what to verify next, and how far a source can be relied on.
//!
//! Pure: computed from a list of snapshots and the history of verifications.

use crate::history::{Level, Record, Verifications};
use pitr_format::{SourceName, TimelineId, Timestamp};
use pitr_snapshot::SnapshotId;
use pitr_vfs::mix64;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

/// A snapshot that can be rehearsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The source.
    pub source: SourceName,
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Its timeline.
    pub timeline: TimelineId,
    /// True if it was taken without a parent.
    pub is_full: bool,
    /// When it was taken.
    pub created: Timestamp,
    /// Bytes of its files.
    pub bytes: u64,
}

/// The order in which snapshots are rehearsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Strategy {
    /// Those that were never verified, then those whose verification is the longest ago. So every
    /// snapshot has its turn.
    #[default]
    OldestVerified,
    /// Any.
    Random,
    /// Full snapshots before others, each kind as [`OldestVerified`](Self::OldestVerified).
    FullFirst,
    /// The newest snapshots, in every round: those that a recovery needs most likely.
    Newest,
}

/// Chooses at most `at_most` snapshots. `seed` decides among equals, and in
/// [`Strategy::Random`].
#[must_use]
pub fn select(
    candidates: &[Candidate],
    history: &Verifications,
    strategy: Strategy,
    at_most: usize,
    seed: u64,
) -> Vec<Candidate> {
    let verified = last_verified(history);
    let last = |candidate: &Candidate| verified.get(&candidate.snapshot).map(|record| record.at);
    let any = |candidate: &Candidate| mixed(candidate.snapshot, seed);
    let mut chosen = candidates.to_vec();
    match strategy {
        Strategy::OldestVerified => chosen.sort_by_key(|one| (last(one), one.created, any(one))),
        Strategy::Random => chosen.sort_by_key(any),
        Strategy::FullFirst => chosen.sort_by_key(|one| (!one.is_full, last(one), one.created, any(one))),
        Strategy::Newest => chosen.sort_by_key(|one| (Reverse(one.created), any(one))),
    }
    chosen.truncate(at_most);
    chosen
}

/// The last rehearsal of each snapshot itself, with or without findings.
fn last_verified(history: &Verifications) -> HashMap<SnapshotId, &Record> {
    let of_snapshot = |record: &Record| {
        let is_rehearsal = matches!(record.level, Level::Restore | Level::Functional);
        record.state.as_ref().and_then(|state| state.snapshot).filter(|_| is_rehearsal)
    };
    let records = history.records.iter();
    // Of several, the last one stays.
    records.filter_map(|record| Some((of_snapshot(record)?, record))).collect()
}

/// A number that looks random, from a snapshot and a seed.
fn mixed(id: SnapshotId, seed: u64) -> u64 {
    let halves = id.0.as_chunks::<8>().0;
    halves.iter().fold(seed, |sum, half| mix64(sum ^ u64::from_le_bytes(*half)))
}

/// How much of a source was verified within a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coverage {
    /// Number of snapshots.
    pub snapshots: usize,
    /// Number of those that were rehearsed, and were sound.
    pub rehearsed: usize,
    /// The last sound check of all objects, within the time.
    pub objects_checked: Option<Timestamp>,
}

/// The time within which everything is to be verified once.
pub const COVERAGE_WINDOW: Duration = Duration::from_secs(7 * 24 * 3600);

impl Coverage {
    /// The coverage of a source's snapshots in the `window` before `now`.
    #[must_use]
    pub fn of(snapshots: &[Candidate], history: &Verifications, now: Timestamp, window: Duration) -> Self {
        let window = i64::try_from(window.as_micros()).unwrap_or(i64::MAX);
        let from = Timestamp::from_micros(now.micros().saturating_sub(window));
        let counts = |record: &Record| record.is_sound() && record.at >= from;
        let verified = last_verified(history);
        let rehearsed = |one: &&Candidate| verified.get(&one.snapshot).is_some_and(|record| counts(record));
        let of_objects = |record: &&Record| record.level == Level::Checksum && counts(record);
        Coverage {
            snapshots: snapshots.len(),
            rehearsed: snapshots.iter().filter(rehearsed).count(),
            objects_checked: history.records.iter().rev().find(of_objects).map(|record| record.at),
        }
    }
}

/// Why a source has less than the full score.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Concern {
    /// The last rehearsal of a state found something.
    Findings {
        /// The rehearsal.
        record: Box<Record>,
    },
    /// The last check of all objects found faults.
    Faults {
        /// Their number.
        count: u64,
        /// When they were found.
        at: Timestamp,
    },
    /// Snapshots without a sound rehearsal within the time.
    NotRehearsed {
        /// Their number.
        missing: usize,
        /// Number of all snapshots.
        of: usize,
    },
    /// The objects were not checked within the time.
    NotChecked,
    /// The source has no snapshot.
    NoSnapshot,
    /// The last rehearsal took longer than promised.
    TooSlow {
        /// The time of its restore.
        took: Duration,
        /// The promised one.
        rto: Duration,
    },
}

impl Concern {
    /// The points that it costs.
    fn points(&self) -> u64 {
        match self {
            Concern::Findings { .. } | Concern::Faults { .. } => 60,
            Concern::NotRehearsed { missing, of } => 30 * (*missing as u64) / (*of as u64).max(1),
            Concern::NotChecked => 10,
            Concern::TooSlow { .. } => 20,
            Concern::NoSnapshot => 40,
        }
    }
}

impl fmt::Display for Concern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Concern::Findings { record } => {
                let first = record.findings.first().map_or("", String::as_str);
                write!(f, "the rehearsal at {} had {} findings: {first}", record.at, record.count)
            }
            Concern::Faults { count, at } => write!(f, "the check at {at} found {count} faults of objects"),
            Concern::NotRehearsed { missing, of } => {
                write!(f, "{missing} of {of} snapshots were not rehearsed within the time")
            }
            Concern::NotChecked => f.write_str("the objects were not checked within the time"),
            Concern::NoSnapshot => f.write_str("there is no snapshot"),
            Concern::TooSlow { took, rto } => write!(
                f,
                "the last rehearsed restore took {:.1} s, more than the RTO of {} s",
                took.as_secs_f64(),
                rto.as_secs_f64()
            ),
        }
    }
}

/// How far a source can be relied on: 100 if everything was verified within the time and is sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// 0 to 100.
    pub score: u8,
    /// Why it is less than 100, the gravest first.
    pub concerns: Vec<Concern>,
}

impl Health {
    /// The health of a source with these snapshots.
    #[must_use]
    pub fn of(
        source: &SourceName,
        snapshots: &[Candidate],
        history: &Verifications,
        now: Timestamp,
        window: Duration,
    ) -> Self {
        let coverage = Coverage::of(snapshots, history, now, window);
        let mut concerns = Vec::new();
        let rehearsal = history.last_rehearsal(source);
        if let Some(record) = rehearsal.filter(|record| !record.is_sound()) {
            concerns.push(Concern::Findings { record: Box::new(record.clone()) });
        }
        if let Some((took, rto)) = rehearsal.and_then(Record::over_rto) {
            concerns.push(Concern::TooSlow { took, rto });
        }
        let of_objects = |record: &&Record| record.state.is_none();
        let last = history.records.iter().rev().find(of_objects);
        if let Some(record) = last.filter(|record| !record.is_sound()) {
            concerns.push(Concern::Faults { count: record.count, at: record.at });
        }
        match (coverage.snapshots, coverage.snapshots - coverage.rehearsed) {
            (0, _) => concerns.push(Concern::NoSnapshot),
            (_, 0) => {}
            (of, missing) => concerns.push(Concern::NotRehearsed { missing, of }),
        }
        if coverage.objects_checked.is_none() {
            concerns.push(Concern::NotChecked);
        }
        concerns.sort_by_key(|concern| Reverse(concern.points()));
        let lost: u64 = concerns.iter().map(Concern::points).sum();
        Health { score: 100 - lost.min(100) as u8, concerns }
    }
}

#[cfg(test)]
mod tests {
    use super::Strategy; // proptest has one too
    use super::*;
    use crate::VerifiedState;
    use pitr_format::{Lsn, TxId};
    use proptest::prelude::*;

    fn source() -> SourceName {
        SourceName::new("app").unwrap()
    }

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    fn snapshot(no: u8, created: i64, is_full: bool) -> Candidate {
        let (snapshot, timeline) = (SnapshotId([no; 16]), TimelineId::FIRST);
        Candidate { source: source(), snapshot, timeline, is_full, created: at(created), bytes: 1 }
    }

    fn rehearsed(no: u8, when: i64, count: u64) -> Record {
        let state = VerifiedState {
            source: source(),
            timeline: TimelineId::FIRST,
            lsn: Lsn::ORIGIN,
            tx: TxId::NONE,
            time: at(0),
            snapshot: Some(SnapshotId([no; 16])),
        };
        let restore_took = Some(Duration::from_secs(1));
        Record { level: Level::Restore, state: Some(state), restore_took, ..checked(when, count) }
    }

    fn checked(when: i64, count: u64) -> Record {
        let findings = vec!["x".to_owned(); count as usize];
        let record = Record::new(at(when), Level::Checksum, Duration::from_secs(2), "");
        Record { bytes: 1, count, findings, ..record }
    }

    fn order(strategy: Strategy, history: &Verifications) -> Vec<u8> {
        let snapshots =
            [snapshot(1, 10, true), snapshot(2, 20, false), snapshot(3, 30, true), snapshot(4, 40, false)];
        select(&snapshots, history, strategy, 3, 7).iter().map(|one| one.snapshot.0[0]).collect()
    }

    #[test]
    fn each_strategy_has_its_order() {
        let history =
            Verifications { records: vec![rehearsed(1, 100, 0), rehearsed(3, 200, 1), rehearsed(2, 300, 0)] };
        assert_eq!(order(Strategy::OldestVerified, &history), [4, 1, 3]);
        assert_eq!(order(Strategy::FullFirst, &history), [1, 3, 4]);
        assert_eq!(order(Strategy::Newest, &history), [4, 3, 2]);
        let random = order(Strategy::Random, &history);
        assert_eq!(random.len(), 3);
        let snapshots: Vec<Candidate> = (0..50).map(|no| snapshot(no, 0, true)).collect();
        let with = |seed| select(&snapshots, &history, Strategy::Random, 50, seed);
        assert_ne!(with(1), with(2));
        assert_eq!(with(1), with(1));
    }

    proptest! {
        /// Rounds of the default strategy rehearse every snapshot before any is rehearsed again.
        #[test]
        fn every_snapshot_has_its_turn(count in 1u8..30, at_most in 1usize..8) {
            let snapshots: Vec<Candidate> = (0..count).map(|no| snapshot(no, no.into(), no % 3 == 0)).collect();
            let mut history = Verifications::default();
            let rounds = usize::from(count).div_ceil(at_most);
            for round in 0..rounds {
                for one in select(&snapshots, &history, Strategy::default(), at_most, 3) {
                    history.records.push(rehearsed(one.snapshot.0[0], round as i64, 0));
                }
            }
            let covered = Coverage::of(&snapshots, &history, at(1000), Duration::from_micros(1000));
            prop_assert_eq!(covered.rehearsed, usize::from(count));
        }
    }

    #[test]
    fn only_sound_rehearsals_within_the_time_count() {
        let snapshots =
            [snapshot(1, 0, true), snapshot(2, 0, true), snapshot(3, 0, true), snapshot(4, 0, true)];
        let records = vec![
            rehearsed(1, 10, 0),
            rehearsed(2, 99, 0),
            rehearsed(3, 99, 0),
            rehearsed(3, 100, 1),
            checked(89, 0),
        ];
        let coverage =
            Coverage::of(&snapshots, &Verifications { records }, at(100), Duration::from_micros(10));
        assert_eq!(coverage, Coverage { snapshots: 4, rehearsed: 1, objects_checked: None });
    }

    #[test]
    fn the_score_falls_with_each_concern_and_names_it() {
        let snapshots = [snapshot(1, 0, true), snapshot(2, 0, true)];
        let health = |records: Vec<Record>, snapshots: &[Candidate]| {
            Health::of(&source(), snapshots, &Verifications { records }, at(100), Duration::from_micros(50))
        };
        let whole = health(vec![rehearsed(1, 90, 0), rehearsed(2, 91, 0), checked(92, 0)], &snapshots);
        assert_eq!(whole, Health { score: 100, concerns: vec![] });
        let half = health(vec![rehearsed(1, 90, 0), checked(92, 0)], &snapshots);
        assert_eq!(
            (half.score, half.concerns[0].to_string().as_str()),
            (85, "1 of 2 snapshots were not rehearsed within the time")
        );
        let found = health(vec![rehearsed(1, 90, 0), rehearsed(2, 91, 3), checked(92, 0)], &snapshots);
        assert_eq!(found.score, 25);
        assert!(found.concerns[0].to_string().contains("had 3 findings: x"), "{found:?}");
        let slow = Record { rto: Some(Duration::from_millis(999)), ..rehearsed(2, 91, 0) };
        let slow = health(vec![rehearsed(1, 90, 0), slow, checked(92, 0)], &snapshots);
        assert_eq!(
            (slow.score, slow.concerns[0].to_string().as_str()),
            (80, "the last rehearsed restore took 1.0 s, more than the RTO of 0.999 s")
        );
        let in_time = Record { rto: Some(Duration::from_secs(1)), ..rehearsed(2, 91, 0) };
        let in_time = health(vec![rehearsed(1, 90, 0), in_time, checked(92, 0)], &snapshots);
        assert_eq!(in_time.score, 100, "exactly as long as promised");
        let faults = health(vec![checked(92, 2)], &[]);
        assert_eq!((faults.score, faults.concerns.len()), (0, 3));
        assert!(faults.concerns[0].to_string().contains("2 faults"), "{faults:?}");
    }
}
