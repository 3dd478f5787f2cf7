//! The group commit state machine, without threads, files or clocks.
//!
//! A caller places records and gets the [`Round`] in which they will be written. A caller that
//! waits asks for its [`Turn`]:
//! - Its round is durable: it is done.
//! - Its round is not durable and there is no leader: it leads.
//! - Otherwise it waits, and knows whether the current leader makes its records durable too.
//!
//! The leader takes all placed records, ends the round, writes and syncs without the lock, and
//! reports. The next round fills in the meantime.
//!
//! Waiting is optional: a leader may also write without syncing ([`Queue::flush`]). Its round
//! becomes durable with the next synced round, since a sync covers all earlier writes.
//!
//! # Invariants
//! - There is at most one leader.
//! - The durable point moves only when a leader reports success, and only as far as that leader
//!   synced.
//! - A round is done when it and all earlier rounds are durable.
//! - After a failure nothing is placed and nothing is led. Every later answer is that failure, also
//!   for records that were taken before it (law 1).

use super::builder::BatchBuilder;
use super::layout::{Appended, Layout, Step};
use crate::{Error, Result};
use pitr_format::{Lsn, TimelineId, Timestamp};
use std::sync::Arc;

/// Number of a round: the records that one leader takes at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Round(pub(crate) u64);

/// The next action of a waiting caller.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The caller's records are durable.
    Done,
    /// The caller leads: it calls [`Queue::take`], now or after others have joined, then
    /// [`Queue::finish`].
    Lead,
    /// The caller waits: the current leader makes its records durable.
    Covered,
    /// The caller waits: the current leader does not make its records durable.
    Wait,
}

/// The work of a leader.
#[derive(Debug)]
pub(crate) struct Work {
    /// The steps to perform; empty if only a sync is missing.
    pub(crate) steps: Vec<Step>,
    /// The durable point before the round.
    pub(crate) durable: Lsn,
    /// The durable point once the whole round is written and synced.
    pub(crate) end: Lsn,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leader {
    None,
    /// The leader has not taken any records yet.
    Claimed {
        syncs: bool,
    },
    Taken {
        round: Round,
        end: Lsn,
        syncs: bool,
    },
}

/// The group commit state machine.
#[derive(Debug)]
pub(crate) struct Queue {
    layout: Layout,
    /// The round of records that are placed now.
    filling: Round,
    /// Rounds below this one are durable.
    done: Round,
    leader: Leader,
    durable: Lsn,
    failed: Option<Arc<Error>>,
}

impl Queue {
    /// A queue whose log is durable to its end.
    pub(crate) fn new(layout: Layout) -> Self {
        let (durable, first) = (layout.end(), Round(1));
        Queue { layout, filling: first, done: first, leader: Leader::None, durable, failed: None }
    }

    pub(crate) fn durable(&self) -> Lsn {
        self.durable
    }

    pub(crate) fn end(&self) -> Lsn {
        self.layout.end()
    }

    /// No later record starts before this position.
    pub(crate) fn placed_to(&self) -> Lsn {
        self.layout.placed_to()
    }

    pub(crate) fn time(&self) -> Timestamp {
        self.layout.time()
    }

    pub(crate) fn identity(&self) -> (TimelineId, [u8; 16]) {
        self.layout.identity()
    }

    /// Bytes waiting for the next leader.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.layout.waiting_bytes()
    }

    /// Places records; returns the round in which they are written.
    pub(crate) fn place(
        &mut self,
        builder: &mut BatchBuilder,
        now: impl FnOnce() -> Timestamp,
    ) -> Result<(Appended, Round)> {
        self.check()?;
        let appended = self.layout.place(builder, now)?;
        Ok((appended, self.newest()))
    }

    /// Ends the segment and leaves a gap after it. Returns where the log continues.
    pub(crate) fn skip(&mut self) -> Result<(Lsn, Round)> {
        self.check()?;
        Ok((self.layout.skip()?, self.newest()))
    }

    /// The round that makes all records placed so far durable.
    pub(crate) fn newest(&self) -> Round {
        if self.layout.has_work() { self.filling } else { Round(self.filling.0 - 1) }
    }

    /// Rounds below this one are durable.
    pub(crate) fn done(&self) -> Round {
        self.done
    }

    /// True while there is a leader.
    pub(crate) fn is_led(&self) -> bool {
        self.leader != Leader::None
    }

    /// True if the records of `round` are written to the operating system, synced or not.
    pub(crate) fn is_written(&self, round: Round) -> bool {
        round < self.filling && !matches!(self.leader, Leader::Taken { round: led, .. } if led == round)
    }

    /// The next action of a caller that waits for `round`.
    pub(crate) fn turn(&mut self, round: Round) -> Result<Turn> {
        self.check()?;
        if round < self.done {
            return Ok(Turn::Done);
        }
        if self.claim(true) {
            return Ok(Turn::Lead);
        }
        let covered = match self.leader {
            Leader::Claimed { syncs } => syncs,
            Leader::Taken { round: taken, syncs, .. } => syncs && round <= taken,
            Leader::None => false,
        };
        Ok(if covered { Turn::Covered } else { Turn::Wait })
    }

    /// True if there is something to write and the caller now leads, as with [`Turn::Lead`]; it
    /// need not sync.
    pub(crate) fn flush(&mut self) -> bool {
        self.failed.is_none() && self.layout.has_work() && self.claim(false)
    }

    fn claim(&mut self, syncs: bool) -> bool {
        let free = self.leader == Leader::None;
        if free {
            self.leader = Leader::Claimed { syncs };
        }
        free
    }

    /// The leader takes the records placed so far.
    pub(crate) fn take(&mut self) -> Work {
        debug_assert!(matches!(self.leader, Leader::Claimed { .. }), "a leader takes once");
        let syncs = self.leader == (Leader::Claimed { syncs: true });
        let (steps, round) = (self.layout.take(), self.filling);
        let end = self.layout.end();
        self.filling = Round(round.0 + 1);
        self.leader = Leader::Taken { round, end, syncs };
        Work { steps, durable: self.durable, end }
    }

    /// Takes back the memory of written batches.
    pub(crate) fn give_back(&mut self, buffers: impl Iterator<Item = Vec<u8>>) {
        self.layout.give_back(buffers);
    }

    /// The leader's report: how far the log is durable, or why it failed.
    pub(crate) fn finish(&mut self, outcome: std::result::Result<Lsn, Arc<Error>>) {
        match (outcome, self.leader) {
            (Ok(durable), Leader::Taken { round, end, syncs }) => {
                debug_assert!(durable == end || !syncs, "a sync covers what its leader took");
                self.durable = durable;
                if durable == end {
                    self.done = Round(round.0 + 1);
                }
            }
            (Ok(_), _) => debug_assert!(false, "only a leader that took reports"),
            (Err(cause), _) => self.failed = Some(cause),
        }
        self.leader = Leader::None;
    }

    /// The failure that ended the log, if one did.
    pub(crate) fn check(&self) -> Result<()> {
        match &self.failed {
            Some(cause) => Err(Error::Poisoned { cause: Arc::clone(cause) }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
