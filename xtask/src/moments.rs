//! Moments to restore by time, and random numbers that repeat with the same seed.

use crate::witness::Witness;
use jiff::Timestamp;
use serde_json::Value;

/// Distance from every commit at which a moment must be restorable, microseconds.
pub(crate) const MARGIN_US: i64 = 50_000;

/// A moment at which the state of the database is known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) at_us: i64,
    pub(crate) state: usize,
}

impl Moment {
    /// The moment as an argument of `--to`.
    pub(crate) fn target(&self) -> String {
        rfc3339(self.at_us)
    }
}

/// The time in RFC 3339, with microseconds.
pub(crate) fn rfc3339(micros: i64) -> String {
    Timestamp::from_microsecond(micros).map_or_else(|_| "out of range".into(), |time| format!("{time:.6}"))
}

/// Microseconds of a time in a JSON document.
pub(crate) fn micros(time: &Value) -> Option<i64> {
    time.as_str()?.parse::<Timestamp>().ok().map(Timestamp::as_microsecond)
}

/// One random moment in each pause that is long enough, at least [`MARGIN_US`] from the commits
/// around it.
pub(crate) fn quiet(witness: &Witness, rng: &mut Rng) -> Vec<Moment> {
    let mut moments = Vec::new();
    for (state, pair) in witness.states.windows(2).enumerate().skip(1) {
        let (from, to) = (pair[0].after_us + MARGIN_US, pair[1].before_us - MARGIN_US);
        if from < to {
            let offset = rng.below(to.abs_diff(from));
            moments.push(Moment { at_us: from.saturating_add_unsigned(offset), state });
        }
    }
    moments
}

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Debug)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    /// 64 random bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to `bound` - 1; zero for a bound of zero.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.bits() % bound.max(1)
    }

    /// At most `count` of `all`, evenly distributed, in their order.
    pub(crate) fn sample<T>(&mut self, all: Vec<T>, count: usize) -> Vec<T> {
        let mut left = all.len() as u64;
        let mut wanted = count as u64;
        let mut taken = Vec::new();
        for item in all {
            if self.below(left) < wanted {
                taken.push(item);
                wanted -= 1;
            }
            left -= 1;
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_round_trip() {
        let micros_given = 1_795_271_526_000_001;
        assert_eq!(rfc3339(micros_given), "2026-11-21T14:32:06.000001Z");
        assert_eq!(micros(&Value::from(rfc3339(micros_given))), Some(micros_given));
        assert_eq!(micros(&Value::Null), None);
    }

    #[test]
    fn a_sample_has_its_size_and_its_order() {
        for seed in 0..50 {
            let taken = Rng(seed).sample((0..20).collect(), 7);
            assert_eq!(taken.len(), 7);
            assert!(taken.is_sorted(), "{taken:?}");
        }
        assert_eq!(Rng(1).sample(vec![1, 2, 3], 9), [1, 2, 3]);
    }
}
