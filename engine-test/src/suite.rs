//! The suite: which check belongs to which rule.

use crate::checks::{durable, log, replays, restores, snapshots};
use crate::{Failure, Report, Rule, Subject};

/// Checks one engine.
#[derive(Debug)]
pub struct Suite<'t, S> {
    pub(crate) subject: &'t S,
    pub(crate) seed: u64,
}

impl<'t, S: Subject> Suite<'t, S> {
    /// The suite with a fixed seed.
    #[must_use]
    pub fn new(subject: &'t S) -> Self {
        Suite { subject, seed: 1 }
    }

    /// Other transactions.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        Suite { seed, ..self }
    }

    /// Checks every rule.
    pub fn run(&self) -> Report {
        let mut report = Report::default();
        for rule in Rule::ALL {
            match self.check(rule) {
                Ok(()) => report.passed.push(rule),
                // Checks overlap: one fault may show in several, and under the rule that it breaks.
                Err(failure) if report.failures.iter().any(|known| known.rule == failure.rule) => {}
                Err(failure) => report.failures.push(failure),
            }
        }
        report
    }

    /// Checks one rule. The failure may be of another rule, if that one is broken on the way.
    ///
    /// # Errors
    /// The first place at which a rule is broken.
    pub fn check(&self, rule: Rule) -> Result<(), Failure> {
        match rule {
            Rule::Durable => durable::power_loss(self),
            Rule::Aborted => durable::aborted(self),
            Rule::Uncommitted => durable::uncommitted(self),
            Rule::OwnChanges => snapshots::own_changes(self),
            Rule::WholeBlocks => log::whole_blocks(self),
            Rule::OnePartition => log::one_partition(self),
            Rule::Commits => log::commits(self),
            Rule::Logged => snapshots::logged(self),
            Rule::Tracked => snapshots::tracked(self),
            Rule::Exact => snapshots::exact(self),
            Rule::Continues => restores::continues(self),
            Rule::Unfinished => restores::unfinished(self),
            Rule::Workers => restores::workers(self),
            Rule::Replayed
            | Rule::LoggedEarly
            | Rule::PartitionOrder
            | Rule::RunAgain
            | Rule::UnknownRecord
                if !self.subject.limits().is_logical =>
            {
                Ok(())
            }
            Rule::Replayed => replays::replayed(self),
            Rule::LoggedEarly => replays::logged_early(self),
            Rule::PartitionOrder => replays::partition_order(self),
            Rule::RunAgain => replays::run_again(self),
            Rule::UnknownRecord => replays::unknown_record(self),
        }
    }
}
