//! Measured rates of restores, and what they say about the next one.
//!
//! Each restore that moved enough data leaves one small object, `rates/<number>`
//! (`docs/format/rates.md`). The newest ones are kept. Nothing depends on them: a restore without
//! any gives the same result, and its estimate is a guess.

use crate::error::{Error, Result};
use crate::history::History;
use crate::plan::Plan;
use crate::restore::Restored;
use crate::rto::Rto;
use crate::stats::RecoveryStats;
use pitr_codec::{Codec, ObjectKind};
use pitr_format::Timestamp;
use pitr_format::bytes::{DecodeError, Put, Reader};
use pitr_objects::layout::{ObjectName, RATES};
use pitr_objects::{ErrorKind, Objects};
use std::num::NonZeroU64;
use std::time::Duration;

const VERSION: u16 = 1;
const WHAT: &str = "measured rates";
/// Number of objects that are kept.
const KEPT: usize = 8;
/// Attempts to create an object, while other restores create theirs.
const ATTEMPTS: u32 = 4;
/// Rates of less data are not kept: opening and syncing files would dominate them.
const MEASURED_BYTES_MIN: u64 = 16 << 20;

/// The same for logical records.
const MEASURED_RECORDS_MIN: u64 = 100_000;

/// Bytes, or records, per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(NonZeroU64);

impl Rate {
    /// A rate per second; `None` for 0.
    #[must_use]
    pub fn per_second(amount: u64) -> Option<Self> {
        NonZeroU64::new(amount).map(Rate)
    }

    /// The rate of an amount that took `time`; `None` if either is 0.
    #[must_use]
    pub fn of(amount: u64, time: Duration) -> Option<Self> {
        let rate = u128::from(amount).saturating_mul(1_000_000_000).checked_div(time.as_nanos())?;
        Self::per_second(u64::try_from(rate).unwrap_or(u64::MAX))
    }

    /// The amount in one second.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0.get()
    }

    /// The time for an amount.
    #[must_use]
    pub fn time_for(self, amount: u64) -> Duration {
        let nanos = u128::from(amount) * 1_000_000_000 / u128::from(self.get());
        u64::try_from(nanos).map_or(Duration::MAX, Duration::from_nanos)
    }
}

/// Rates at which restores from a repository advance. `None` if a rate was not measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rates {
    /// Bytes of the result that are written from the snapshot and the log, per second.
    pub base: Option<Rate>,
    /// Bytes of decoded log, per second.
    pub log: Option<Rate>,
    /// Logical records, per second.
    pub logical: Option<Rate>,
    /// Bytes of the result that are made durable, per second.
    pub finish: Option<Rate>,
}

impl Rates {
    /// Cautious rates, for a repository without measurements: about half of what two cores and a
    /// local disk sustain.
    pub const GUESS: Rates = Rates {
        base: per_second(250_000_000),
        log: per_second(125_000_000),
        logical: per_second(500_000),
        finish: per_second(750_000_000),
    };

    /// The rates of one restore.
    #[must_use]
    pub fn measured(restored: &Restored) -> Self {
        let Restored { bytes, stats: RecoveryStats { log_bytes, logical_records, phases, .. }, .. } =
            restored;
        let of = |amount: u64, time| Rate::of(amount, time).filter(|_| amount >= MEASURED_BYTES_MIN);
        let finish = of(*bytes, phases.finish);
        // Images of the log are written together with the base.
        let (base, log) = (of(*bytes, phases.base), of(*log_bytes, phases.index + phases.log));
        let logical = Rate::of(*logical_records, phases.redo);
        let logical = logical.filter(|_| *logical_records >= MEASURED_RECORDS_MIN);
        Rates { base, log, logical, finish }
    }

    /// The newest measurement of each rate in the repository.
    ///
    /// # Errors
    /// Those of listing. An unreadable object is skipped, with a warning.
    pub fn newest(objects: &Objects) -> Result<Self> {
        let mut newest = Rates::default();
        for number in numbers(objects)?.into_iter().rev().take(KEPT) {
            let path = ObjectName::Rates(number).path();
            match objects.get_footer(&path, ObjectKind::Rates) {
                Ok(bytes) => match Rates::decode(&bytes) {
                    Ok(older) => newest = newest.or(older),
                    Err(error) => tracing::warn!("{path}: {error}; these rates are not used"),
                },
                Err(error) if error.kind() == ErrorKind::Missing => {} // replaced since the listing
                Err(error) => tracing::warn!("{error}; these rates are not used"),
            }
        }
        Ok(newest)
    }

