//! Snapshots of an attached engine.

use pitr_archive::{Base, Merged, Search, reaches, runs};
use pitr_dedup::ChunkStore;
use pitr_engine::Event;
use pitr_format::{Lsn, SourceName};
use pitr_objects::Objects;
use pitr_recovery::{History, LogDelta};
use pitr_snapshot::{
    BlockSource, ConsistentAt, FileShape, FuzzySource, Manifest, Snapshot, SnapshotMeta, Tracked, list,
    newest, write_full, write_increment,
};
use pitr_tracker::ChangeSet;

use super::shipping::Shared;
use crate::{Error, Result};

/// What is known about the changes since the newest snapshot.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub enum Hint<'a> {
    /// What the source says ([`FuzzySource::changes_since`]), usually from a tracker: only changed
    /// blocks are read. Without an earlier snapshot everything is read.
    #[default]
    Tracked,
    /// The blocks that may have changed at or after `since`. The set must be complete.
    Changed {
        /// Position in the log: an earlier snapshot is used if its `redo_from` is at or after it.
        since: Lsn,
        /// The blocks.
        blocks: &'a ChangeSet,
    },
    /// The archived log since then: the source is not read. If the log has changes that can't be
    /// combined with an earlier snapshot, such as a new file, all blocks are compared.
    Log,
    /// Nothing: all blocks are read, and those that differ are stored.
    Compare,
    /// Nothing, and earlier snapshots are not used: all blocks are read and stored, except chunks
    /// that the repository has.
    Full,
}

/// The engine of the source's newest snapshot, if it is another one.
pub(super) fn other_engine(objects: &Objects, source: &SourceName, engine: &str) -> Result<Option<String>> {
    let roots = list(objects, source)?;
    let newest = newest(objects, source, &roots, |_| true)?;
    Ok(newest.map(|newest| newest.meta.engine).filter(|found| found != engine))
}

/// The file's blocks in the earlier snapshot have the same size.
fn is_comparable(parent: &Manifest, shapes: &[FileShape]) -> bool {
    shapes.iter().all(|shape| {
        let before = parent.file(shape.file).map(|entry| entry.shape.block_bytes);
        shape.block_bytes != 0 && before.is_none_or(|before| before == shape.block_bytes)
    })
}

impl Shared {
    pub(super) fn snapshot(&self, source: &dyn FuzzySource, hint: Hint<'_>) -> Result<Snapshot> {
        let begun = self.pitr.clock().monotonic();
        // Opening the store takes a lease, before earlier snapshots are listed.
        let chunks = ChunkStore::open(self.pitr.objects().clone())?;
        let of_log = if matches!(hint, Hint::Log) { self.of_log(&chunks)? } else { None };
        let written = match of_log {
            Some(written) => written,
            None => self.of_source(&chunks, source, hint)?,
        };
        let snapshot = written.publish(&chunks)?.snapshot;
        self.check_writer()?;
        let took = self.pitr.clock().monotonic().saturating_sub(begun);
        (self.events)(Event::Snapshot { snapshot: Box::new(snapshot.clone()), took });
        Ok(snapshot)
    }

    /// Reads the source. The log up to the consistent point is archived on return.
    fn of_source(&self, chunks: &ChunkStore, source: &dyn FuzzySource, hint: Hint<'_>) -> Result<Manifest> {
        let redo_from = source.redo_from();
        let parent = match hint {
            Hint::Full => None,
            Hint::Changed { since, .. } => self.newest(|parent| parent.meta.redo_from >= since)?,
            _ => self.newest(|_| true)?,
        };
        let mut written = match parent {
            None => write_full(chunks, source, self.meta(redo_from), None)?,
            Some(parent) => match self.increment(chunks, source, &parent, hint) {
                Err(Error::Snapshot(error @ pitr_snapshot::Error::Parent { .. })) => {
                    (self.events)(Event::ParentDamaged(error.to_string()));
                    write_full(chunks, source, self.meta(redo_from), None)?
                }
                written => written?,
            },
        };
        let ConsistentAt { lsn, tx, time } = source.consistent_at().map_err(Error::Source)?;
        if lsn < redo_from || lsn > self.wal.durable() {
            let durable = self.wal.durable();
            return Err(Error::Positions { redo_from, consistent_at: lsn, durable });
        }
        let meta = &mut written.snapshot.meta;
        (meta.consistent_at, meta.tx, meta.time) = (lsn, tx, time);
        self.ship_past(lsn)?;
        Ok(written)
    }

