//! Commit timestamps.

use std::fmt;

const MICROS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

/// Microseconds since the Unix epoch, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// A time before all that can be recorded. As an earliest time it means "unknown".
    pub const MIN: Timestamp = Timestamp(i64::MIN);
    /// A time after all that can be recorded.
    pub const MAX: Timestamp = Timestamp(i64::MAX);

    /// Creates the time this many microseconds after the Unix epoch.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Timestamp(micros)
    }

    /// Microseconds since the Unix epoch.
    #[must_use]
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Microseconds from `earlier` to this time; zero if `earlier` is after it.
    #[must_use]
    pub fn since(self, earlier: Timestamp) -> u64 {
        u64::try_from(i128::from(self.0) - i128::from(earlier.0)).unwrap_or(0)
    }
}

/// RFC 3339 in UTC with microseconds, `2026-11-21T14:32:06.000001Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.rem_euclid(MICROS_PER_SECOND);
        let seconds = self.0.div_euclid(MICROS_PER_SECOND);
        let second_of_day = seconds.rem_euclid(SECONDS_PER_DAY);
        let (year, month, day) = civil_from_days(seconds.div_euclid(SECONDS_PER_DAY));
        let (hour, minute, second) = (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
    }
}

/// Year, month and day of a day number, counted from 1970-01-01 in the proleptic Gregorian
/// calendar.
///
/// Years start in March, so that the leap day is the last day of its year (E. G. Richards,
/// "Calendars", 2013).
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    const DAYS_PER_ERA: i64 = 146_097;
    let days = days + 719_468; // from 0000-03-01
    let era = days.div_euclid(DAYS_PER_ERA);
    let day_of_era = days.rem_euclid(DAYS_PER_ERA);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_times_print_as_rfc_3339() {
        let print = |micros| Timestamp::from_micros(micros).to_string();
        assert_eq!(print(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(print(-1), "1969-12-31T23:59:59.999999Z");
        assert_eq!(print(951_782_400_000_000), "2000-02-29T00:00:00.000000Z");
        assert_eq!(print(1_795_271_526_000_001), "2026-11-21T14:32:06.000001Z");
        assert_eq!(print(4_107_542_399_000_000), "2100-02-28T23:59:59.000000Z");
    }

    proptest! {
        #[test]
        fn consecutive_days_give_consecutive_dates(day in -1_000_000i64..1_000_000) {
            let (y, m, d) = civil_from_days(day);
            let (y2, m2, d2) = civil_from_days(day + 1);
            prop_assert!((y2, m2, d2) == (y, m, d + 1) || (d2 == 1 && ((y2, m2) == (y, m + 1) || (y2, m2, m) == (y + 1, 1, 12))));
        }
    }
}
