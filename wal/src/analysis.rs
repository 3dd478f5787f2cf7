//! The analysis pass of a replay: which transactions committed up to a target, and what they leave of each block.
//!
//! # What it promises
//! An [`Analysis`] of a part of the log is a value, and [`Analysis::merge`] joins those of neighbouring parts. It is
//! associative: however a log is divided, the result is that of one pass over all of it (law 6, FAILURES 16).
//!
//! # Rules
//! - A record counts if its transaction commits behind it, up to the target, and began at or before it, as the commit says.
//!   So a number that was used again after an abort or a crash is told apart.
//! - A transaction that neither committed nor aborted is open; one that a change of life cut off is not: it can't go on.
//! - Images and set-lengths: see [`crate::effects`].
//!
//! # Memory
//! 40 bytes for each commit, and what is known of each block: nothing grows with the bytes of the log.

use crate::effects::{Effects, FileChange};
use crate::{Error, Result};
use pitr_format::log::WholeRecord;
use pitr_format::record::{Record, RecordKind};
use pitr_format::{DecodeError, FileId, Incarnation, Lsn, Timestamp, TxId};
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

/// A transaction that committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommittedTx {
    /// Its number.
    pub tx: TxId,
    /// Position of its first record, as its commit says.
    pub first: Lsn,
    /// Its LSN: just behind the commit record.
    pub lsn: Lsn,
    /// Time of the commit.
    pub time: Timestamp,
    /// The earliest time at which it can have happened.
    pub earliest: Timestamp,
}

/// A transaction that was aborted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTx {
    /// Its number.
    pub tx: TxId,
    /// Just behind the abort record.
    pub lsn: Lsn,
}

/// See the module's head.
#[derive(Debug, Clone)]
pub struct Analysis {
    upto: Bound<Lsn>,
    /// Of the first and the last record.
    lives: Option<(Incarnation, Incarnation)>,
    /// By LSN.
    commits: Vec<CommittedTx>,
    /// By LSN.
    aborts: Vec<AbortedTx>,
    open: HashMap<TxId, OpenTx>,
    /// One that is known to be open: most records are of the transaction of the one before.
    recent: Option<TxId>,
    committed: Effects,
}

/// Equal if they say the same.
impl PartialEq for Analysis {
    fn eq(&self, other: &Self) -> bool {
        let Analysis { upto, lives, commits, aborts, open, recent: _, committed } = self;
        (*upto, *lives) == (other.upto, other.lives)
            && *commits == other.commits
            && *aborts == other.aborts
            && *open == other.open
            && *committed == other.committed
    }
}

impl Eq for Analysis {}

/// What a transaction did that is not decided yet.
#[derive(Debug, Clone, PartialEq, Eq)]
struct OpenTx {
    first: Lsn,
    effects: Effects,
}

impl Analysis {
    /// Of no record, up to a target: commits at or below ([`Bound::Included`]), below ([`Bound::Excluded`]), or all.
    #[must_use]
    pub fn new(upto: Bound<Lsn>) -> Self {
        Analysis {
            upto,
            lives: None,
            commits: Vec::new(),
            aborts: Vec::new(),
            open: HashMap::new(),
            recent: None,
            committed: Effects::default(),
        }
    }

    /// Takes the next record, from a segment of this incarnation. Records behind the target are passed over.
    ///
    /// # Errors
    /// [`Error::Payload`] if it can't be read.
    #[inline]
    pub fn push(&mut self, record: &WholeRecord<'_>, incarnation: Incarnation) -> Result<()> {
        let within = match self.upto {
            Bound::Included(target) => record.end <= target,
            Bound::Excluded(target) => record.end < target,
            Bound::Unbounded => true,
        };
        if !within {
            return Ok(());
        }
        match &mut self.lives {
            Some((_, last)) if *last == incarnation => {}
            lives => {
                *lives = Some((lives.map_or(incarnation, |(first, _)| first), incarnation));
                self.open.clear();
                self.recent = None;
            }
        }
        if self.recent == Some(record.tx) && record.kind == RecordKind::Data as u8 {
            return Ok(());
        }
        self.take(record).map_err(|source| Error::Payload { lsn: record.lsn, source })
    }

    fn take(&mut self, record: &WholeRecord<'_>) -> Result<(), DecodeError> {
        let (lsn, tx) = (record.lsn, record.tx);
        let raw = DecodeError::Range { what: "record kind", value: record.kind.into() };
        match RecordKind::from_u8(record.kind).ok_or(raw)? {
            RecordKind::Data | RecordKind::Note => drop(self.open_tx(tx, lsn)),
            RecordKind::Image | RecordKind::SetLength => match Record::decode(record.kind, record.payload)? {
                Record::Image { file, block, data } => {
                    self.open_tx(tx, lsn).effects.image(lsn, file, block, data.len() as u32);
                }
                Record::SetLength { file, len } => self.open_tx(tx, lsn).effects.set_length(lsn, file, len),
                _ => {}
            },
            RecordKind::Commit => {
                if let Record::Commit(commit) = Record::decode(record.kind, record.payload)? {
                    let (first, time, earliest) = (commit.first_lsn, commit.time, commit.earliest);
                    self.commits.push(CommittedTx { tx, first, lsn: record.end, time, earliest });
                    self.recent = None;
                    if let Some(open) = self.open.remove(&tx) {
                        self.committed.join(open.effects, first);
                    }
                }
            }
            RecordKind::Abort => {
                self.aborts.push(AbortedTx { tx, lsn: record.end });
                self.open.remove(&tx);
                self.recent = None;
            }
            RecordKind::Watermark | RecordKind::ClockStep | RecordKind::Gap => {}
        }
        Ok(())
    }

