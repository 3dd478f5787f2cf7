//! How often a database is looked at.
//!
//! | state | interval between looks |
//! | --- | --- |
//! | its files changed, or a commit was found, less than [`HOT`] ago | [`LOOK_EVERY`] |
//! | its `-wal` file has unpublished frames: a commit may follow without another write | four times that |
//! | file events are unreliable | as while it is hot |
//! | at rest | [`SLOW`], more with hundreds of databases |
//!
//! The absence of events proves that nothing was committed only after a commit was found together
//! with an event. A commit found without an event shows that events do not arrive.

use std::time::Duration;

/// Time after a change during which a database is looked at often.
const HOT: Duration = Duration::from_millis(50);
/// Interval between looks at a database whose `-wal` file changes.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Interval between looks at a database at rest.
const SLOW: Duration = Duration::from_secs(1);
/// With many databases at rest, the interval is this number times the number of databases.
const SLOW_EACH: Duration = Duration::from_millis(20);

/// State of one database, for its pace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    hot_until: Duration,
    /// True if the database's files changed since the last look.
    changed: bool,
    /// The last look found unpublished frames.
    unsettled: bool,
    trust: Trust,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// The database's files have no events, or the events don't reveal commits.
    None,
    /// The database's files have events. No commit was found yet.
    Untried,
    /// A commit came with an event.
    Proven,
}

impl Pace {
    /// The pace of a database whose capture begins. `followed` is true if the database's files have
    /// events.
    pub(super) fn new(now: Duration, followed: bool) -> Self {
        let trust = if followed { Trust::Untried } else { Trust::None };
        Pace { hot_until: now + HOT, changed: false, unsettled: false, trust }
    }

    /// Records a change of its files.
    pub(super) fn touch(&mut self, now: Duration) {
        self.changed = true;
        self.hot_until = now + HOT;
    }

    /// Records whether a look found a commit, and whether it found unpublished frames.
    pub(super) fn looked(&mut self, now: Duration, found: bool, unsettled: bool) {
        // A commit may be published some time after its frames were written, without another event.
        let expected = self.changed || now < self.hot_until || self.unsettled;
        self.unsettled = unsettled;
        self.trust = match self.trust {
            Trust::Untried | Trust::Proven if found && !expected => Trust::None,
            Trust::Untried if found && self.changed => Trust::Proven,
            trust => trust,
        };
        self.changed = false;
        if found {
            self.hot_until = now + HOT;
        }
    }

    /// The pause until the next look, in a fleet of `members` databases.
    pub(super) fn pause(&self, now: Duration, members: usize) -> Duration {
        if now < self.hot_until || self.trust == Trust::None {
            LOOK_EVERY
        } else if self.unsettled {
            LOOK_EVERY * 4
        } else {
            SLOW.max(SLOW_EACH * u32::try_from(members).unwrap_or(u32::MAX))
        }
    }

    /// True if the absence of events proves that nothing was committed since the last look.
    pub(super) fn proves_quiet(&self) -> bool {
        self.trust == Trust::Proven && !self.changed && !self.unsettled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_trusted_after_one_came_with_a_commit() {
        let (at, every) = (Duration::from_millis, Duration::from_millis(5));
        let mut pace = Pace::new(at(0), true);
        assert_eq!(pace.pause(at(10), 1), every);
        assert_eq!(pace.pause(at(100), 1), SLOW);
        assert_eq!(pace.pause(at(100), 300), Duration::from_secs(6));
        pace.looked(at(100), false, false);
        assert!(!pace.proves_quiet());
        pace.touch(at(200));
        assert_eq!(pace.pause(at(201), 300), every);
        pace.looked(at(201), true, false);
        assert!(pace.proves_quiet());
        pace.looked(at(206), false, true);
        assert!(!pace.proves_quiet(), "a commit may be about to be published");
        assert_eq!(pace.pause(at(300), 1), every * 4);
        pace.looked(at(1300), true, false);
        assert!(pace.proves_quiet(), "the commit was published late");
        pace.looked(at(1400), true, false);
        assert!(!pace.proves_quiet(), "a commit came without an event");
        assert_eq!(pace.pause(at(9000), 1), every);
    }

    #[test]
    fn without_events_the_pace_stays_fast() {
        let pace = Pace::new(Duration::ZERO, false);
        let every = Duration::from_millis(5);
        assert_eq!(pace.pause(Duration::from_secs(9), 1), every);
        assert!(!pace.proves_quiet());
    }
}
