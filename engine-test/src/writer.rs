//! Random transactions, and the states that they leave.
//!
//! Short transactions write even keys. A long one stays open over several of them and writes odd
//! keys. The two share blocks and no rows.

use crate::{Failure, Rows, Rule, Subject, Transaction};
use pitr::snapshot::BoxError;
use pitr::vfs::Env;
use pitr::vfs::sim::Rng;
use pitr::wal::Committed;
use std::time::Duration;

/// First byte of every value of a transaction that is aborted.
const ABORTED: u8 = 0xaa;

/// A state of a store.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    /// Number of the last transaction; 0 before the first.
    pub(crate) tx: u64,
    pub(crate) rows: Rows,
    /// Its commit. `None` for the state that a run begins with.
    pub(crate) committed: Option<Committed>,
}

/// The states of a store, in the order of the commits.
pub(crate) type States = Vec<State>;

/// A long transaction, and the values of its keys after its commit.
type Long<'s> = (Box<dyn Transaction + 's>, Rows);

/// A store that is written.
pub(crate) struct Writer<'s, S: Subject> {
    subject: &'s S,
    store: &'s S::Store,
    env: Env,
    rng: Rng,
    pub(crate) states: States,
    long: Option<Long<'s>>,
    made: u64,
}

impl<'s, S: Subject> Writer<'s, S> {
    pub(crate) fn new(subject: &'s S, store: &'s S::Store, env: &Env, seed: u64, states: States) -> Self {
        let (env, rng) = (env.clone(), Rng::new(seed));
        Writer { subject, store, env, rng, states, long: None, made: 0 }
    }

    /// The state after the last commit.
    pub(crate) fn rows(&self) -> Rows {
        self.states.last().map(|state| state.rows.clone()).unwrap_or_default()
    }

    pub(crate) fn last(&self) -> u64 {
        self.states.last().map_or(0, |state| state.tx)
    }

    /// Begins the long transaction, or continues or ends it, then makes a short one.
    pub(crate) fn step(&mut self) -> Result<(), Failure> {
        if self.subject.limits().is_interleaved {
            match self.rng.below(4) {
                0 if self.long.is_some() => self.end_long()?,
                _ => self.write_long()?,
            }
        }
        self.abort_one()?;
        self.commit_one()
    }

    /// Writes odd keys in the long transaction, which stays open.
    pub(crate) fn write_long(&mut self) -> Result<(), Failure> {
        let failed = |error| Failure::new(Rule::Exact, "a long transaction", error);
        let (mut open, mut written) = match self.long.take() {
            Some(long) => long,
            None => (self.subject.begin(self.store).map_err(failed)?, Rows::new()),
        };
        for _ in 0..2 {
            let key = self.key() | 1;
            let value = self.value(1);
            open.put(key, &value).map_err(failed)?;
            written.insert(key, value);
        }
        self.flush(open.as_mut()).map_err(failed)?;
        self.long = Some((open, written));
        Ok(())
    }

    fn end_long(&mut self) -> Result<(), Failure> {
        let failed = |error| Failure::new(Rule::Exact, "a long transaction", error);
        let Some((open, written)) = self.long.take() else { return Ok(()) };
        if self.rng.once_in(2) {
            return open.abort().map_err(failed);
        }
        let mut rows = self.rows();
        rows.extend(written);
        self.pass();
        let committed = open.commit().map_err(failed)?;
        self.note(committed, rows)
    }

    /// One short transaction.
    pub(crate) fn commit_one(&mut self) -> Result<(), Failure> {
        let place = format!("the transaction after {}", self.last());
        let failed = |error| Failure::new(Rule::Exact, &place, error);
        let (mut open, mut rows) = (self.subject.begin(self.store).map_err(failed)?, self.rows());
        for _ in 0..=self.rng.below(3) {
            let key = self.key() & !1;
            if self.rng.once_in(5) {
                open.delete(key).map_err(failed)?;
                rows.remove(&key);
            } else {
                let value = self.value(2);
                open.put(key, &value).map_err(failed)?;
                rows.insert(key, value);
            }
        }
        self.pass();
        let committed = open.commit().map_err(failed)?;
        self.note(committed, rows)
    }