    /// Adds the rates to the repository, and removes all but the newest objects of this kind.
    ///
    /// # Errors
    /// Those of the repository.
    pub fn record(&self, objects: &Objects) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let taken = numbers(objects)?;
            let Some(next) = taken.last().map_or(Some(1), |last| last.checked_add(1)) else { break };
            match self.create(objects, next) {
                // Another restore was faster.
                Err(error) if error.kind() == ErrorKind::Foreign => continue,
                other => other.map_err(pitr_archive::Error::from)?,
            }
            for number in taken.iter().rev().skip(KEPT - 1) {
                objects.delete(&ObjectName::Rates(*number).path()).map_err(pitr_archive::Error::from)?;
            }
            break;
        }
        Ok(())
    }

    fn create(&self, objects: &Objects, number: u64) -> pitr_objects::Result<()> {
        let path = ObjectName::Rates(number).path();
        let builder = objects.builder(&path, ObjectKind::Rates, Codec::None)?;
        let bad = |source| pitr_objects::Error::Object { path: path.clone(), source };
        let object = builder.finish(&self.encode()).map_err(bad)?;
        objects.put_container(&path, ObjectKind::Rates, object).map(drop)
    }

    /// These rates, and `older` ones where a rate was not measured.
    #[must_use]
    fn or(self, older: Self) -> Self {
        Rates {
            base: self.base.or(older.base),
            log: self.log.or(older.log),
            logical: self.logical.or(older.logical),
            finish: self.finish.or(older.finish),
        }
    }

    fn is_empty(&self) -> bool {
        *self == Rates::default()
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u16(VERSION);
        for rate in [self.base, self.log, self.logical, self.finish] {
            out.put_u64(rate.map_or(0, Rate::get));
        }
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        r.check_version_u16(VERSION, WHAT)?;
        let mut next = || r.u64(WHAT).map(Rate::per_second);
        let (base, log, logical, finish) = (next()?, next()?, next()?, next()?);
        r.finish(WHAT)?;
        Ok(Rates { base, log, logical, finish })
    }
}

/// Adds the rates of a restore. The result is complete without them, so an error is a warning.
pub(crate) fn record(objects: &Objects, restored: &Restored) {
    let rates = Rates::measured(restored);
    if rates.is_empty() {
        return;
    }
    if let Err(error) = rates.record(objects) {
        tracing::warn!("the rates of this restore could not be recorded in the repository: {error}");
    }
}

const fn per_second(amount: u64) -> Option<Rate> {
    match NonZeroU64::new(amount) {
        Some(amount) => Some(Rate(amount)),
        None => None,
    }
}

/// The numbers of the objects, ascending.
fn numbers(objects: &Objects) -> Result<Vec<u64>> {
    let listed = objects.list(RATES).map_err(pitr_archive::Error::from)?;
    let numbers = listed.iter().filter_map(|entry| match ObjectName::parse(&entry.path)? {
        ObjectName::Rates(number) => Some(number),
        _ => None,
    });
    let mut numbers: Vec<u64> = numbers.collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// How long a restore will take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// Writing the result.
    pub base: Duration,
    /// Reading the log.
    pub log: Duration,
    /// Making the result durable.
    pub finish: Duration,
    /// True if a rate that counts was never measured in this repository.
    pub is_guess: bool,
    /// Time of the source that the replayed log covers, from the snapshot to the state.
    pub covers: Option<Duration>,
}

impl Estimate {
    /// The estimate for these amounts, in bytes. `covers` is the time of the source between the
    /// snapshot and the state.
    #[must_use]
    pub fn new(rates: &Rates, base_bytes: u64, log_bytes: u64, covers: Option<Duration>) -> Self {
        let is_unknown = |rate: Option<Rate>, amount| rate.is_none() && amount > 0;
        // Without a snapshot, the result is at most as long as its log.
        let result_bytes = if base_bytes > 0 { base_bytes } else { log_bytes };
        let is_guess = is_unknown(rates.base, result_bytes)
            || is_unknown(rates.log, log_bytes)
            || is_unknown(rates.finish, result_bytes);
        let known = rates.or(Rates::GUESS);
        let time = |rate: Option<Rate>, amount| rate.map_or(Duration::ZERO, |rate| rate.time_for(amount));
        Estimate {
            base: time(known.base, result_bytes),
            log: time(known.log, log_bytes),
            finish: time(known.finish, result_bytes),
            is_guess,
            covers,
        }
    }

