//! The analysis pass of a replay: which transactions committed up to a target, and what they leave
//! of each block.
//!
//! # What it promises
//! An [`Analysis`] of a part of the log is a value, and [`Analysis::merge`] joins those of
//! neighbouring parts. It is associative: however a log is divided, the result is that of one pass
//! over all of it (law 6, FAILURES 16).
//!
//! # Rules
//! Those of [`pitr_redo`]. A record counts if its transaction commits after it, up to the target,
//! and began at or before it, as the commit states. A transaction that neither committed nor
//! aborted is open, unless a later incarnation of the log ended it.
//!
//! # Memory
//! 40 bytes for each commit, and what is known of each block: nothing grows with the bytes of the
//! log.

use super::effects::Effects;
use crate::{Error, Result};
use pitr_format::log::WholeRecord;
use pitr_format::record::{Record, RecordKind};
use pitr_format::{DecodeError, FileId, Incarnation, Lsn, Timestamp, TxId};
use pitr_redo::{BlockImage, CommitSpan, FileChange, OpenTransactions, Winners, is_within};
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

/// A transaction that committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommittedTx {
    /// Number of the transaction.
    pub tx: TxId,
    /// LSN of the transaction's first record, as its commit states.
    pub first: Lsn,
    /// LSN of the commit: the end of the commit record.
    pub lsn: Lsn,
    /// Time of the commit.
    pub time: Timestamp,
    /// The earliest time at which the commit can have happened.
    pub earliest: Timestamp,
}

impl CommittedTx {
    fn span(&self) -> CommitSpan {
        CommitSpan { tx: self.tx, first: self.first, commit: self.lsn }
    }
}

/// A transaction that was aborted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTx {
    /// Number of the transaction.
    pub tx: TxId,
    /// End of the abort record.
    pub lsn: Lsn,
}

/// Which transactions of a part of the log committed up to a target, and what they leave of each
/// block. Analyses of neighbouring parts merge to that of the whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Analysis {
    target: Bound<Lsn>,
    /// Incarnation of the first record; that of the last is in `open`.
    first_incarnation: Option<Incarnation>,
    /// Committed transactions, by LSN.
    commits: Vec<CommittedTx>,
    /// Aborted transactions, by LSN.
    aborts: Vec<AbortedTx>,
    open: OpenTransactions<Effects>,
    committed: Effects,
}

impl Analysis {
    /// Creates an empty analysis up to a target. It takes commits at or below the target
    /// ([`Bound::Included`]), below it ([`Bound::Excluded`]), or all.
    #[must_use]
    pub fn new(target: Bound<Lsn>) -> Self {
        Analysis {
            target,
            first_incarnation: None,
            commits: Vec::new(),
            aborts: Vec::new(),
            open: OpenTransactions::default(),
            committed: Effects::default(),
        }
    }

    /// Adds the next record, from a segment of this incarnation. Ignores records after the target.
    ///
    /// # Errors
    /// [`Error::Payload`] if it can't be read.
    #[inline]
    pub fn push(&mut self, record: &WholeRecord<'_>, incarnation: Incarnation) -> Result<()> {
        if !is_within(self.target, record.end) {
            return Ok(());
        }
        self.first_incarnation.get_or_insert(incarnation);
        self.open.enter(incarnation);
        if self.open.is_current(record.tx) && record.kind == RecordKind::Data as u8 {
            return Ok(());
        }
        self.take(record).map_err(|source| Error::Payload { lsn: record.lsn, source })
    }