    /// A transaction that is aborted. Its values are recognizable.
    pub(crate) fn abort_one(&mut self) -> Result<(), Failure> {
        let last = self.last();
        let failed = |error| Failure::new(Rule::Aborted, format!("after transaction {last}"), error);
        let mut open = self.subject.begin(self.store).map_err(failed)?;
        let (key, is_dropped) = (self.key() & !1, self.rng.once_in(2));
        let value = self.value(ABORTED);
        open.put(key, &value).map_err(failed)?;
        self.flush(open.as_mut()).map_err(failed)?;
        if is_dropped { Ok(()) } else { open.abort().map_err(failed) }
    }

    fn note(&mut self, committed: Committed, rows: Rows) -> Result<(), Failure> {
        let tx = committed.tx.get();
        // A transaction that logs before it commits has its number before it commits.
        let (is_wrong, must) = match self.subject.limits().is_logical {
            true => (tx == 0 || self.states.iter().any(|state| state.tx == tx), "no two may be the same"),
            false => (tx <= self.last(), "numbers must grow"),
        };
        if is_wrong {
            let what = format!("it has the number {tx}; {must}");
            return Err(Failure::new(Rule::Commits, format!("the commit after {}", self.last()), what));
        }
        self.states.push(State { tx, rows, committed: Some(committed) });
        Ok(())
    }

    /// Some transactions log their changes before they end.
    fn flush(&mut self, open: &mut (dyn Transaction + 's)) -> Result<(), BoxError> {
        if self.subject.limits().is_logical && self.rng.once_in(2) { open.flush() } else { Ok(()) }
    }

    /// No two commits have the same time.
    fn pass(&self) {
        self.env.clock.sleep(Duration::from_millis(1));
    }

    fn key(&mut self) -> u64 {
        self.rng.below(self.subject.limits().keys / 2) * 2
    }

    /// A value that no other write has.
    fn value(&mut self, first: u8) -> Vec<u8> {
        self.made += 1;
        let mut value = vec![self.rng.draw() as u8; self.subject.limits().value_bytes];
        value[0] = first;
        value[1..9].copy_from_slice(&self.made.to_le_bytes());
        value
    }
}

/// Fails if the rows are not those expected, under the rule that the difference shows.
pub(crate) fn compare(found: &Rows, expected: &Rows, rule: Rule, place: &str) -> Result<(), Failure> {
    let keys = found.keys().chain(expected.keys());
    let Some(key) = keys.copied().find(|key| found.get(key) != expected.get(key)) else { return Ok(()) };
    let shown = |rows: &Rows| rows.get(&key).map_or("no value".to_owned(), |value| describe(value));
    let is_aborted = found.get(&key).is_some_and(|value| value.first() == Some(&ABORTED));
    let of_long = found.get(&key).is_some_and(|value| value.first() == Some(&1));
    let rule = match rule {
        Rule::Replayed | Rule::LoggedEarly | Rule::PartitionOrder | Rule::RunAgain => rule,
        _ if is_aborted => Rule::Aborted,
        // The only odd keys that may be too new are those of the open transaction.
        Rule::Durable | Rule::Uncommitted if of_long => Rule::Uncommitted,
        Rule::Exact if of_long => Rule::OwnChanges,
        other => other,
    };
    let what = format!("key {key} has {}, expected {}", shown(found), shown(expected));
    Err(Failure::new(rule, place, what))
}

fn describe(value: &[u8]) -> String {
    let number =
        value.get(1..9).map(|bytes| bytes.iter().rev().fold(0_u64, |n, byte| n << 8 | u64::from(*byte)));
    format!("value {} ({} bytes)", number.unwrap_or_default(), value.len())
}