    fn open_tx(&mut self, tx: TxId, lsn: Lsn) -> &mut OpenTx {
        self.recent = Some(tx);
        self.open.entry(tx).or_insert_with(|| OpenTx { first: lsn, effects: Effects::default() })
    }

    /// Joins the analysis of the part of the log behind this one, up to the same target.
    #[must_use]
    pub fn merge(mut self, behind: Analysis) -> Analysis {
        let Some((first, last)) = behind.lives else { return self };
        self.recent = None;
        self.settle(&behind);
        let changes = first != last || self.lives.is_some_and(|(_, before)| before != first);
        if changes {
            self.open.clear();
        }
        self.lives = Some((self.lives.map_or(first, |(first, _)| first), last));
        self.commits.extend(behind.commits);
        self.aborts.extend(behind.aborts);
        self.committed.join(behind.committed, Lsn::ORIGIN);
        for (tx, open) in behind.open {
            match self.open.get_mut(&tx) {
                Some(own) => own.effects.join(open.effects, Lsn::ORIGIN),
                None => drop(self.open.insert(tx, open)),
            }
        }
        self
    }

    /// Decides what is open by the first commit or abort of each transaction behind it.
    fn settle(&mut self, behind: &Analysis) {
        let mut ends: HashMap<TxId, (Lsn, Option<Lsn>)> = HashMap::new();
        let mut end = |tx: TxId, lsn: Lsn, from: Option<Lsn>| {
            if self.open.contains_key(&tx) {
                let known = ends.entry(tx).or_insert((lsn, from));
                if lsn < known.0 {
                    *known = (lsn, from);
                }
            }
        };
        if !self.open.is_empty() {
            behind.commits.iter().for_each(|commit| end(commit.tx, commit.lsn, Some(commit.first)));
            behind.aborts.iter().for_each(|abort| end(abort.tx, abort.lsn, None));
        }
        for (tx, (_, from)) in ends {
            if let (Some(open), Some(from)) = (self.open.remove(&tx), from) {
                self.committed.join(open.effects, from);
            }
        }
    }

    /// Those that committed, by LSN.
    #[must_use]
    pub fn commits(&self) -> &[CommittedTx] {
        &self.commits
    }

    /// Those that were aborted, by LSN.
    #[must_use]
    pub fn aborts(&self) -> &[AbortedTx] {
        &self.aborts
    }

    /// Those that are unfinished at the target, each with the position of its first record seen, by that.
    #[must_use]
    pub fn open(&self) -> Vec<(TxId, Lsn)> {
        let real = self.open.iter().filter(|(tx, _)| **tx != TxId::NONE);
        let mut all: Vec<(TxId, Lsn)> = real.map(|(tx, open)| (*tx, open.first)).collect();
        all.sort_unstable_by_key(|(tx, first)| (*first, *tx));
        all
    }

    /// Position of the image that a block has at the target, and how many of its bytes count. `None` if there is none, or
    /// if a later set-length left nothing of it. Sure only if [`Analysis::files`] finds no fault.
    #[must_use]
    pub fn newest(&self, file: FileId, block: u64) -> Option<(Lsn, u32)> {
        self.committed.newest(file, block)
    }

    /// What the committed records do to each file that they touch.
    ///
    /// # Errors
    /// [`Error::BlockSize`] if the images of a file have more than one size.
    pub fn files(&self) -> Result<BTreeMap<FileId, FileChange>> {
        self.committed.changes()
    }

    /// Tells the records of those that committed from all others.
    #[must_use]
    pub fn winners(&self) -> Winners {
        let mut commits: Vec<_> = self.commits.iter().map(|c| (c.tx, c.lsn, c.first)).collect();
        commits.sort_unstable();
        Winners { commits }
    }
}

/// Tells the records of transactions that committed from all others. 24 bytes for each commit.
#[derive(Debug, Clone)]
pub struct Winners {
    /// Transaction, LSN, first record; sorted.
    commits: Vec<(TxId, Lsn, Lsn)>,
}

impl Winners {
    /// True if the record of this transaction at `lsn` became visible.
    #[must_use]
    pub fn counts(&self, tx: TxId, lsn: Lsn) -> bool {
        self.commit_of(tx, lsn).is_some()
    }

    /// From where to where the records of the transaction count with the one at `lsn`: its first one, and its commit.
    pub(crate) fn commit_of(&self, tx: TxId, lsn: Lsn) -> Option<(Lsn, Lsn)> {
        let behind = self.commits.partition_point(|(other, commit, _)| (*other, *commit) <= (tx, lsn));
        let own = self.commits.get(behind..)?.iter().take_while(|(other, ..)| *other == tx);
        own.map(|(_, commit, first)| (*first, *commit)).find(|(first, _)| *first <= lsn)
    }
}
