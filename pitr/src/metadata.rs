//! What there is to know of a backup without reading its data.

use crate::Error;
use pitr_codec::Codec;
use pitr_format::{Lsn, SourceName, TimelineId, Timestamp, TxId};
use pitr_objects::Objects;
use pitr_snapshot::{Snapshot, SnapshotId, SnapshotKind};

/// A snapshot, as its root tells.
///
/// There is no differential kind: an increment stands by itself, without a chain to the snapshot that it was compared with,
/// so that a differential backup would be the same thing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupMetadata {
    /// Its identity.
    pub id: SnapshotId,
    /// What it is a snapshot of.
    pub source: SourceName,
    /// What took it: `sqlite`, `directory`.
    pub engine: String,
    /// Full or incremental.
    pub kind: SnapshotKind,
    /// The snapshot that it was compared with; it is not needed for a restore, and may be gone.
    pub parent: Option<SnapshotId>,
    /// The timeline that it lies on.
    pub timeline: TimelineId,
    /// A restore of it reads the log from here.
    pub redo_from: Lsn,
    /// It holds every commit up to here; what comes later is restored from it and the log behind.
    pub consistent_at: Lsn,
    /// Its last transaction.
    pub tx: TxId,
    /// When that was committed.
    pub time: Timestamp,
    /// When it was taken.
    pub created: Timestamp,
    /// Lengths of its files together, bytes.
    pub logical_bytes: u64,
    /// Bytes that differ from the parent; all of them without one.
    pub changed_bytes: u64,
    /// Bytes that it added to the repository, compressed and, if it is, encrypted.
    pub stored_bytes: u64,
    /// How its data are compressed.
    pub codec: Codec,
    /// Whether they are encrypted.
    pub encrypted: bool,
    /// Path of its root in the repository; whether all that the root needs is there `verify` tells.
    pub root: String,
}

/// The snapshots of a source.
#[derive(Debug)]
pub struct Backups {
    /// Those whose roots can be read, by timeline and position.
    pub backups: Vec<BackupMetadata>,
    /// What is wrong with the roots of others.
    pub damaged: Vec<Error>,
}

impl BackupMetadata {
    /// What the root of a snapshot in this repository tells.
    #[must_use]
    pub fn of(snapshot: &Snapshot, objects: &Objects) -> Self {
        let meta = &snapshot.meta;
        BackupMetadata {
            id: snapshot.id,
            source: meta.source.clone(),
            engine: meta.engine.clone(),
            kind: snapshot.kind,
            parent: snapshot.parent,
            timeline: meta.timeline,
            redo_from: meta.redo_from,
            consistent_at: meta.consistent_at,
            tx: meta.tx,
            time: meta.time,
            created: meta.created,
            logical_bytes: snapshot.sizes.logical,
            changed_bytes: snapshot.sizes.changed,
            stored_bytes: snapshot.sizes.stored,
            codec: meta.codec,
            encrypted: objects.is_encrypted(),
            root: snapshot.path(objects),
        }
    }
}