    /// The whole time.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.base.saturating_add(self.log).saturating_add(self.finish)
    }

    /// The estimate for this restore and another one after it. How the logs of the sources grow is
    /// not known together.
    #[must_use]
    pub fn and(&self, other: &Estimate) -> Estimate {
        Estimate {
            base: self.base.saturating_add(other.base),
            log: self.log.saturating_add(other.log),
            finish: self.finish.saturating_add(other.finish),
            is_guess: self.is_guess || other.is_guess,
            covers: None,
        }
    }

    /// The longest time between two snapshots with which a restore of this source meets `rto`, if
    /// its log keeps growing as it did since the last snapshot. `None` if no interval meets it, or
    /// if nothing is known about the growth.
    #[must_use]
    pub fn snapshot_interval(&self, rto: Rto) -> Option<Duration> {
        let left = rto.get().checked_sub(self.base)?.checked_sub(self.finish)?;
        let covers = self.covers.filter(|covers| !covers.is_zero() && !self.log.is_zero())?;
        let seconds = covers.as_secs_f64() * (left.as_secs_f64() / self.log.as_secs_f64());
        Duration::try_from_secs_f64(seconds).ok().filter(|interval| !interval.is_zero())
    }

    /// Fails if the estimate is longer than `rto`.
    ///
    /// # Errors
    /// [`Error::RtoExceeded`].
    pub fn within(&self, rto: Rto) -> Result<()> {
        let actual = self.total();
        if actual <= rto.get() {
            return Ok(());
        }
        Err(Error::RtoExceeded { expected: rto, actual, estimate: Some(Box::new(*self)) })
    }
}

impl History {
    /// How long the restore of a plan will take, by the newest rates of the repository. Reads the
    /// footers of the plan's log.
    ///
    /// # Errors
    /// Errors of reading footers, and of listing.
    pub fn estimate(&self, plan: &Plan) -> Result<Estimate> {
        let rates = Rates::newest(self.archive().objects())?;
        let begins = match plan.snapshot {
            Some(id) => self.snapshots().iter().find(|s| s.id == id).map(|s| s.meta.time),
            None => self.catalog().timelines().values().map(|timeline| timeline.created).min(),
        };
        let covers = begins.and_then(|from| between(from, plan.reached.time));
        Ok(Estimate::new(&rates, plan.base_bytes, self.log_bytes(plan)?, covers))
    }
}

