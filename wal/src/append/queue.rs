//! Who writes, who waits, who is answered: the commit state machine, without threads, files or clocks.
//!
//! Callers place records and remember the [`Round`] in which these will be written. Whoever waits asks for
//! its [`Turn`]: nobody leads and its round isn't durable, so it leads; or its round is done; or it waits, knowing whether
//! the one who leads makes its records durable too. The leader
//! takes all that was placed, ends the round, writes and syncs without the lock, and reports. While it does
//! so the next round fills.
//!
//! Nobody has to wait for what it placed: a round may also be led by someone who only writes ([`Queue::flush`]). It is
//! durable with the next one that is synced, since a sync covers whatever was written before it.
//!
//! # Invariants
//! - At most one leader at a time.
//! - The durable point moves only when a leader reports success, and only as far as that leader synced.
//! - A round is done when everything up to its end is durable, and all rounds before it are.
//! - After a failure nothing is placed, nothing is led, and every answer is that failure: also for those
//!   whose records were taken before it (law 1).

use super::builder::BatchBuilder;
use super::layout::{Appended, Layout, Step};
use crate::{Error, Result};
use pitr_format::{Lsn, Timestamp};
use std::sync::Arc;

/// Number of a round: what one leader takes at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Round(pub(crate) u64);

/// What a waiting caller does now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Its records are durable.
    Done,
    /// It leads: [`Queue::take`], now or once others have joined, then [`Queue::finish`].
    Lead,
    /// Someone else leads, and makes its records durable.
    Covered,
    /// Someone else leads, and does not.
    Wait,
}

/// What a leader took.
#[derive(Debug)]
pub(crate) struct Work {
    /// Empty if all that is missing is a sync.
    pub(crate) steps: Vec<Step>,
    /// The durable point before it.
    pub(crate) durable: Lsn,
    /// The durable point when all of it is written and synced.
    pub(crate) end: Lsn,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leader {
    None,
    /// It has the lead and took nothing yet.
    Claimed {
        syncs: bool,
    },
    Taken {
        round: Round,
        end: Lsn,
        syncs: bool,
    },
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Queue {
    layout: Layout,
    /// The round that takes what is placed now.
    filling: Round,
    /// Rounds below are durable.
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

    pub(crate) fn time(&self) -> Timestamp {
        self.layout.time()
    }

    /// Bytes that wait for the next leader.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.layout.waiting_bytes()
    }

    /// Places records; they are written in the round that comes with the answer.
    pub(crate) fn place(
        &mut self,
        builder: &mut BatchBuilder,
        now: impl FnOnce() -> Timestamp,
    ) -> Result<(Appended, Round)> {
        self.check()?;
        let appended = self.layout.place(builder, now)?;
        Ok((appended, self.newest()))
    }

    /// Ends the segment with a gap behind it. Returns where the log goes on.
    pub(crate) fn skip(&mut self) -> Result<(Lsn, Round)> {
        self.check()?;
        Ok((self.layout.skip()?, self.newest()))
    }

    /// The round after which all that was placed so far is durable.
    pub(crate) fn newest(&self) -> Round {
        if self.layout.has_work() { self.filling } else { Round(self.filling.0 - 1) }
    }

    /// Rounds below this are durable.
    pub(crate) fn done(&self) -> Round {
        self.done
    }

    /// True while somebody leads.
    pub(crate) fn is_led(&self) -> bool {
        self.leader != Leader::None
    }

    /// True if what was placed in `round` is with the operating system, synced or not.
    pub(crate) fn is_written(&self, round: Round) -> bool {
        round < self.filling && !matches!(self.leader, Leader::Taken { round: led, .. } if led == round)
    }

    /// What someone who waits for `round` does now.
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

    /// True if there is something to write and the caller leads now, as with [`Turn::Lead`]; it need not sync.
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

    /// The leader takes what was placed so far.
    pub(crate) fn take(&mut self) -> Work {
        debug_assert!(matches!(self.leader, Leader::Claimed { .. }), "a leader takes once");
        let syncs = self.leader == (Leader::Claimed { syncs: true });
        let (steps, round) = (self.layout.take(), self.filling);
        let end = self.layout.end();
        self.filling = Round(round.0 + 1);
        self.leader = Leader::Taken { round, end, syncs };
        Work { steps, durable: self.durable, end }
    }

    /// Takes back the memory of batches that were written.
    pub(crate) fn give_back(&mut self, buffers: impl Iterator<Item = Vec<u8>>) {
        self.layout.give_back(buffers);
    }

    /// The leader's report: how far the log is durable, or why it can't go on.
    pub(crate) fn finish(&mut self, outcome: std::result::Result<Lsn, Arc<Error>>) {
        match (outcome, self.leader) {
            (Ok(durable), Leader::Taken { round, end, syncs }) => {
                debug_assert!(durable == end || !syncs, "whoever syncs covers what it took");
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
