//! How often a database is looked at.
//!
//! | state | a look every |
//! | --- | --- |
//! | its files changed, or a commit was found, less than [`HOT`] ago | [`WatchOptions::look_every`](super::super::WatchOptions) |
//! | frames stand in its log that are not published: a commit may come without another write | four times that |
//! | changes of its files can't be relied on | as while it is hot |
//! | at rest | [`SLOW`], more with hundreds of databases |
//!
//! Events are relied on for times (no event, so nothing was committed until now) only after a commit was found
//! together with one. A commit that was found without one shows that they don't reach us.

use std::time::Duration;

/// A database is looked at often for this long after a change.
const HOT: Duration = Duration::from_millis(50);
/// A database at rest is looked at this often.
const SLOW: Duration = Duration::from_secs(1);
/// With many databases at rest the pause grows by this much for each.
const SLOW_EACH: Duration = Duration::from_millis(20);

/// What is known of one database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    hot_until: Duration,
    /// Its files changed since the last look.
    changed: bool,
    /// Unpublished frames were found by the last look.
    unsettled: bool,
    trust: Trust,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// There are no events for its files, or they don't tell of commits.
    None,
    /// There are events; no commit has come yet.
    Untried,
    /// A commit came with one.
    Proven,
}

impl Pace {
    /// A database that is captured from now on; `followed` if there are events for its files.
    pub(super) fn new(now: Duration, followed: bool) -> Self {
        let trust = if followed { Trust::Untried } else { Trust::None };
        Pace { hot_until: now + HOT, changed: false, unsettled: false, trust }
    }

    /// Its files changed.
    pub(super) fn touch(&mut self, now: Duration) {
        self.changed = true;
        self.hot_until = now + HOT;
    }

    /// A look found a commit or not, and unpublished frames or not.
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

    /// The pause until the next look, of `members` databases in all.
    pub(super) fn pause(&self, now: Duration, look_every: Duration, members: usize) -> Duration {
        if now < self.hot_until || self.trust == Trust::None {
            look_every
        } else if self.unsettled {
            look_every * 4
        } else {
            SLOW.max(SLOW_EACH * u32::try_from(members).unwrap_or(u32::MAX))
        }
    }

    /// True if nothing was committed since the last look as long as no event came.
    pub(super) fn proves_quiet(&self) -> bool {
        self.trust == Trust::Proven && !self.changed && !self.unsettled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_believed_after_one_came_with_a_commit() {
        let (at, every) = (Duration::from_millis, Duration::from_millis(5));
        let mut pace = Pace::new(at(0), true);
        assert_eq!(pace.pause(at(10), every, 1), every);
        assert_eq!(pace.pause(at(100), every, 1), SLOW);
        assert_eq!(pace.pause(at(100), every, 300), Duration::from_secs(6));
        pace.looked(at(100), false, false);
        assert!(!pace.proves_quiet());
        pace.touch(at(200));
        assert_eq!(pace.pause(at(201), every, 300), every);
        pace.looked(at(201), true, false);
        assert!(pace.proves_quiet());
        pace.looked(at(206), false, true);
        assert!(!pace.proves_quiet(), "a commit may be about to be published");
        assert_eq!(pace.pause(at(300), every, 1), every * 4);
        pace.looked(at(1300), true, false);
        assert!(pace.proves_quiet(), "it was published late");
        pace.looked(at(1400), true, false);
        assert!(!pace.proves_quiet(), "a commit came without an event");
        assert_eq!(pace.pause(at(9000), every, 1), every);
    }

    #[test]
    fn without_events_each_look_counts() {
        let pace = Pace::new(Duration::ZERO, false);
        let every = Duration::from_millis(5);
        assert_eq!(pace.pause(Duration::from_secs(9), every, 1), every);
        assert!(!pace.proves_quiet());
    }
}
