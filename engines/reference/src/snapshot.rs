//! Fuzzy snapshots: pages are read while transactions go on.
//!
//! The pages of such a snapshot are from different moments, between the last commit before it began
//! (`redo_from`) and the last commit when it ended (`consistent_at`). The records that were logged
//! in between, replayed over them, give the state of any commit from `consistent_at` on. If a
//! transaction that logged early is open at the begin, `redo_from` is its first record.

use crate::error::{Error, Result};
use crate::page::PAGE_BYTES;
use crate::record;
use crate::store::{Store, TableId, lock};
use pitr_format::record::Record;
use pitr_format::{FileId, Lsn, SourceName};
use pitr_snapshot::{BlockSource, BoxError, ConsistentAt, FileShape, FuzzySource, SnapshotMeta};
use pitr_tracker::{BlockSize, ChangeSet, Changes, Extractor, LsnRange};
use pitr_wal::Records;

/// A snapshot that is being taken: the source of its blocks.
#[derive(Debug)]
pub struct Snapshot<'s> {
    store: &'s Store,
    redo_from: Lsn,
    /// End of the tracked changes, at or after `redo_from`.
    tracked_to: Lsn,
    shapes: Vec<FileShape>,
}

impl Store {
    /// Begins a snapshot. Transactions go on.
    ///
    /// # Errors
    /// [`Error::Log`], [`Error::Tracker`], [`Error::Failed`].
    pub fn begin_snapshot(&self) -> Result<Snapshot<'_>> {
        let (redo_from, shapes) = {
            let state = self.state()?;
            let shape = |(id, table): (&TableId, &crate::state::Table)| FileShape {
                file: id.file(),
                name: id.file_name(),
                len: table.pages * PAGE_BYTES as u64,
                block_bytes: PAGE_BYTES as u32,
            };
            // The log of open transactions is needed if they commit.
            let redo_from = state.locks.first_or(state.last.lsn);
            (redo_from, state.tables.iter().map(shape).collect())
        };
        // The epoch ends after `redo_from`: it must have every change up to there.
        let durable = self.wal.sync();
        self.or_fail(durable)?;
        let changes = self.tracker.freeze(|| self.wal.durable())?;
        lock(&self.epochs).put(&changes)?;
        Ok(Snapshot { store: self, redo_from, tracked_to: changes.range.to(), shapes })
    }

    /// Removes the tracked changes below `lsn`: no increment will have a parent whose `redo_from`
    /// is lower. Without this call, the folder grows by a small file with each snapshot.
    ///
    /// # Errors
    /// [`Error::Tracker`].
    pub fn forget_changes_below(&self, lsn: Lsn) -> Result<()> {
        Ok(lock(&self.epochs).remove_below(lsn)?)
    }
}