fn between(from: Timestamp, to: Timestamp) -> Option<Duration> {
    let micros = to.micros().checked_sub(from.micros())?;
    u64::try_from(micros).ok().map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Phases;
    use crate::target::Point;
    use pitr_format::{Lsn, TimelineId, TxId};
    use proptest::prelude::*;

    fn rates(base: u64, log: u64, finish: u64) -> Rates {
        let [base, log, finish] = [base, log, finish].map(Rate::per_second);
        Rates { base, log, logical: Rate::per_second(7), finish }
    }

    proptest! {
        #[test]
        fn rates_come_back(base: u64, log: u64, finish: u64) {
            let rates = rates(base, log, finish);
            let bytes = rates.encode();
            prop_assert_eq!(Rates::decode(&bytes).unwrap(), rates);
            prop_assert!(Rates::decode(&bytes[..bytes.len() - 1]).is_err());
        }

        /// A source that takes its snapshots at the interval is restored within the RTO, and one
        /// that takes them later is not.
        #[test]
        fn the_interval_is_the_longest_that_meets_the_rto(
            base in 1u64..1 << 34, log in 1u64 << 20..1 << 36, covers in 60u64..1_000_000, rto in 1u64..7200,
        ) {
            let rates = rates(300_000_000, 100_000_000, 800_000_000);
            let covers = Duration::from_secs(covers);
            let rto = Rto::new(Duration::from_secs(rto));
            let Some(interval) = Estimate::new(&rates, base, log, Some(covers)).snapshot_interval(rto) else {
                let alone = Estimate::new(&rates, base, 0, None);
                prop_assert!(alone.total() >= rto.get());
                return Ok(());
            };
            let with = |interval: Duration| {
                let log = log as f64 * (interval.as_secs_f64() / covers.as_secs_f64());
                Estimate::new(&rates, base, log as u64, Some(interval))
            };
            prop_assert!(with(interval.mul_f64(0.99)).within(rto).is_ok());
            prop_assert!(with(interval.mul_f64(1.01) + Duration::from_secs(1)).within(rto).is_err());
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_format_page() {
        let hex: String = rates(258, 3, 4).encode().iter().map(|byte| format!("{byte:02x}")).collect();
        let [base, log, logical, finish] =
            ["0201000000000000", "0300000000000000", "0700000000000000", "0400000000000000"];
        assert_eq!(hex, format!("0100{base}{log}{logical}{finish}"));
    }

    #[test]
    fn a_guess_has_a_rate_for_each_part() {
        assert_eq!(Rates::GUESS.base, Rate::per_second(250_000_000));
        assert_eq!(Rates::GUESS.logical, Rate::per_second(500_000));
        let at = Timestamp::from_micros;
        assert_eq!(between(at(-5), at(7)), Some(Duration::from_micros(12)));
        assert_eq!((between(at(7), at(7)), between(at(8), at(7))), (Some(Duration::ZERO), None));
    }

    #[test]
    fn an_estimate_without_a_measured_rate_is_a_guess() {
        let known = rates(100, 200, 1000);
        let estimate = Estimate::new(&known, 1000, 400, None);
        assert_eq!((estimate.total(), estimate.is_guess), (Duration::from_secs(13), false));
        assert!(Estimate::new(&Rates { log: None, ..known }, 1000, 1, None).is_guess);
        assert!(!Estimate::new(&Rates { log: None, ..known }, 1000, 0, None).is_guess);
        assert!(Estimate::new(&Rates::default(), 1, 0, None).is_guess);
    }

    /// A restore of these amounts. Its parts took 1 s, 2 s, and so on.
    fn restored(bytes: u64, log_bytes: u64, logical_records: u64) -> Restored {
        let [index, log, base, redo, finish] = [1, 2, 3, 4, 5].map(Duration::from_secs);
        let (timeline, lsn) = (TimelineId::FIRST, Lsn::ORIGIN);
        let reached = Point { timeline, lsn, tx: TxId::NONE, time: Timestamp::MIN, named: true };
        let stats = RecoveryStats {
            snapshot: None,
            reached,
            base_bytes: 0,
            log_bytes,
            records: 0,
            logical_records,
            applied: 0,
            skipped: 0,
            workers: 1,
            phases: Phases { index, log, base, redo, check: Duration::ZERO, finish },
        };
        Restored {
            stats,
            files: 1,
            bytes,
            fingerprint: None,
            reused_bytes: 0,
            moved_aside: Vec::new(),
            not_given: None,
            incomplete: Vec::new(),
            kept_owners: 0,
            avoided: Vec::new(),
        }
    }

    #[test]
    fn a_restore_of_little_data_measures_nothing() {
        let (bytes, records) = (MEASURED_BYTES_MIN, MEASURED_RECORDS_MIN);
        let measured = Rates::measured(&restored(bytes, bytes, records));
        let per_second = Rate::per_second;
        assert_eq!((measured.base, measured.log), (per_second(bytes / 3), per_second(bytes / 3)));
        assert_eq!((measured.logical, measured.finish), (per_second(records / 4), per_second(bytes / 5)));
        assert_eq!(Rates::measured(&restored(bytes - 1, bytes - 1, records - 1)), Rates::default());
        assert!(Rates::default().is_empty() && !measured.is_empty());
        // Each rate by itself.
        assert_eq!(Rates::measured(&restored(bytes, 0, 0)).log, None);
        assert_eq!(Rates::measured(&restored(0, bytes, 0)), Rates { log: measured.log, ..Rates::default() });
        let mut unmeasurable = restored(bytes, bytes, records);
        unmeasurable.stats.phases = Phases::default();
        assert_eq!(Rates::measured(&unmeasurable), Rates::default(), "no time has passed");
    }

    #[test]
    fn the_estimate_of_two_restores_is_their_sum() {
        let known = rates(100, 200, 1000);
        let one = Estimate::new(&known, 1000, 400, Some(Duration::from_secs(60)));
        let other = Estimate::new(&known, 3000, 200, Some(Duration::from_secs(60)));
        let both = one.and(&other);
        assert_eq!((both.base, both.log), (Duration::from_secs(40), Duration::from_secs(3)));
        assert_eq!((both.finish, both.covers, both.is_guess), (Duration::from_secs(4), None, false));
        let guess = Estimate { is_guess: true, ..one };
        assert!(guess.and(&one).is_guess && one.and(&guess).is_guess, "one guess makes it a guess");
    }

    #[test]
    fn the_newest_measurement_of_each_rate_counts_and_few_objects_are_kept() {
        let objects = Objects::memory().unwrap();
        assert_eq!(Rates::newest(&objects).unwrap(), Rates::default());
        for nth in 1..=20 {
            let log = if nth == 19 { 0 } else { nth * 10 };
            rates(nth, if nth == 20 { 0 } else { log }, 5).record(&objects).unwrap();
        }
        let newest = Rates::newest(&objects).unwrap();
        assert_eq!((newest.base, newest.log), (Rate::per_second(20), Rate::per_second(180)));
        assert_eq!(numbers(&objects).unwrap(), (13..=20).collect::<Vec<u64>>());
    }

    #[test]
    fn a_damaged_object_is_passed_over() {
        let objects = Objects::memory().unwrap();
        rates(1, 2, 3).record(&objects).unwrap();
        objects.put_new("rates/0000000000000002", &b"no container"[..]).unwrap();
        assert_eq!(Rates::newest(&objects).unwrap(), rates(1, 2, 3));
    }
}