    fn increment(
        &self,
        chunks: &ChunkStore,
        source: &dyn FuzzySource,
        parent: &Snapshot,
        hint: Hint<'_>,
    ) -> Result<Manifest> {
        let (meta, since) = (self.meta(source.redo_from()), parent.meta.redo_from);
        let said;
        let changes = match hint {
            Hint::Changed { blocks, .. } => Some(blocks),
            Hint::Tracked => {
                said = source.changes_since(since).map_err(Error::Source)?;
                said.as_ref()
            }
            Hint::Log | Hint::Compare | Hint::Full => None,
        };
        let parent = parent.as_parent(chunks)?;
        match changes.filter(|_| is_comparable(&parent, &source.files())) {
            None => Ok(write_full(chunks, source, meta, Some(&parent))?),
            Some(changes) => {
                let spawn = self.pitr.objects().env().spawn;
                let mut delta = Tracked::new(source as &dyn BlockSource, changes).with_spawn(spawn);
                Ok(write_increment(chunks, &parent, &mut delta, meta)?)
            }
        }
    }

    /// Combines the newest snapshot with the archived log after it. `None` if the log does not
    /// continue any snapshot.
    fn of_log(&self, chunks: &ChunkStore) -> Result<Option<Manifest>> {
        self.ship(false)?;
        let Some(archived) = self.archived() else { return Ok(None) };
        let catalog = self.archive.catalog()?;
        let pieces = catalog.pieces(&catalog.lineage(self.wal.timeline())?);
        let runs = runs(&pieces);
        let leads_here = |snapshot: &Snapshot| {
            let SnapshotMeta { timeline, redo_from, consistent_at, .. } = snapshot.meta;
            reaches(&Base { consistent_at, redo_from, timeline }, archived, &runs)
        };
        let (Some(parent), Some(last)) = (self.newest(leads_here)?, pieces.last()) else { return Ok(None) };
        // Records of transactions that are open here are replayed by later restores.
        let open = self.archive.footer(&last.name)?.open;
        let redo_from = open.iter().map(|open| open.first_lsn).fold(archived, Lsn::min);
        let found = Search::new(&self.archive, &pieces).split(|commit| commit.lsn <= archived)?.before;
        let mut meta = self.meta(redo_from);
        meta.consistent_at = archived;
        (meta.tx, meta.time) = match found.filter(|found| found.lsn > parent.meta.consistent_at) {
            Some(found) => (found.tx, found.time),
            None => (parent.meta.tx, parent.meta.time),
        };
        let write = || -> Result<Manifest> {
            let merged = Merged::new(&self.archive, &pieces, parent.meta.redo_from, archived)?;
            let parent = parent.as_parent(chunks)?;
            let mut delta = LogDelta::new(merged, &parent)?;
            Ok(write_increment(chunks, &parent, &mut delta, meta)?)
        };
        match write() {
            Ok(written) => Ok(Some(written)),
            Err(Error::Snapshot(error @ pitr_snapshot::Error::Parent { .. })) => {
                (self.events)(Event::ParentDamaged(error.to_string()));
                Ok(None)
            }
            // A new file, or logical records: only the source has the whole state.
            Err(
                Error::Recovery(pitr_recovery::Error::OtherShape { .. })
                | Error::Archive(pitr_archive::Error::Logical { .. }),
            ) => Ok(None),
            Err(other) => Err(other),
        }
    }

    pub(super) fn needs_snapshot(&self) -> Result<bool> {
        let Some(archived) = self.archived() else { return Ok(false) };
        let (objects, source) = (self.pitr.objects(), self.archive.source());
        let history = History::load(objects, source, Some(self.wal.timeline()))?;
        let is_restorable = history.coverage().interval_at(archived).is_some();
        Ok(!is_restorable)
    }

    /// The newest snapshot of this log that `fits`.
    fn newest(&self, fits: impl Fn(&Snapshot) -> bool) -> Result<Option<Snapshot>> {
        let (objects, source) = (self.pitr.objects(), self.archive.source());
        let lineage = self.archive.catalog()?.lineage(self.wal.timeline())?;
        let mut roots = list(objects, source)?;
        roots.retain(|root| lineage.holds(root.timeline, root.consistent_at));
        roots.sort_by_key(|root| root.consistent_at);
        let is_ours = |snapshot: &Snapshot| snapshot.meta.engine == self.options.engine && fits(snapshot);
        Ok(newest(objects, source, &roots, is_ours)?)
    }

    fn meta(&self, redo_from: Lsn) -> SnapshotMeta {
        let (source, now) = (self.archive.source().clone(), self.pitr.clock().now());
        SnapshotMeta {
            timeline: self.wal.timeline(),
            epoch: self.epoch(),
            redo_from,
            codec: self.pitr.codec(),
            ..SnapshotMeta::new(source, &self.options.engine, 1, now)
        }
    }
}
