//! Recovery targets on the command line: `latest`, a time, `13 minutes ago`, `lsn:N`, `tx:N`,
//! `snapshot:ID`, `point:NAME`.
//!
//! `lsn:T/N` and `tx:T/N` name the timeline in whose history the number is looked for: after a
//! fork, both sides may use one number.
//!
//! A time may have an offset, or a space and a time zone's name. Without either it is local. A time
//! that the local clock shows twice or never (daylight saving) is refused, not guessed. Digits
//! below a microsecond are dropped: commit times have microseconds.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, SpanRelativeTo};
use pitr::archive::{PointName, PointNameError};
use pitr::format::{TimelineId, Timestamp};
use std::fmt;
use std::time::Duration;
use thiserror::Error;

/// A recovery target as given on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// The newest commit.
    Latest,
    /// Every commit up to this time.
    Time(Moment),
    /// Every commit up to this LSN.
    Lsn(Numbered),
    /// Every commit up to this transaction.
    Tx(Numbered),
    /// The state of a snapshot.
    Snapshot(IdPrefix),
    /// The state of a named recovery point.
    Point(PointName),
}

/// An LSN or the number of a transaction, with the timeline in whose history it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Numbered {
    /// `None` if the target names no timeline.
    pub(crate) timeline: Option<TimelineId>,
    /// The number.
    pub(crate) number: u64,
}

impl Numbered {
    fn parse(kind: &'static str, text: &str) -> Result<Self, TargetError> {
        let (timeline, number) = match text.split_once('/') {
            Some((timeline, number)) => (Some(timeline), number),
            None => (None, text),
        };
        let timeline = match timeline.map(whole_number) {
            None => None,
            Some(number) => {
                let number = number.and_then(|number| u32::try_from(number).ok());
                let known = number.map(TimelineId::new).filter(|timeline| *timeline >= TimelineId::FIRST);
                Some(known.ok_or(TargetError::Number { kind })?)
            }
        };
        let number = whole_number(number).ok_or(TargetError::Number { kind })?;
        Ok(Numbered { timeline, number })
    }
}

impl fmt::Display for Numbered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.timeline {
            Some(timeline) => write!(f, "{}/{}", timeline.get(), self.number),
            None => self.number.fmt(f),
        }
    }
}

/// The first hexadecimal digits of a snapshot ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IdPrefix {
    bits: u128,
    digits: u32,
}

impl IdPrefix {
    const DIGITS_MAX: usize = 32;

    fn parse(text: &str) -> Result<Self, TargetError> {
        let fits =
            (1..=Self::DIGITS_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
        let bits = if fits { u128::from_str_radix(text, 16).ok() } else { None };
        let digits = text.len() as u32; // at most 32
        bits.map(|bits| IdPrefix { bits, digits }).ok_or(TargetError::SnapshotId)
    }

    /// True if the ID begins with these digits.
    pub(crate) fn fits(self, id: [u8; 16]) -> bool {
        u128::from_be_bytes(id) >> (128 - 4 * self.digits) == self.bits
    }
}

impl fmt::Display for IdPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0width$x}", self.bits, width = self.digits as usize)
    }
}

/// A time, absolute or relative to now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// An absolute time.
    At(Timestamp),
    /// A duration before the time at which the command runs.
    Ago(Duration),
}

impl Moment {
    /// The absolute time, given the current time `now`. Saturates at the minimum time.
    pub(crate) fn resolve(self, now: Timestamp) -> Timestamp {
        match self {
            Moment::At(at) => at,
            Moment::Ago(ago) => {
                let micros = i64::try_from(ago.as_micros()).unwrap_or(i64::MAX);
                Timestamp::from_micros(now.micros().saturating_sub(micros))
            }
        }
    }
}

