//! Metadata of backups, without their data.

use crate::Error;
use pitr_codec::Codec;
use pitr_format::{Lsn, SourceName, TimelineId, Timestamp, TxId};
use pitr_objects::Objects;
use pitr_snapshot::{Snapshot, SnapshotId, SnapshotKind};

/// Metadata of a snapshot, from its root.
///
/// There is no differential kind: an incremental snapshot does not depend on the snapshot that it
/// was compared with, so a differential one would be the same.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupMetadata {
    /// Identity of the snapshot.
    pub id: SnapshotId,
    /// The source of the snapshot.
    pub source: SourceName,
    /// The engine that took the snapshot: `sqlite`, `directory`.
    pub engine: String,
    /// Full or incremental.
    pub kind: SnapshotKind,
    /// The snapshot that the source was compared with. A restore does not need it, and it may have
    /// been pruned.
    pub parent: Option<SnapshotId>,
    /// Timeline of the snapshot.
    pub timeline: TimelineId,
    /// A restore reads the log from this LSN on.
    pub redo_from: Lsn,
    /// The snapshot contains every commit up to this LSN. Later states are restored from the
    /// snapshot and the log after it.
    pub consistent_at: Lsn,
    /// Last transaction in the snapshot.
    pub tx: TxId,
    /// Commit time of the last transaction.
    pub time: Timestamp,
    /// When the snapshot was taken.
    pub created: Timestamp,
    /// Total length of the snapshot's files, bytes.
    pub logical_bytes: u64,
    /// Bytes that differ from the parent; all bytes if there is no parent.
    pub changed_bytes: u64,
    /// Bytes that the snapshot added to the repository, after compression and encryption.
    pub stored_bytes: u64,
    /// Compression of the snapshot's data.
    pub codec: Codec,
    /// True if the snapshot's data is encrypted.
    pub encrypted: bool,
    /// Path of the snapshot's root in the repository. [`Pitr::verify`](crate::Pitr::verify) checks
    /// the objects that the root needs.
    pub root: String,
}

/// The snapshots of a source.
#[derive(Debug)]
pub struct Backups {
    /// Snapshots with readable roots, ordered by timeline and LSN.
    pub backups: Vec<BackupMetadata>,
    /// Errors of unreadable roots.
    pub damaged: Vec<Error>,
}

impl BackupMetadata {
    /// Metadata of a snapshot in this repository.
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
