//! A store of the reference engine that knows the state after each of its commits.

use crate::Result;
use crate::moments::Rng;
use pitr::engine::{Event, Events};
use pitr::format::{Lsn, SegmentSize, SourceName, Timestamp, TxId};
use pitr::recovery::{Error as RecoveryError, Target};
use pitr::wal::{Wal, WalOptions};
use pitr::{Error, Pitr};
use pitr_reference::{Env, Options, Store, TableId};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Name of the source.
pub(super) const SOURCE: &str = "bank";
const TABLE: &str = "accounts";
const ROWS: u64 = 2000;
const ROW_BYTES: usize = 64;

/// A store with one table.
pub(super) struct Bank {
    pub(super) store: Store,
    pub(super) source: SourceName,
    table: TableId,
    commits: Mutex<Vec<Made>>,
    events: Arc<Mutex<Vec<Event>>>,
}

/// A commit that was made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Made {
    tx: TxId,
    pub(super) lsn: Lsn,
    time: Timestamp,
    row: u64,
    /// When it returned.
    pub(super) at: Instant,
    pub(super) took: Duration,
}

/// What a restore to a commit gave.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The state after that commit.
    Exact,
    /// The target can't be reached.
    Refused,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The content of a row that the commit with this number writes.
fn row_of(nth: usize) -> Vec<u8> {
    (nth as u64).to_le_bytes().repeat(ROW_BYTES / 8)
}

fn options(segment_size: SegmentSize, wal: WalOptions) -> Options {
    Options { segment_size, wal, ..Options::default() }
}

impl Bank {
    /// A new store in this folder.
    pub(super) fn create(env: &Env, dir: &Path, segment_bytes: u32, wal: WalOptions) -> Result<Bank> {
        let store = Store::open(env, dir, &options(SegmentSize::new(segment_bytes)?, wal))?;
        let table = store.create_table(TABLE, ROW_BYTES)?;
        let (commits, events) = (Mutex::default(), Arc::default());
        Ok(Bank { store, source: SourceName::new(SOURCE)?, table, commits, events })
    }

    pub(super) fn wal(&self) -> &Wal {
        self.store.wal()
    }

    /// Receives the events of an attachment.
    pub(super) fn events(&self) -> Events {
        let events = Arc::clone(&self.events);
        Arc::new(move |event| lock(&events).push(event))
    }

    /// True if such an event came so far.
    pub(super) fn has_seen(&self, is_it: impl Fn(&Event) -> bool) -> bool {
        lock(&self.events).iter().any(is_it)
    }

    /// Writes a row in a transaction of its own. One thread at a time.
    pub(super) fn commit(&self, rng: &mut Rng) -> Result<Made> {
        let (row, nth) = (rng.below(ROWS), self.count());
        let mut transaction = self.store.begin();
        transaction.put(self.table, row, &row_of(nth))?;
        let begun = Instant::now();
        let committed = transaction.commit()?;
        let (at, took) = (Instant::now(), begun.elapsed());
        let made = Made { tx: committed.tx, lsn: committed.lsn, time: committed.time, row, at, took };
        lock(&self.commits).push(made);
        Ok(made)
    }

    /// Number of commits so far.
    pub(super) fn count(&self) -> usize {
        lock(&self.commits).len()
    }

    /// The commits so far.
    pub(super) fn commits(&self) -> Vec<Made> {
        lock(&self.commits).clone()
    }

    /// The rows after the commit with this number.
    fn rows_after(&self, nth: usize) -> BTreeMap<u64, Vec<u8>> {
        let commits = lock(&self.commits);
        commits.iter().enumerate().take(nth + 1).map(|(nth, made)| (made.row, row_of(nth))).collect()
    }

    /// Restores the state after a commit, by its number, position or time, and compares all rows.
    /// An error if they differ.
    pub(super) fn restore(&self, pitr: &Pitr, nth: usize, output: &Path) -> Result<Outcome> {
        let made = *lock(&self.commits).get(nth).ok_or("there is no such commit")?;
        let target = match nth % 3 {
            0 => Target::at(made.tx),
            1 => Target::at(made.lsn),
            _ => Target::at(made.time),
        };
        match pitr.restore_to(&self.source, &target, output) {
            Ok(_) => {}
            Err(Error::Recovery(RecoveryError::TargetUnreachable(_))) if !output.exists() => {
                return Ok(Outcome::Refused);
            }
            Err(error) => return Err(format!("{target}: {error}").into()),
        }
        let restored = options(SegmentSize::SMALL, WalOptions::default());
        let restored = Store::open(&Env::system(), output, &restored)?;
        let table = restored.table(TABLE)?.ok_or("the restored store has no table")?;
        let is_exact = restored.rows(table)? == self.rows_after(nth);
        drop(restored);
        std::fs::remove_dir_all(output)?;
        match is_exact {
            true => Ok(Outcome::Exact),
            false => Err(format!("{target}: other rows than after commit {nth}").into()),
        }
    }
}

/// The value below which this part of the values lies.
pub(super) fn quantile(mut values: Vec<Duration>, part: f64) -> Duration {
    values.sort_unstable();
    let at = (values.len() as f64 * part) as usize;
    values.get(at.min(values.len().saturating_sub(1))).copied().unwrap_or_default()
}