/// An invalid target.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum TargetError {
    /// Not one of the accepted forms.
    #[error(
        "give latest, a time such as 2026-11-21T14:32:06Z or '2026-11-21 14:32 Europe/Paris' (local time without Z, offset or zone), 13 minutes ago, lsn:N, tx:N, tx:TIMELINE/N, snapshot:ID or point:NAME"
    )]
    Unknown,
    /// `lsn:` or `tx:` without a whole number, or with a timeline that can't exist.
    #[error("give a whole number, such as {kind}:1482, or {kind}:2/1482 for the one on timeline 2")]
    Number {
        /// `lsn` or `tx`.
        kind: &'static str,
    },
    /// `point:` without the name of a recovery point.
    #[error(transparent)]
    Point(#[from] PointNameError),
    /// `snapshot:` without the digits of an ID.
    #[error("give the ID that `pitr info` shows, or its first digits, such as snapshot:1f00c2d3")]
    SnapshotId,
    /// The name after a time is not a time zone.
    #[error("unknown time zone {zone}; give a name such as Europe/Paris, or an offset, such as {example}Z")]
    Zone {
        /// The given name.
        zone: String,
        /// The given time.
        example: DateTime,
    },
    /// The local clock shows this time twice or never.
    #[error("the clock in {zone} shows this time twice or never; give an offset, such as {example}Z")]
    Ambiguous {
        /// Name of the local time zone.
        zone: String,
        /// The given time.
        example: DateTime,
    },
    /// Not a duration before `ago`.
    #[error("give a duration in weeks, days, hours, minutes or seconds, such as 13 minutes ago")]
    Ago,
}

impl Target {
    /// Parses a target. A time without offset or zone is in `zone`.
    pub(crate) fn parse(text: &str, zone: &TimeZone) -> Result<Target, TargetError> {
        let text = text.trim();
        if text == "latest" {
            Ok(Target::Latest)
        } else if let Some(number) = text.strip_prefix("lsn:") {
            Numbered::parse("lsn", number).map(Target::Lsn)
        } else if let Some(number) = text.strip_prefix("tx:") {
            Numbered::parse("tx", number).map(Target::Tx)
        } else if let Some(id) = text.strip_prefix("snapshot:") {
            IdPrefix::parse(id).map(Target::Snapshot)
        } else if let Some(name) = text.strip_prefix("point:") {
            Ok(Target::Point(PointName::new(name)?))
        } else if let Some(length) = text.strip_suffix("ago") {
            let ago = parse_duration(length).map_err(|_| TargetError::Ago)?;
            Ok(Target::Time(Moment::Ago(ago)))
        } else {
            parse_time(text, zone).map(|at| Target::Time(Moment::At(at)))
        }
    }

    /// Parses a target. A time without offset or zone is in the machine's time zone.
    pub(crate) fn parse_local(text: &str) -> Result<Target, TargetError> {
        Self::parse(text, &TimeZone::system())
    }
}

fn whole_number(text: &str) -> Option<u64> {
    // `u64::from_str` accepts a plus sign.
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

fn parse_time(text: &str, zone: &TimeZone) -> Result<Timestamp, TargetError> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(floor_to_micros(time));
    }
    // RFC 9557 puts the zone in brackets. It must not be ignored.
    let (time, named) = match text.strip_suffix(']').and_then(|text| text.rsplit_once('[')) {
        Some((time, name)) => (time, Some(name)),
        None => split_zone(text),
    };
    let civil: DateTime = time.trim().parse().map_err(|_| TargetError::Unknown)?;
    let named = named.map(|name| {
        let unknown = |_| TargetError::Zone { zone: name.to_owned(), example: civil };
        TimeZone::get(name).map_err(unknown)
    });
    let named = named.transpose()?;
    let zone = named.as_ref().unwrap_or(zone);
    let zoned = zone.to_ambiguous_zoned(civil).unambiguous().map_err(|_| TargetError::Ambiguous {
        zone: zone.iana_name().unwrap_or("your time zone").to_owned(),
        example: civil,
    })?;
    Ok(floor_to_micros(zoned.timestamp()))
}

/// Splits a time from the zone's name after it. After a space, only a zone's name begins with a
/// letter.
fn split_zone(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(' ') {
        Some((time, name)) if name.starts_with(|c: char| c.is_ascii_alphabetic()) => (time, Some(name)),
        _ => (text, None),
    }
}

fn floor_to_micros(time: jiff::Timestamp) -> Timestamp {
    let micros = time.as_nanosecond().div_euclid(1_000);
    // jiff's range, the years -9999 to 9999, fits.
    Timestamp::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
}

/// Not a duration.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("give a number with a unit, such as 500ms, 1s, 5m, 1h or 7d")]
pub(crate) struct DurationError;

