//! Rules, and what breaks them.

use std::fmt;
use thiserror::Error;

/// What an engine must do. The suite checks each by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// A commit that returned survives a power loss, whole and with everything before it.
    Durable,
    /// An aborted transaction leaves nothing.
    Aborted,
    /// Changes of an open transaction reach neither the files nor a snapshot.
    Uncommitted,
    /// An image in the log has changes of its own transaction and of earlier commits only.
    OwnChanges,
    /// The log describes whole blocks of the files of a snapshot: no byte deltas, no other records.
    WholeBlocks,
    /// All images of a block are in one partition, so that they are replayed in order.
    OnePartition,
    /// A commit has the position, number and time in the log that the engine reports.
    Commits,
    /// Everything that changes a block is logged.
    Logged,
    /// The changes that a snapshot source reports since a position are complete.
    Tracked,
    /// A snapshot that is taken while the store is written is restored to exactly each transaction.
    Exact,
    /// A restored store opens, and continues durably.
    Continues,
    /// An unfinished restore does not open.
    Unfinished,
    /// Any number of workers restores the same bytes.
    Workers,
    /// A replay of logical records gives exactly each transaction.
    Replayed,
    /// Logical records of a transaction that did not commit leave nothing.
    LoggedEarly,
    /// A replay leaves the same bytes in whichever order it comes to the partitions.
    PartitionOrder,
    /// A replay that was killed is run again to the same state.
    RunAgain,
    /// A logical record that the engine does not know is an error, and is never skipped.
    UnknownRecord,
}

impl Rule {
    /// All rules, in the order of the suite.
    pub const ALL: [Rule; 18] = [
        Rule::Durable,
        Rule::Aborted,
        Rule::Uncommitted,
        Rule::OwnChanges,
        Rule::WholeBlocks,
        Rule::OnePartition,
        Rule::Commits,
        Rule::Logged,
        Rule::Tracked,
        Rule::Exact,
        Rule::Continues,
        Rule::Unfinished,
        Rule::Workers,
        Rule::Replayed,
        Rule::LoggedEarly,
        Rule::PartitionOrder,
        Rule::RunAgain,
        Rule::UnknownRecord,
    ];
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Rule::Durable => "a commit that returned survives a power loss",
            Rule::Aborted => "an aborted transaction leaves nothing",
            Rule::Uncommitted => "uncommitted changes reach neither the files nor a snapshot",
            Rule::OwnChanges => "an image has no changes of other open transactions",
            Rule::WholeBlocks => "the log describes whole blocks",
            Rule::OnePartition => "all images of a block are in one partition",
            Rule::Commits => "a commit is in the log as the engine reports it",
            Rule::Logged => "everything that changes a block is logged",
            Rule::Tracked => "the reported changes are complete",
            Rule::Exact => "a snapshot is restored to exactly each transaction",
            Rule::Continues => "a restored store opens and continues",
            Rule::Unfinished => "an unfinished restore does not open",
            Rule::Workers => "any number of workers restores the same bytes",
            Rule::Replayed => "a replay of logical records gives exactly each transaction",
            Rule::LoggedEarly => "records of a transaction that did not commit leave nothing",
            Rule::PartitionOrder => "the order of partitions does not change what a replay leaves",
            Rule::RunAgain => "a replay that was killed is run again to the same state",
            Rule::UnknownRecord => "an unknown logical record is an error",
        })
    }
}

/// A broken rule.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{rule:?} ({rule}): {place}: {what}")]
#[non_exhaustive]
pub struct Failure {
    /// The rule.
    pub rule: Rule,
    /// Where: the transaction, the cut of the run, the record.
    pub place: String,
    /// What was found there.
    pub what: String,
}

impl Failure {
    pub(crate) fn new(rule: Rule, place: impl fmt::Display, what: impl fmt::Display) -> Self {
        Failure { rule, place: place.to_string(), what: what.to_string() }
    }
}

/// The outcome of a suite.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use = "failures are in the report"]
pub struct Report {
    /// Rules that hold.
    pub passed: Vec<Rule>,
    /// Rules that are broken, each with the first place.
    pub failures: Vec<Failure>,
}

impl Report {
    /// Passes if every rule holds.
    ///
    /// # Panics
    /// With the failures, if a rule is broken: for tests.
    pub fn assert_passed(&self) {
        assert!(self.failures.is_empty(), "{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} rules hold, {} are broken", self.passed.len(), self.failures.len())?;
        self.failures.iter().try_for_each(|failure| writeln!(f, "  {failure}"))
    }
}
