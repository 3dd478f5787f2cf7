//! The history of verifications of a repository (`docs/format/verifications.md`).
//!
//! One object holds all of it, and the one with the highest number counts. Who adds a record
//! creates the next number with everything that is in the newest, and looks whether the newest has
//! the record then; if another process was faster, it tries again. So no record is lost, and a
//! reader needs one listing and one read.

use crate::{Error, Result};
use pitr_codec::{Codec, ObjectKind};
use pitr_format::bytes::{DecodeError, Put, Reader};
use pitr_format::{Lsn, SourceName, TimelineId, Timestamp, TxId};
use pitr_objects::layout::{ObjectName, VERIFICATIONS};
use pitr_objects::{ErrorKind, Objects};
use pitr_snapshot::SnapshotId;
use std::fmt;
use std::time::Duration;

/// Version 1 lacks the RTO of a record.
const VERSION: u16 = 2;
const WHAT: &str = "history of verifications";
/// Records that are kept, the newest.
const RECORDS_MAX: usize = 4000;
/// Findings of a record that are kept in words.
const FINDINGS_MAX: usize = 10;
/// Longest text of a record, bytes.
const TEXT_BYTES_MAX: usize = 300;
/// Objects that are kept. The older ones serve if the newest is damaged.
const KEPT: usize = 2;
/// Attempts to add a record, while other processes add theirs.
const ATTEMPTS: u32 = 50;
/// Fewest bytes of a record.
const RECORD_BYTES_MIN: usize = 2 + 8 + 8 + 4;

/// What a verification checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Level {
    /// Every object, by its hashes.
    Checksum,
    /// What the objects state of each other.
    Metadata,
    /// A restored copy: equal to the state, and consistent.
    Restore,
    /// A restored copy, by the user's own checks.
    Functional,
    /// The live source, compared with the archive.
    Live,
}

impl Level {
    const ALL: [Level; 5] =
        [Level::Checksum, Level::Metadata, Level::Restore, Level::Functional, Level::Live];

