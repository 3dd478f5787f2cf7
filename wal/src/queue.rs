//! Who writes, who waits, who is answered: the commit state machine, without threads, files or clocks.
//!
//! Callers place records and remember the [`Round`] in which these will be written. Whoever waits asks for
//! its [`Turn`]: nobody leads and there is work, so it leads; or its round is done; or it waits. The leader
//! takes all that was placed, ends the round, writes and syncs without the lock, and reports. While it does
//! so the next round fills.
//!
//! # Invariants
//! - At most one leader at a time.
//! - The durable point moves only when a leader reports success, and only to what that leader had taken.
//! - After a failure nothing is placed, nothing is led, and every answer is that failure: also for those
//!   whose records were taken before it (law 1).

use crate::builder::BatchBuilder;
use crate::layout::{Appended, Layout, Step};
use crate::{Error, Result};
use pitr_format::{Lsn, Timestamp};
use std::sync::Arc;

/// Number of a round: what one leader takes at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Round(pub(crate) u64);

/// What a waiting caller does now.
#[derive(Debug)]
pub(crate) enum Turn {
    /// Its records are durable.
    Done,
    /// It writes for everyone, then reports by [`Queue::finish`].
    Lead(Work),
    /// Someone else writes.
    Wait,
}

/// What a leader took.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) round: Round,
    pub(crate) steps: Vec<Step>,
    /// The durable point before it.
    pub(crate) durable: Lsn,
    /// The durable point when all of it is written and synced.
    pub(crate) end: Lsn,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Queue {
    layout: Layout,
    /// The round that takes what is placed now.
    filling: Round,
    leading: bool,
    durable: Lsn,
    failed: Option<Arc<Error>>,
}

impl Queue {
    /// A queue whose log is durable to its end.
    pub(crate) fn new(layout: Layout) -> Self {
        let durable = layout.end();
        Queue { layout, filling: Round(0), leading: false, durable, failed: None }
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
        match self.filling {
            Round(filling) if !self.layout.has_work() => Round(filling.saturating_sub(1)),
            filling => filling,
        }
    }

    /// What someone who waits for `round` does now.
    pub(crate) fn turn(&mut self, round: Round) -> Result<Turn> {
        self.check()?;
        let in_flight = self.leading && round.0 + 1 == self.filling.0;
        let done = if round < self.filling { !in_flight } else { !self.layout.has_work() };
        if done {
            return Ok(Turn::Done);
        }
        if self.leading {
            return Ok(Turn::Wait);
        }
        self.leading = true;
        let round = self.filling;
        self.filling = Round(round.0 + 1);
        let steps = self.layout.take();
        Ok(Turn::Lead(Work { round, steps, durable: self.durable, end: self.layout.end() }))
    }

    /// The leader's report: how far the log is durable, or why it can't go on.
    pub(crate) fn finish(&mut self, outcome: std::result::Result<Lsn, Arc<Error>>) {
        debug_assert!(self.leading, "only a leader reports");
        self.leading = false;
        match outcome {
            Ok(durable) => self.durable = durable,
            Err(cause) => self.failed = Some(cause),
        }
    }

    fn check(&self) -> Result<()> {
        match &self.failed {
            Some(cause) => Err(Error::Poisoned { cause: Arc::clone(cause) }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
