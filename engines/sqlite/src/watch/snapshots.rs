//! Snapshots of a watched database: a base read from the database, or an increment read from the
//! archive.

use pitr_archive::{Base, Merged, Search, reaches, runs};
use pitr_dedup::ChunkStore;
use pitr_engine::Event;
use pitr_format::{FileId, Lsn, SourceName, Timestamp, TxId};
use pitr_objects::Objects;
use pitr_recovery::LogDelta;
use pitr_snapshot::{
    BlockSource, BoxError, FileShape, Manifest, Snapshot, SnapshotMeta, list, newest, write_full,
    write_increment,
};

use super::ENGINE;
use super::shared::Shared;
use crate::base::BaseView;
use crate::capture::DATABASE_FILE;
use crate::error::{Error, Result};

/// A base still to be read: the view, and its position in the local log.
pub(super) struct PendingBase {
    pub(super) view: BaseView,
    /// Position in the local log whose state the view has.
    pub(super) at: Lsn,
    /// The last transaction in the view, and its time or that of the look.
    pub(super) tx: TxId,
    pub(super) time: Timestamp,
    /// Ignores earlier snapshots.
    pub(super) full: bool,
}

/// The newest snapshot of a source, on any timeline.
pub(super) fn newest_of(objects: &Objects, source: &SourceName) -> pitr_snapshot::Result<Option<Snapshot>> {
    let mut roots = list(objects, source)?;
    roots.sort_by_key(|root| (root.timeline, root.consistent_at));
    newest(objects, source, &roots, |_| true)
}

impl BlockSource for BaseView {
    fn files(&self) -> Vec<FileShape> {
        let (len, block_bytes) = (self.len(), self.page_bytes());
        vec![FileShape { file: DATABASE_FILE, name: "database".to_owned(), len, block_bytes }]
    }

    fn read_at(&self, _file: FileId, offset: u64, out: &mut [u8]) -> std::result::Result<(), BoxError> {
        Ok(self.read(offset, out)?)
    }
}

impl Shared {
    /// Reads the database and stores what the newest snapshot doesn't have.
    pub(super) fn take_base(&self, base: &PendingBase) -> Result<Snapshot> {
        // Opening the store takes a lease, before parents are listed.
        let store = ChunkStore::open(self.context.objects.clone())?;
        // The newest snapshot most likely resembles the database. It need not be on this history.
        let newest = || newest_of(&self.context.objects, &self.watched.source);
        let parent = if base.full { None } else { newest()? };
        let meta = self.meta(base.at, base.tx, base.time);
        let fits = |m: &&Manifest| {
            m.file(DATABASE_FILE).is_some_and(|f| f.shape.block_bytes == base.view.page_bytes())
        };
        let write = |parent: Option<Snapshot>| {
            let parent = parent.map(|parent| parent.as_parent(&store)).transpose()?;
            write_full(&store, &base.view, meta.clone(), parent.as_ref().filter(fits))
        };
        let written = match write(parent) {
            // If the parent can't be read, the snapshot takes more space but does not fail.
            Err(error @ pitr_snapshot::Error::Parent { .. }) => {
                (self.events)(Event::ParentDamaged(error.to_string()));
                write(None)
            }
            other => other,
        };
        let manifest = written.and_then(|m| m.publish(&store))?;
        self.writer.check()?;
        Ok(manifest.snapshot)
    }

    /// Ships the log, and stores the changes since the newest snapshot. The database is not read.
    /// `None` if the log does not continue any snapshot, or if that snapshot is damaged.
    pub(super) fn take_increment(&self) -> Result<Option<Snapshot>> {
        let archived = self.ship(true)?;
        // Opening the store takes a lease, before the parent and the log after it are listed.
        let store = ChunkStore::open(self.context.objects.clone())?;
        let Some(parent) = self.usable_snapshot(archived)? else { return Ok(None) };
        let catalog = self.archive.catalog()?;
        let lineage = catalog.lineage(self.log.timeline)?;
        let pieces = catalog.pieces(&lineage);
        let last = Search::new(&self.archive, &pieces).split(|commit| commit.lsn <= archived)?.before;
        let (tx, time) = match last.filter(|last| last.lsn > parent.meta.consistent_at) {
            Some(last) => (last.tx, last.time),
            None => (parent.meta.tx, parent.meta.time),
        };
        let merged = Merged::new(&self.archive, &pieces, parent.meta.redo_from, archived)?;
        let meta = self.meta(archived, tx, time);
        let write = || -> Result<Manifest> {
            let parent = parent.as_parent(&store)?;
            let mut delta = LogDelta::new(merged, &parent)?;
            Ok(write_increment(&store, &parent, &mut delta, meta)?)
        };
        let written = match write() {
            Err(Error::Snapshot(error @ pitr_snapshot::Error::Parent { .. })) => {
                (self.events)(Event::ParentDamaged(error.to_string()));
                return Ok(None);
            }
            other => other?,
        };
        let manifest = written.publish(&store)?;
        self.writer.check()?;
        Ok(Some(manifest.snapshot))
    }

    /// The newest snapshot from which the archived log leads to `stop` without a gap.
    pub(super) fn usable_snapshot(&self, stop: Lsn) -> Result<Option<Snapshot>> {
        let catalog = self.archive.catalog()?;
        let lineage = catalog.lineage(self.log.timeline)?;
        let runs = runs(&catalog.pieces(&lineage));
        let (objects, source) = (&self.context.objects, &self.watched.source);
        let mut roots = list(objects, source)?;
        roots.retain(|root| lineage.holds(root.timeline, root.consistent_at));
        roots.sort_by_key(|root| root.consistent_at);
        let leads_on = |snapshot: &Snapshot| {
            let SnapshotMeta { timeline, redo_from, consistent_at, .. } = snapshot.meta;
            reaches(&Base { consistent_at, redo_from, timeline }, stop, &runs)
        };
        Ok(newest(objects, source, &roots, leads_on)?)
    }

    fn meta(&self, at: Lsn, tx: TxId, time: Timestamp) -> SnapshotMeta {
        SnapshotMeta {
            source: self.watched.source.clone(),
            engine: ENGINE.to_owned(),
            timeline: self.log.timeline,
            epoch: self.writer.epoch(),
            redo_from: at,
            consistent_at: at,
            time,
            tx,
            codec: self.options.codec,
            created: self.clock().now(),
            // A restored copy is readable by the users who may read the database. If the
            // permissions are unknown, only its owner may read it.
            attributes: self.context.env().fs.attributes(&self.watched.place.resolved).ok().flatten(),
        }
    }
}
