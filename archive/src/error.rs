//! What can go wrong in an archive, and where.

use pitr_codec::CodecError;
use pitr_format::{DecodeError, Epoch, FileId, Lsn, PartitionId, Severity, SourceName, TimelineId, TxId};
use pitr_objects::ErrorKind;
use pitr_objects::layout::{LogName, SourceFolder, SourceObject};
use thiserror::Error;

/// The result of this crate's calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an archive could not be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// An error of the repository.
    #[error(transparent)]
    Objects(#[from] pitr_objects::Error),
    /// An error of the local log.
    #[error(transparent)]
    Wal(#[from] pitr_wal::Error),
    /// An object could not be encoded.
    #[error("{object}: {source}")]
    Build {
        /// The object.
        object: String,
        /// The fault.
        source: CodecError,
    },
    /// An object passes its checksums, but its contents are invalid: its writer was faulty.
    #[error("{object}: {source}")]
    Malformed {
        /// The object.
        object: LogName,
        /// The fault.
        source: DecodeError,
    },
    /// A claim, fence or timeline object passes its checksums, but its payload is invalid or of a
    /// later version.
    #[error("{path}: {source}")]
    Payload {
        /// The object's path.
        path: String,
        /// The fault.
        source: DecodeError,
    },
    /// A batch of the local log can't be decoded.
    #[error("the batch at LSN {lsn}: {source}")]
    Batch {
        /// The batch.
        lsn: Lsn,
        /// The fault.
        source: DecodeError,
    },
    /// The footer of an object contradicts its name.
    #[error("{object}: by its footer this object is LSN {from} to {to} of another log or writer")]
    Swapped {
        /// The name.
        object: LogName,
        /// Start of the range in the object's footer.
        from: Lsn,
        /// End of the range in the object's footer.
        to: Lsn,
    },
    /// A record differs from the footer's index.
    #[error("{object}: the record at LSN {lsn} differs from the index")]
    Index {
        /// The object.
        object: LogName,
        /// The record.
        lsn: Lsn,
    },
    /// The archive does not hold the log of a checkpoint.
    #[error("the archived log holds no checkpoint at LSN {lsn}")]
    NoCheckpoint {
        /// The checkpoint's record.
        lsn: Lsn,
    },
    /// An encoded object does not decode into its source log.
    #[error(
        "{object}: possible hardware fault: the encoded object does not decode into the log it was made from"
    )]
    EncodingMismatch {
        /// The object, which was not stored.
        object: LogName,
    },
    /// Two objects contain the same positions of one timeline.
    #[error("{a} and {b} both contain the log at LSN {}: two writers used one timeline", b.from)]
    Overlap {
        /// The first object.
        a: LogName,
        /// The second object.
        b: LogName,
    },
    /// Two objects contain the same range with different content.
    #[error("{a} and {b} are the same range with different content: two writers used one timeline")]
    Conflict {
        /// The first object.
        a: LogName,
        /// The second object.
        b: LogName,
    },
    /// Another writer claimed a later epoch. Nothing that this writer archives from now on counts.
    #[error(
        "another writer took over source {source_name} with epoch {by}; the writer of epoch {epoch} must stop"
    )]
    Fenced {
        /// The source.
        source_name: SourceName,
        /// The writer's epoch.
        epoch: Epoch,
        /// The highest claimed epoch.
        by: Epoch,
    },
    /// Other writers were faster at every attempt.
    #[error("{path}: other writers were faster in all {attempts} attempts to claim")]
    Contended {
        /// Folder of the claims.
        path: String,
        /// Number of attempts.
        attempts: u32,
    },
    /// The local log ends before its archive does.
    #[error(
        "the local log ends at LSN {local}, but its archive at LSN {archived}: fetch the missing part or fork a timeline"
    )]
    LocalBehind {
        /// End of the local log.
        local: Lsn,
        /// End of the archive.
        archived: Lsn,
    },
    /// The local log differs from the archived one.
    #[error("the local log and its archive differ at LSN {lsn}: fork a timeline")]
    Diverged {
        /// The first position at which they differ.
        lsn: Lsn,
    },
    /// A batch lies above the durable LSN.
    #[error(
        "the log is durable up to LSN {durable}; the batch that ends at LSN {end} must not be archived yet"
    )]
    NotDurable {
        /// End of the batch.
        end: Lsn,
        /// The durable LSN.
        durable: Lsn,
    },
    /// Nothing proves that the timeline ever existed.
    #[error("timeline {timeline} does not exist")]
    UnknownTimeline {
        /// The timeline.
        timeline: TimelineId,
    },
    /// The history object of a timeline is missing, although other objects prove that the timeline
    /// existed.
    #[error(
        "timelines/{:08x} is missing from the repository: snapshots, log or later timelines show that timeline {timeline} existed",
        timeline.get()
    )]
    TimelineLost {
        /// The timeline.
        timeline: TimelineId,
    },
    /// A needed part of the log is missing.
    #[error("the archive has no log from LSN {from} to {to}")]
    WalGap {
        /// Start of the missing part.
        from: Lsn,
        /// End of the missing part.
        to: Lsn,
    },
    /// The range contains committed logical records. A state built from its block images alone
    /// would lack them.
    #[error(
        "transaction {tx} logged records of partition {partition} that only the engine can apply (one is at LSN {lsn}): this state can't be built from block images alone"
    )]
    Logical {
        /// The partition.
        partition: PartitionId,
        /// The transaction.
        tx: TxId,
        /// LSN of one of the transaction's logical records.
        lsn: Lsn,
    },
    /// The images of one file have more than one size within the range.
    #[error("{object}: images of file {file} have a different block size than later ones")]
    BlockSize {
        /// The object with the older images.
        object: LogName,
        /// The file.
        file: FileId,
    },
}

impl Error {
    /// What a caller can do about the error.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self {
            // A missing object may have been pruned on purpose: other variants report a loss.
            Error::Objects(e) if e.kind() == ErrorKind::Missing => Severity::Fix,
            Error::Objects(e) => e.kind().severity(),
            Error::Wal(e) => e.severity(),
            Error::Contended { .. } | Error::NotDurable { .. } => Severity::Retry,
            Error::Malformed { .. }
            | Error::Batch { .. }
            | Error::Swapped { .. }
            | Error::Index { .. }
            | Error::Overlap { .. }
            | Error::TimelineLost { .. }
            | Error::Conflict { .. } => Severity::Fatal,
            Error::Payload { source: DecodeError::Version { .. }, .. } => Severity::Fix,
            Error::Payload { .. } => Severity::Fatal,
            _ => Severity::Fix,
        }
    }

    /// The log object that the error is about, if it is about one in this folder.
    #[must_use]
    pub fn log_object(&self, folder: &SourceFolder) -> Option<LogName> {
        match self {
            Error::Objects(error) => match folder.object_at(error.object()?)? {
                SourceObject::Log(name) => Some(name),
                _ => None,
            },
            Error::Malformed { object, .. } | Error::Swapped { object, .. } | Error::Index { object, .. } => {
                Some(*object)
            }
            _ => None,
        }
    }

    /// True if one object is damaged or missing, and not the repository as a whole.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Error::Objects(error) => error.kind().is_of_one_object(),
            error => error.severity() == Severity::Fatal,
        }
    }
}