/// Parses a duration: `500ms`, `1s`, `5m`, `1h 30m`, `7 days`. A day has 24 hours. Months and years
/// are refused.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    if text.trim() == "0" {
        return Ok(Duration::ZERO);
    }
    let span: Span = text.trim().parse().map_err(|_| DurationError)?;
    let length = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| DurationError)?;
    Duration::try_from(length).map_err(|_| DurationError)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// UTC+1, in summer UTC+2. Needs no zone database.
    fn berlin() -> TimeZone {
        TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
    }

    fn at(text: &str) -> Result<String, TargetError> {
        match Target::parse(text, &berlin())? {
            Target::Time(Moment::At(time)) => Ok(time.to_string()),
            other => panic!("{text} became {other:?}"),
        }
    }

    #[test]
    fn every_form_of_a_target_parses() {
        let parse = |text: &str| Target::parse(text, &TimeZone::UTC);
        assert_eq!(parse("latest"), Ok(Target::Latest));
        let plain = |number| Numbered { timeline: None, number };
        assert_eq!(parse("lsn:16777216"), Ok(Target::Lsn(plain(16_777_216))));
        assert_eq!(parse(" tx:7 "), Ok(Target::Tx(plain(7))));
        let on = |timeline, number| Numbered { timeline: Some(TimelineId::new(timeline)), number };
        assert_eq!(parse("lsn:2/40960"), Ok(Target::Lsn(on(2, 40_960))));
        assert_eq!(parse("tx:4294967295/0"), Ok(Target::Tx(on(u32::MAX, 0))));
        for name in ["before-migration", "end of year", "移行前", "latest", "5 minutes ago"] {
            let point = PointName::new(name).unwrap();
            assert_eq!(parse(&format!("point:{name}")), Ok(Target::Point(point)), "{name}");
        }
        for ago in ["13 minutes ago", "13m ago", "780 s ago", "780 seconds ago"] {
            assert_eq!(parse(ago), Ok(Target::Time(Moment::Ago(Duration::from_secs(780)))), "{ago}");
        }
        assert_eq!(parse("2 days ago"), Ok(Target::Time(Moment::Ago(Duration::from_secs(172_800)))));
    }

    #[test]
    fn times_with_and_without_an_offset() {
        assert_eq!(at("2026-11-21T14:32:06Z").unwrap(), "2026-11-21T14:32:06.000000Z");
        assert_eq!(at("2026-11-21T14:32:06.123456+02:00").unwrap(), "2026-11-21T12:32:06.123456Z");
        assert_eq!(at("2026-11-21T14:32:06").unwrap(), "2026-11-21T13:32:06.000000Z");
        assert_eq!(at("2026-07-21 14:32").unwrap(), "2026-07-21T12:32:00.000000Z");
        assert_eq!(at("2026-11-21T14:32:06.1234569Z").unwrap(), "2026-11-21T14:32:06.123456Z");
        assert_eq!(at("1969-12-31T23:59:59.9999999Z").unwrap(), "1969-12-31T23:59:59.999999Z");
    }

    #[test]
    fn times_in_a_named_zone() {
        for text in [
            "2026-11-29 14:00 Europe/Paris",
            "2026-11-29T14:00:00[Europe/Paris]",
            "2026-11-29T14:00  Europe/Paris",
        ] {
            assert_eq!(at(text).unwrap(), "2026-11-29T13:00:00.000000Z", "{text}");
        }
        assert_eq!(at("2026-07-01 14:00 Europe/Paris").unwrap(), "2026-07-01T12:00:00.000000Z");
        assert_eq!(at("2026-07-01 14:00 America/New_York").unwrap(), "2026-07-01T18:00:00.000000Z");
        assert_eq!(at("2026-07-01 14:00 UTC").unwrap(), "2026-07-01T14:00:00.000000Z");
        let twice = at("2026-10-25 02:30 Europe/Paris");
        assert!(
            matches!(&twice, Err(TargetError::Ambiguous { zone, .. }) if zone == "Europe/Paris"),
            "{twice:?}"
        );
        for text in ["2026-07-01 14:00 Europe/Pari", "2026-07-01T14:00[Nowhere]"] {
            assert!(matches!(at(text), Err(TargetError::Zone { .. })), "{text}");
        }
        assert_eq!(at("yesterday Europe/Paris"), Err(TargetError::Unknown));
    }

    #[test]
    fn a_snapshot_id_may_be_abbreviated() {
        let parse = |text: &str| Target::parse(text, &TimeZone::UTC);
        let mut id = [0; 16];
        (id[0], id[1], id[15]) = (0x0f, 0xa0, 7);
        for (text, fits) in
            [("0", true), ("0fa", true), ("0FA0", true), ("fa", false), ("1", false), ("0fa1", false)]
        {
            let Ok(Target::Snapshot(prefix)) = parse(&format!("snapshot:{text}")) else { panic!("{text}") };
            assert_eq!(prefix.fits(id), fits, "{text}");
            assert_eq!(prefix.to_string(), text.to_lowercase());
        }
        let whole: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(
            matches!(parse(&format!("snapshot:{whole}")), Ok(Target::Snapshot(prefix)) if prefix.fits(id))
        );
        for text in ["", "xyz", "+1", &"0".repeat(33)] {
            assert_eq!(parse(&format!("snapshot:{text}")), Err(TargetError::SnapshotId), "{text}");
        }
    }

    #[test]
    fn an_ambiguous_or_missing_local_time_is_refused() {
        assert!(matches!(at("2026-10-25T02:30:00"), Err(TargetError::Ambiguous { .. })));
        assert!(matches!(at("2026-03-29T02:30:00"), Err(TargetError::Ambiguous { .. })));
        assert_eq!(at("2026-10-25T02:30:00+01:00").unwrap(), "2026-10-25T01:30:00.000000Z");
    }

    #[test]
    fn an_invalid_target_gets_its_own_error() {
        let parse = |text: &str| Target::parse(text, &TimeZone::UTC).unwrap_err();
        for text in ["", "yesterday", "Latest", "14:32", "2026-13-01T00:00:00Z"] {
            assert_eq!(parse(text), TargetError::Unknown, "{text}");
        }
        for text in [
            "tx:",
            "tx:-1",
            "tx:+1",
            "tx:1.5",
            "tx:18446744073709551616",
            "tx:2/",
            "tx:/7",
            "tx:0/7",
            "tx:+2/7",
            "tx:2/+7",
            "tx:4294967296/7",
            "tx:2/7/1",
        ] {
            assert_eq!(parse(text), TargetError::Number { kind: "tx" }, "{text}");
        }
        for text in ["ago", "13 ago", "2 months ago", "-5 minutes ago", "5 minutes ago ago"] {
            assert_eq!(parse(text), TargetError::Ago, "{text}");
        }
        for name in ["", " a", "a\nb"] {
            let said = parse(&format!("point:{name}"));
            assert_eq!(said, TargetError::Point(PointNameError(name.to_owned())), "{name:?}");
        }
    }

    #[test]
    fn durations_parse() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("1h 30m"), Ok(Duration::from_secs(5_400)));
        assert_eq!(parse_duration("7d"), Ok(Duration::from_secs(604_800)));
        assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
        for text in ["5", "", "1 month", "-1s", "soon"] {
            assert_eq!(parse_duration(text), Err(DurationError), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_printed_time_parses_back(micros in -62_000_000_000_000_000i64..253_000_000_000_000_000) {
            let time = Timestamp::from_micros(micros);
            prop_assert_eq!(
                Target::parse(&time.to_string(), &berlin()),
                Ok(Target::Time(Moment::At(time)))
            );
        }

        #[test]
        fn every_printed_number_parses_back(timeline in prop::option::of(1u32..), number: u64) {
            let number = Numbered { timeline: timeline.map(TimelineId::new), number };
            prop_assert_eq!(Target::parse(&format!("tx:{number}"), &berlin()), Ok(Target::Tx(number)));
            prop_assert_eq!(Target::parse(&format!("lsn:{number}"), &berlin()), Ok(Target::Lsn(number)));
        }

        #[test]
        fn no_input_panics(text in "\\PC{0,40}") {
            let _ = Target::parse(&text, &berlin());
            let _ = Target::parse(&format!("{text} ago"), &berlin());
            let _ = parse_duration(&text);
        }

        #[test]
        fn subtracting_a_duration_never_wraps(now in any::<i64>(), ago in any::<u64>()) {
            let now = Timestamp::from_micros(now);
            prop_assert!(Moment::Ago(Duration::from_micros(ago)).resolve(now) <= now);
        }
    }
}