impl Snapshot<'_> {
    /// LSN from which the log must be replayed over this snapshot.
    #[must_use]
    pub fn redo_from(&self) -> Lsn {
        self.redo_from
    }

    /// The metadata, to pass to [`pitr_snapshot::write_full`] or
    /// [`write_increment`](pitr_snapshot::write_increment), except what
    /// [`complete`](Self::complete) sets.
    #[must_use]
    pub fn meta(&self, source: SourceName) -> SnapshotMeta {
        SnapshotMeta {
            timeline: self.store.wal.timeline(),
            redo_from: self.redo_from,
            ..SnapshotMeta::new(source, crate::engine::NAME, 1, self.store.env.clock.now())
        }
    }

    /// The pages that may differ from those in an earlier snapshot of this store: `since` is its
    /// `redo_from`. Its own pages are from that moment or later, so everything that changed from
    /// then on is included.
    ///
    /// # Errors
    /// [`Error::Tracker`], [`Error::Log`].
    pub fn changes_since(&self, since: Lsn) -> Result<ChangeSet> {
        let range = LsnRange::new(since, self.tracked_to)?;
        let mut coverage = lock(&self.store.epochs).coverage(range)?;
        // Changes of a process that crashed are in the log only.
        for missing in coverage.missing().to_vec() {
            match self.extract(missing) {
                Ok(Some(changes)) => coverage.add(&changes),
                // It stays missing, and everything counts as changed.
                Ok(None) | Err(Error::Log(pitr_wal::Error::Removed { .. })) => {}
                Err(other) => return Err(other),
            }
        }
        Ok(coverage.into_set())
    }

    /// The changes in a range of the log; `None` if the log before it would be needed.
    fn extract(&self, range: LsnRange) -> Result<Option<Changes>> {
        let (mut reader, mut records) = (self.store.wal.reader(range.from())?, Records::new());
        let (mut extractor, size) = (Extractor::new(range), BlockSize::new(PAGE_BYTES as u32)?);
        let (mut rows, mut begins_earlier) = (ChangeSet::new(), false);
        while reader.position() < range.to() {
            let Some(batch) = reader.next_batch()? else { break };
            records.feed::<Error>(&batch, |whole| {
                match Record::decode(whole.kind, whole.payload) {
                    // The pages of rows change at the commit, which may be after the range: they
                    // count here too.
                    Ok(Record::Data(row)) => {
                        let row = record::decode(row).ok_or(Error::Foreign { lsn: whole.lsn })?;
                        rows.mark(FileId::new(whole.partition.get()), size, row.page);
                    }
                    Ok(Record::Commit(commit)) => begins_earlier |= commit.first_lsn < range.from(),
                    _ => {}
                }
                Ok(extractor.push(whole)?)
            })?;
        }
        let mut changes = extractor.finish(LsnRange::new(range.from(), reader.position())?)?;
        changes.set.union(&rows);
        Ok((!begins_earlier).then_some(changes))
    }

    /// Completes the metadata after all blocks were read, before the snapshot is published. The
    /// snapshot can be restored once the log up to `consistent_at` is archived.
    ///
    /// # Errors
    /// [`Error::Log`], [`Error::Failed`].
    pub fn complete(&self, meta: &mut SnapshotMeta) -> Result<()> {
        let ConsistentAt { lsn, tx, time } = self.end()?;
        (meta.consistent_at, meta.tx, meta.time) = (lsn, tx, time);
        Ok(())
    }

    fn end(&self) -> Result<ConsistentAt> {
        let last = self.store.state()?.last;
        // Pages of transactions that are not durable yet may have been read.
        let durable = self.store.wal.sync();
        self.store.or_fail(durable)?;
        Ok(ConsistentAt { lsn: last.lsn, tx: last.tx, time: last.time })
    }
}

/// What a snapshot through the library `pitr` asks.
impl FuzzySource for Snapshot<'_> {
    fn redo_from(&self) -> Lsn {
        self.redo_from
    }

    fn consistent_at(&self) -> std::result::Result<ConsistentAt, BoxError> {
        Ok(self.end()?)
    }

    fn changes_since(&self, since: Lsn) -> std::result::Result<Option<ChangeSet>, BoxError> {
        Ok(Some(Snapshot::changes_since(self, since)?))
    }
}

impl BlockSource for Snapshot<'_> {
    fn files(&self) -> Vec<FileShape> {
        self.shapes.clone()
    }

    /// Reads under the lock of the state, so that no page is read while a checkpoint writes it.
    fn read_at(&self, file: FileId, offset: u64, buf: &mut [u8]) -> Result<(), BoxError> {
        if !self.shapes.iter().any(|shape| shape.file == file) {
            return Err(Error::NoFile { file }.into());
        }
        let (state, mut at, mut rest) = (self.store.state()?, offset, buf);
        while !rest.is_empty() {
            let (number, begin) = (at / PAGE_BYTES as u64, (at % PAGE_BYTES as u64) as usize);
            let page = state.page(TableId::new(file), number)?;
            let len = rest.len().min(PAGE_BYTES - begin);
            rest[..len].copy_from_slice(&page[begin..begin + len]);
            (at, rest) = (at + len as u64, &mut rest[len..]);
        }
        Ok(())
    }
}