    fn take(&mut self, record: &WholeRecord<'_>) -> Result<(), DecodeError> {
        let (lsn, tx) = (record.lsn, record.tx);
        let raw = DecodeError::Range { what: "record kind", value: record.kind.into() };
        match RecordKind::from_u8(record.kind).ok_or(raw)? {
            RecordKind::Data | RecordKind::Note => drop(self.effects_of(tx, lsn)),
            RecordKind::Image | RecordKind::SetLength => match Record::decode(record.kind, record.payload)? {
                Record::Image { file, block, data } => {
                    let image = BlockImage { block, block_bytes: data.len() as u32 };
                    self.effects_of(tx, lsn).image(lsn, file, image);
                }
                Record::SetLength { file, len } => self.effects_of(tx, lsn).set_length(lsn, file, len),
                _ => {}
            },
            RecordKind::Commit => {
                if let Record::Commit(commit) = Record::decode(record.kind, record.payload)? {
                    let (first, time, earliest) = (commit.first_lsn, commit.time, commit.earliest);
                    self.commits.push(CommittedTx { tx, first, lsn: record.end, time, earliest });
                    self.commit(tx, first);
                }
            }
            RecordKind::Abort => {
                self.aborts.push(AbortedTx { tx, lsn: record.end });
                self.open.end(tx);
            }
            RecordKind::Watermark | RecordKind::ClockStep | RecordKind::Gap | RecordKind::Checkpoint => {}
        }
        Ok(())
    }

    fn effects_of(&mut self, tx: TxId, lsn: Lsn) -> &mut Effects {
        self.open.record(tx, lsn, Effects::default)
    }

    /// Commits the records of an open transaction from `first` on.
    fn commit(&mut self, tx: TxId, first: Lsn) {
        if let Some(open) = self.open.end(tx) {
            self.committed.join(open.state, first);
        }
    }

    /// Joins the analysis of the part of the log that follows this one, up to the same target.
    #[must_use]
    pub fn merge(mut self, next: Analysis) -> Analysis {
        let incarnations = next.first_incarnation.zip(next.open.incarnation());
        let Some((first, last)) = incarnations else { return self };
        self.settle(&next);
        self.first_incarnation.get_or_insert(first);
        self.open.enter(first);
        self.open.enter(last);
        self.commits.extend(next.commits);
        self.aborts.extend(next.aborts);
        self.committed.join(next.committed, Lsn::ORIGIN);
        self.open.join(next.open, |own, later| own.join(later, Lsn::ORIGIN));
        self
    }

    /// Ends each open transaction by its first commit or abort in the next part of the log.
    fn settle(&mut self, next: &Analysis) {
        if self.open.is_empty() {
            return;
        }
        // The LSN of that commit or abort, and for a commit the first LSN that it covers.
        let mut ends: HashMap<TxId, (Lsn, Option<Lsn>)> = HashMap::new();
        let commits = next.commits.iter().map(|commit| (commit.tx, commit.lsn, Some(commit.first)));
        let aborts = next.aborts.iter().map(|abort| (abort.tx, abort.lsn, None));
        for (tx, lsn, first) in commits.chain(aborts).filter(|(tx, ..)| self.open.contains(*tx)) {
            let known = ends.entry(tx).or_insert((lsn, first));
            if lsn < known.0 {
                *known = (lsn, first);
            }
        }
        for (tx, (_, first)) in ends {
            match first {
                Some(first) => self.commit(tx, first),
                None => drop(self.open.end(tx)),
            }
        }
    }

    /// The committed transactions, by LSN.
    #[must_use]
    pub fn commits(&self) -> &[CommittedTx] {
        &self.commits
    }

    /// The aborted transactions, by LSN.
    #[must_use]
    pub fn aborts(&self) -> &[AbortedTx] {
        &self.aborts
    }

    /// The transactions that are open at the target, each with the LSN of its first record that was
    /// seen, ordered by that LSN.
    #[must_use]
    pub fn open(&self) -> Vec<(TxId, Lsn)> {
        let mut all: Vec<(TxId, Lsn)> = self.open.iter().map(|(tx, open)| (tx, open.first)).collect();
        all.sort_unstable_by_key(|(tx, first)| (*first, *tx));
        all
    }

    /// LSN of the newest committed image of a block at the target, and the number of its bytes that
    /// are left. `None` if there is no image, or if a later set-length left nothing of it. Reliable
    /// only if [`Analysis::files`] returns no error.
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

    /// Tells the records of committed transactions from all others.
    #[must_use]
    pub fn winners(&self) -> Winners {
        self.commits.iter().map(CommittedTx::span).collect()
    }
}
