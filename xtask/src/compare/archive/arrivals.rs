//! When objects appear in a store, and the lag of commits that follows from it.

use super::place::Place;
use crate::Result;
use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Interval between listings.
pub(super) const LIST_EVERY: Duration = Duration::from_millis(20);
/// Objects before the newest one that a listing looks at again: several may be put at a time, and
/// the later ones may appear first.
const LOOK_BACK: usize = 16;

/// The range of an object. Ranges of level 0 follow each other; higher levels hold several of a
/// lower one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) level: u8,
}

/// An object of level 0, and when it was listed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arrival {
    pub(super) span: Span,
    pub(super) at: Duration,
}

/// The machine's monotonic time, which all its processes share.
pub(super) fn now() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    let part = |part: i64| u64::try_from(part).unwrap_or_default();
    Duration::from_secs(part(time.tv_sec)) + Duration::from_nanos(part(time.tv_nsec))
}

/// Lists the store until the end, and once more. Returns the objects that appeared, ascending.
pub(super) fn watch(
    place: &Place,
    prefix: &str,
    span: impl Fn(&str) -> Option<Span>,
    ended: &AtomicBool,
) -> std::result::Result<Vec<Arrival>, String> {
    let is_small = |span: &Span| span.level == 0;
    let known = place.list(prefix, "")?;
    let known: Vec<Span> = known.iter().filter_map(|stored| span(&stored.key)).collect();
    let (mut seen, mut arrived) = (BTreeMap::<String, Span>::new(), BTreeMap::new());
    loop {
        let is_last = ended.load(Ordering::Acquire);
        let after = seen.keys().rev().nth(LOOK_BACK).cloned().unwrap_or_default();
        let listed = place.list(prefix, &after)?;
        let at = now();
        for stored in listed {
            if let Some(span) = span(&stored.key).filter(is_small).filter(|span| !known.contains(span)) {
                seen.insert(stored.key, span);
                arrived.entry(span).or_insert(at);
            }
        }
        if is_last {
            return Ok(arrived.into_iter().map(|(span, at)| Arrival { span, at }).collect());
        }
        thread::sleep(LIST_EVERY);
    }
}

/// The lag of each commit, seconds. `held` has for each arrival the number of commits that can be
/// restored with it and those before it.
pub(super) fn lags(commits: &[Duration], arrivals: &[Arrival], held: &[u64]) -> Result<Vec<f64>> {
    let mut steps = arrivals.iter().zip(held);
    // All objects up to this one are there.
    let (mut whole, mut reached) = (Duration::ZERO, 0);
    let lag = |(committed, number): (&Duration, u64)| -> Result<f64> {
        while reached < number {
            let Some((arrival, held)) = steps.next() else {
                return Err(format!("commit {number} of {} never arrived", commits.len()).into());
            };
            (whole, reached) = (whole.max(arrival.at), reached.max(*held));
        }
        Ok(whole.saturating_sub(*committed).as_secs_f64())
    };
    commits.iter().zip(1..).map(lag).collect()
}

/// Percentiles of the lag, seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Lags {
    pub(super) median: f64,
    pub(super) p99: f64,
    pub(super) longest: f64,
}

impl Lags {
    pub(super) fn of(mut lags: Vec<f64>) -> Lags {
        lags.sort_by(f64::total_cmp);
        let rank = |share: f64| (lags.len() as f64 * share).ceil() as usize;
        let at = |share: f64| lags.get(rank(share).saturating_sub(1)).copied().unwrap_or(f64::NAN);
        Lags { median: at(0.5), p99: at(0.99), longest: at(1.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn arrival(number: u64, at: u64) -> Arrival {
        Arrival { span: Span { from: number, to: number + 1, level: 0 }, at: millis(at) }
    }

    #[test]
    fn a_commit_waits_for_its_object_and_for_those_before_it() {
        let commits = [millis(100), millis(200), millis(900)];
        let lags_of = |arrivals: &[Arrival], held: &[u64]| lags(&commits, arrivals, held);
        let close = |found: &[f64], wanted: &[f64]| {
            found.len() == wanted.len() && found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-9)
        };
        let plain = lags_of(&[arrival(1, 500), arrival(2, 1000)], &[2, 3]).unwrap();
        assert!(close(&plain, &[0.4, 0.3, 0.1]), "{plain:?}");
        // The first object came last.
        let late = lags_of(&[arrival(1, 1100), arrival(2, 1000)], &[2, 3]).unwrap();
        assert!(close(&late, &[1.0, 0.9, 0.2]), "{late:?}");
        let error = lags_of(&[arrival(1, 500)], &[2]).unwrap_err().to_string();
        assert!(error.contains("commit 3 of 3"), "{error}");
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let lags = Lags::of((1..=200).rev().map(f64::from).collect());
        assert_eq!(lags, Lags { median: 100.0, p99: 198.0, longest: 200.0 });
        assert!(Lags::of(Vec::new()).median.is_nan());
    }

    #[test]
    fn objects_are_noted_once_and_those_from_before_never() {
        let world = crate::world::World::new("arrivals-test").unwrap();
        let place = Place::local(&world).unwrap();
        let Place::Local(folder) = &place else { panic!("not local") };
        let span = |key: &str| {
            let (level, number) = key.split_once('/')?;
            let from = number.parse().ok()?;
            Some(Span { from, to: from + 1, level: level.parse().ok()? })
        };
        for name in ["0", "1"] {
            std::fs::create_dir(folder.join(name)).unwrap();
        }
        std::fs::write(folder.join("0/1"), "").unwrap();
        let ended = AtomicBool::new(false);
        let found = thread::scope(|scope| {
            let watching = scope.spawn(|| watch(&place, "", span, &ended));
            thread::sleep(LIST_EVERY * 5);
            for name in ["0/3", "0/2", "1/2", "0/2.tmp"] {
                std::fs::write(folder.join(name), "").unwrap();
            }
            thread::sleep(LIST_EVERY * 5);
            ended.store(true, Ordering::Release);
            watching.join().unwrap().unwrap()
        });
        let numbers: Vec<u64> = found.iter().map(|arrival| arrival.span.from).collect();
        assert_eq!(numbers, [2, 3], "{found:?}");
        assert!(found.iter().all(|arrival| arrival.at <= now() && now() - arrival.at < millis(60_000)));
    }
}