    /// The name, as programs show it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Level::Checksum => "checksum",
            Level::Metadata => "metadata",
            Level::Restore => "restore",
            Level::Functional => "functional",
            Level::Live => "live",
        }
    }

    const fn number(self) -> u8 {
        match self {
            Level::Checksum => 1,
            Level::Metadata => 2,
            Level::Restore => 3,
            Level::Functional => 4,
            Level::Live => 5,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The state that a verification was about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedState {
    /// The source.
    pub source: SourceName,
    /// The timeline.
    pub timeline: TimelineId,
    /// Position of the state in the log.
    pub lsn: Lsn,
    /// The last transaction in the state.
    pub tx: TxId,
    /// Time of that transaction.
    pub time: Timestamp,
    /// The snapshot that the restore began with; `None` for the empty base.
    pub snapshot: Option<SnapshotId>,
}

/// A verification that took place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// When it ended.
    pub at: Timestamp,
    /// What was checked.
    pub level: Level,
    /// The state; `None` for a verification of the whole repository.
    pub state: Option<VerifiedState>,
    /// How long it took.
    pub took: Duration,
    /// How long the restore took; `None` without one.
    pub restore_took: Option<Duration>,
    /// How long a restore may take, as it was promised; `None` if nothing was.
    pub rto: Option<Duration>,
    /// Bytes that were checked.
    pub bytes: u64,
    /// Number of findings.
    pub count: u64,
    /// The first findings; at most 10, each of at most 300 bytes.
    pub findings: Vec<String>,
    /// Who checked, such as the name of a machine.
    pub by: String,
}

impl Record {
    /// A record without a state, bytes and findings.
    #[must_use]
    pub fn new(at: Timestamp, level: Level, took: Duration, by: &str) -> Self {
        Record {
            at,
            level,
            state: None,
            took,
            restore_took: None,
            rto: None,
            bytes: 0,
            count: 0,
            findings: Vec::new(),
            by: by.to_owned(),
        }
    }

    /// True if there was no finding.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.count == 0
    }

    /// The time of the restore and the promised one, if the restore took longer.
    #[must_use]
    pub fn over_rto(&self) -> Option<(Duration, Duration)> {
        self.restore_took.zip(self.rto).filter(|(took, rto)| took > rto)
    }

    /// The record as it comes back: durations in microseconds, texts shortened.
    fn as_stored(&self) -> Record {
        let micros =
            |took: Duration| Duration::from_micros(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        let findings = self.findings.iter().take(FINDINGS_MAX);
        Record {
            took: micros(self.took),
            restore_took: self.restore_took.map(|took| micros(took).max(Duration::from_micros(1))),
            rto: self.rto.map(|rto| micros(rto).max(Duration::from_micros(1))),
            findings: findings.map(|finding| shortened(finding).to_owned()).collect(),
            by: shortened(&self.by).to_owned(),
            ..self.clone()
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.put_u8(self.level.number());
        out.put_i64(self.at.micros());
        out.put_u64(u64::try_from(self.took.as_micros()).unwrap_or(u64::MAX));
        match &self.state {
            None => out.put_u8(0),
            Some(state) => {
                out.put_u8(if state.snapshot.is_some() { 2 } else { 1 });
                out.put_blob(state.source.as_str().as_bytes());
                out.put_u32(state.timeline.get());
                out.put_u64(state.lsn.get());
                out.put_u64(state.tx.get());
                out.put_i64(state.time.micros());
                state.snapshot.iter().for_each(|id| out.put(&id.0));
            }
        }
        for duration in [self.restore_took, self.rto] {
            let micros = duration.map(|duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
            out.put_varint(micros.map_or(0, |micros| micros.max(1)));
        }
        out.put_varint(self.bytes);
        out.put_varint(self.count);
        let findings = &self.findings[..self.findings.len().min(FINDINGS_MAX)];
        out.put_varint(findings.len() as u64);
        findings.iter().for_each(|finding| out.put_blob(shortened(finding).as_bytes()));
        out.put_blob(shortened(&self.by).as_bytes());
    }

    fn decode(r: &mut Reader<'_>, version: u16) -> Result<Self, DecodeError> {
        let level = r.u8(WHAT)?;
        let level = Level::ALL.into_iter().find(|known| known.number() == level);
        let level = level.ok_or(DecodeError::Range { what: WHAT, value: 0 })?;
        let (at, took) = (Timestamp::from_micros(r.i64(WHAT)?), Duration::from_micros(r.u64(WHAT)?));
        let state = match r.u8(WHAT)? {
            0 => None,
            kind @ (1 | 2) => Some(VerifiedState {
                source: source_of(r)?,
                timeline: TimelineId::new(r.u32(WHAT)?),
                lsn: Lsn::new(r.u64(WHAT)?),
                tx: TxId::new(r.u64(WHAT)?),
                time: Timestamp::from_micros(r.i64(WHAT)?),
                snapshot: if kind == 2 { Some(SnapshotId(r.array(WHAT)?)) } else { None },
            }),
            value => return Err(DecodeError::Range { what: WHAT, value: value.into() }),
        };
        let mut duration = || -> Result<_, DecodeError> {
            Ok(Some(r.varint(WHAT)?).filter(|micros| *micros > 0).map(Duration::from_micros))
        };
        let restore_took = duration()?;
        let rto = if version == 1 { None } else { duration()? };
        let (bytes, count) = (r.varint(WHAT)?, r.varint(WHAT)?);
        let findings = r.count(1, WHAT)?;
        let findings = (0..findings).map(|_| Ok(r.text(TEXT_BYTES_MAX, WHAT)?.to_owned()));
        let findings = findings.collect::<Result<_, DecodeError>>()?;
        let by = r.text(TEXT_BYTES_MAX, WHAT)?.to_owned();
        Ok(Record { at, level, state, took, restore_took, rto, bytes, count, findings, by })
    }
}

fn source_of(r: &mut Reader<'_>) -> Result<SourceName, DecodeError> {
    let name = r.text(TEXT_BYTES_MAX, WHAT)?;
    SourceName::new(name).map_err(|_| DecodeError::Range { what: WHAT, value: name.len() as u64 })
}

/// The beginning of a text.
fn shortened(text: &str) -> &str {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The verifications of a repository, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verifications {
    /// The records.
    pub records: Vec<Record>,
}

impl Verifications {
    /// Reads the history.
    ///
    /// # Errors
    /// Errors of the store. A damaged object is skipped, with a warning: an older one serves.
    pub fn load(objects: &Objects) -> Result<Self> {
        Ok(Self::newest(objects)?.0)
    }

    /// The newest readable history, and the numbers of all objects, ascending.
    fn newest(objects: &Objects) -> Result<(Self, Vec<u64>)> {
        let listed = objects.list(VERIFICATIONS)?;
        let number = |path: &str| match ObjectName::parse(path)? {
            ObjectName::Verifications(number) => Some(number),
            _ => None,
        };
        let mut numbers: Vec<u64> = listed.iter().filter_map(|entry| number(&entry.path)).collect();
        numbers.sort_unstable();
        for number in numbers.iter().rev() {
            let path = ObjectName::Verifications(*number).path();
            match objects.get_footer(&path, ObjectKind::Verifications) {
                Ok(bytes) => match Self::decode(&bytes) {
                    Ok(found) => return Ok((found, numbers)),
                    Err(error) => tracing::warn!("{path}: {error}; an older history is used"),
                },
                // Replaced since the listing.
                Err(error) if error.kind() == ErrorKind::Missing => {}
                Err(error) if error.kind().is_of_one_object() => {
                    tracing::warn!("{error}; an older history is used");
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok((Verifications::default(), numbers))
    }

    /// Adds a record to the history of a repository.
    ///
    /// # Errors
    /// Errors of the store; [`Error::Busy`] if other processes were faster in all attempts.
    pub fn add(objects: &Objects, record: &Record) -> Result<()> {
        let record = record.as_stored();
        for _ in 0..ATTEMPTS {
            let (mut history, numbers) = Self::newest(objects)?;
            if history.records.contains(&record) {
                return Ok(());
            }
            let next = numbers.last().map_or(1, |last| last.saturating_add(1));
            history.records.push(record.clone());
            let surplus = history.records.len().saturating_sub(RECORDS_MAX);
            history.records.drain(..surplus);
            if let Err(error) = history.create(objects, next) {
                // Another process may have been faster, and its object may be replaced already.
                let (_, numbers) = Self::newest(objects)?;
                match numbers.last() {
                    Some(last) if *last >= next => continue,
                    _ => return Err(error.into()),
                }
            }
            for number in numbers.iter().rev().skip(KEPT - 1) {
                objects.delete(&ObjectName::Verifications(*number).path())?;
            }
            // If this number was taken and deleted in between, the newest object lacks the record.
        }
        Err(Error::Busy)
    }

    fn create(&self, objects: &Objects, number: u64) -> pitr_objects::Result<()> {
        let path = ObjectName::Verifications(number).path();
        let builder = objects.builder(&path, ObjectKind::Verifications, Codec::None)?;
        let bad = |source| pitr_objects::Error::Object { path: path.clone(), source };
        let object = builder.finish(&self.encode()).map_err(bad)?;
        objects.put_container(&path, ObjectKind::Verifications, object).map(drop)
    }

    /// The newest rehearsal of a source, with or without findings.
    #[must_use]
    pub fn last_rehearsal(&self, source: &SourceName) -> Option<&Record> {
        self.records.iter().rev().find(|record| {
            record.restore_took.is_some()
                && record.state.as_ref().is_some_and(|state| state.source == *source)
        })
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u16(VERSION);
        out.put_varint(self.records.len() as u64);
        self.records.iter().for_each(|record| record.encode(&mut out));
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let version = r.u16(WHAT)?;
        if !(1..=VERSION).contains(&version) {
            return Err(DecodeError::Version { what: WHAT, found: version.into(), known: VERSION.into() });
        }
        let count = r.count(RECORD_BYTES_MIN, WHAT)?;
        let records = (0..count).map(|_| Record::decode(&mut r, version)).collect::<Result<_, _>>()?;
        r.finish(WHAT)?;
        Ok(Verifications { records })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(at: i64) -> Record {
        let (at, took) = (Timestamp::from_micros(at), Duration::from_micros(5));
        Record { bytes: 7, ..Record::new(at, Level::Checksum, took, "m") }
    }

    fn any_record() -> impl Strategy<Value = Record> {
        let state = (any::<u32>(), any::<u64>(), any::<u64>(), any::<i64>(), any::<Option<[u8; 16]>>());
        let state = state.prop_map(|(timeline, lsn, tx, time, id)| VerifiedState {
            source: SourceName::new("app").unwrap(),
            timeline: TimelineId::new(timeline),
            lsn: Lsn::new(lsn),
            tx: TxId::new(tx),
            time: Timestamp::from_micros(time),
            snapshot: id.map(SnapshotId),
        });
        let texts = prop::collection::vec("\\PC{0,40}", 0..4);
        let some = || prop::option::of(1..u64::MAX);
        let times = (any::<i64>(), any::<u64>(), some(), some());
        (times, 0..5usize, prop::option::of(state), any::<u64>(), any::<u64>(), texts, "\\PC{0,20}").prop_map(
            |((at, took, restore, rto), level, state, bytes, count, findings, by)| Record {
                at: Timestamp::from_micros(at),
                level: Level::ALL[level],
                state,
                took: Duration::from_micros(took),
                restore_took: restore.map(Duration::from_micros),
                rto: rto.map(Duration::from_micros),
                bytes,
                count,
                findings,
                by,
            },
        )
    }

    proptest! {
        #[test]
        fn histories_come_back(records in prop::collection::vec(any_record(), 0..5), cut: usize) {
            let history = Verifications { records };
            let bytes = history.encode();
            prop_assert_eq!(Verifications::decode(&bytes).unwrap(), history);
            prop_assert!(Verifications::decode(&bytes[..cut % bytes.len()]).is_err());
        }

        #[test]
        // FAILURES 31
        fn any_bytes_are_a_history_or_an_error(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Verifications::decode(&bytes);
            for version in [1u16, VERSION] {
                bytes.splice(0..0, version.to_le_bytes());
                let _ = Verifications::decode(&bytes);
            }
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_format_page() {
        let state = VerifiedState {
            source: SourceName::new("a").unwrap(),
            timeline: TimelineId::new(2),
            lsn: Lsn::new(3),
            tx: TxId::new(4),
            time: Timestamp::from_micros(5),
            snapshot: Some(SnapshotId([6; 16])),
        };
        let record = Record {
            level: Level::Restore,
            state: Some(state),
            restore_took: Some(Duration::from_micros(9)),
            rto: Some(Duration::from_micros(10)),
            count: 1,
            findings: vec!["x".to_owned()],
            ..record(1)
        };
        let bytes = Verifications { records: vec![record.clone()] }.encode();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let place = "020161020000000300000000000000".to_owned() + "0400000000000000";
        let state = format!("{place}0500000000000000{}", "06".repeat(16));
        let times = "01000000000000000500000000000000";
        let expected = format!("02000103{times}{state}090a0701010178016d");
        assert_eq!(hex, expected);
        // Without the RTO, in version 1.
        let mut first = bytes.clone();
        first[0] = 1;
        let rto = bytes.len() - 8;
        assert_eq!(first.remove(rto), 10);
        let without = Record { rto: None, ..record };
        assert_eq!(Verifications::decode(&first).unwrap().records, [without]);
        first[0] = 3;
        assert!(matches!(Verifications::decode(&first), Err(DecodeError::Version { .. })));
    }

    #[test]
    fn records_are_added_by_several_and_few_objects_are_kept() {
        let objects = Objects::memory().unwrap();
        assert_eq!(Verifications::load(&objects).unwrap(), Verifications::default());
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let objects = objects.clone();
                scope.spawn(move || {
                    (0..5).for_each(|n| Verifications::add(&objects, &record(thread * 10 + n)).unwrap());
                });
            }
        });
        let records = Verifications::load(&objects).unwrap().records;
        assert_eq!(records.len(), 20);
        assert!(objects.list(VERIFICATIONS).unwrap().len() <= 2 * KEPT);
    }

    #[test]
    fn a_damaged_history_is_passed_over_and_the_oldest_records_leave() {
        let objects = Objects::memory().unwrap();
        Verifications::add(&objects, &record(1)).unwrap();
        objects.put_new("verifications/0000000000000002", &b"no container"[..]).unwrap();
        Verifications::add(&objects, &record(2)).unwrap();
        let times = |objects: &Objects| -> Vec<i64> {
            Verifications::load(objects).unwrap().records.iter().map(|record| record.at.micros()).collect()
        };
        assert_eq!(times(&objects), [1, 2]);
        let many = Verifications { records: (0..RECORDS_MAX as i64).map(record).collect() };
        many.create(&objects, 9).unwrap();
        Verifications::add(&objects, &record(-7)).unwrap();
        let found = times(&objects);
        assert_eq!((found.len(), found[0], found[RECORDS_MAX - 1]), (RECORDS_MAX, 1, -7));
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let long = Record {
            count: 30,
            findings: vec!["ü".repeat(400); 30],
            by: "x".repeat(400),
            took: Duration::from_nanos(1_234_567),
            restore_took: Some(Duration::from_nanos(1)),
            ..record(1)
        };
        let objects = Objects::memory().unwrap();
        Verifications::add(&objects, &long).unwrap();
        let found = Verifications::load(&objects).unwrap().records.remove(0);
        assert_eq!((found.count, found.findings.len(), found.by.len()), (30, FINDINGS_MAX, TEXT_BYTES_MAX));
        assert_eq!(found.findings[0], "ü".repeat(150));
    }
}
