//! What can go wrong in an archive, and where.

use pitr_codec::CodecError;
use pitr_format::{DecodeError, Epoch, FileId, Lsn, PartitionId, Severity, SourceName, TimelineId, TxId};
use pitr_objects::ErrorKind;
use pitr_objects::layout::LogName;
use thiserror::Error;

/// What this crate's calls return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an archive could not be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The repository.
    #[error(transparent)]
    Objects(#[from] pitr_objects::Error),
    /// The local log.
    #[error(transparent)]
    Wal(#[from] pitr_wal::Error),
    /// An object could not be made.
    #[error("{object}: {source}")]
    Build {
        /// The object.
        object: String,
        /// What is wrong.
        source: CodecError,
    },
    /// An object that is whole says what makes no sense: its writer was faulty.
    #[error("{object}: {source}")]
    Malformed {
        /// The object.
        object: LogName,
        /// What is wrong.
        source: DecodeError,
    },
    /// A claim, fence or timeline object that is whole says what makes no sense, or is of a later version.
    #[error("{path}: {source}")]
    Payload {
        /// The object's path.
        path: String,
        /// What is wrong.
        source: DecodeError,
    },
    /// A batch of the local log can't be read.
    #[error("the batch at LSN {lsn}: {source}")]
    Batch {
        /// The batch.
        lsn: Lsn,
        /// What is wrong.
        source: DecodeError,
    },
    /// The object at this name says that it is another one.
    #[error("{object}: the object at this name holds {from} to {to} of another log or writer")]
    Swapped {
        /// The name.
        object: LogName,
        /// Where its range begins by its footer.
        from: Lsn,
        /// Where it ends by its footer.
        to: Lsn,
    },
    /// An object's records are not those that its footer indexes.
    #[error("{object}: the record at LSN {lsn} is not what the index says")]
    Index {
        /// The object.
        object: LogName,
        /// The record.
        lsn: Lsn,
    },
    /// What was built does not decode into the log that it was made from.
    #[error(
        "{object}: what was built does not decode into the log it was made from; this machine is not to be trusted"
    )]
    NotWhatWasRead {
        /// The object, which was not stored.
        object: LogName,
    },
    /// Two objects state the same positions of one timeline.
    #[error("{a} and {b} both claim to be the log of LSN {}: two writers used one timeline", b.from)]
    Overlap {
        /// The one.
        a: LogName,
        /// The other.
        b: LogName,
    },
    /// Two objects state the same range with other content.
    #[error("{a} and {b} are the same range with different content: two writers used one timeline")]
    Conflict {
        /// The one.
        a: LogName,
        /// The other.
        b: LogName,
    },
    /// Another writer claimed a later epoch. What this one archives from here on counts for nothing.
    #[error("another writer took over source {source_name} with epoch {by}; epoch {epoch} must stop")]
    Fenced {
        /// The source.
        source_name: SourceName,
        /// Our epoch.
        epoch: Epoch,
        /// The highest one claimed.
        by: Epoch,
    },
    /// Other writers were always faster.
    #[error("{path}: other writers keep claiming; {attempts} attempts")]
    Contended {
        /// What was to be claimed last.
        path: String,
        /// Attempts made.
        attempts: u32,
    },
    /// The local log ends before its archive does.
    #[error(
        "the local log ends at LSN {local}, its archive at {archived}: fetch the missing part or fork a timeline"
    )]
    LocalBehind {
        /// End of the local log.
        local: Lsn,
        /// End of the archive.
        archived: Lsn,
    },
    /// The local log is not the one that was archived.
    #[error("the local log and its archive differ at LSN {lsn}: fork a timeline")]
    Diverged {
        /// Where.
        lsn: Lsn,
    },
    /// The log has not been synced so far.
    #[error("the log is durable to LSN {durable}; the batch that ends at {end} must not be archived")]
    NotDurable {
        /// End of the batch.
        end: Lsn,
        /// The durable LSN.
        durable: Lsn,
    },
    /// A timeline without a history object.
    #[error("timeline {timeline} is not known")]
    UnknownTimeline {
        /// The timeline.
        timeline: TimelineId,
    },
    /// The history object of a timeline is gone although others prove that it existed.
    #[error(
        "timelines/{:08x} is missing from the repository: snapshots, log or later timelines show that timeline {timeline} existed",
        timeline.get()
    )]
    TimelineLost {
        /// The timeline.
        timeline: TimelineId,
    },
    /// Log is missing that is needed.
    #[error("the archive has no log from LSN {from} to {to}")]
    Hole {
        /// Where it begins.
        from: Lsn,
        /// Where it ends.
        to: Lsn,
    },
    /// The range holds committed logical records, which block images can't stand for. What is made from its images alone
    /// would lack them.
    #[error(
        "transaction {tx} logged records of partition {partition} that only the engine can apply (one is at LSN {lsn}): this state can't be built from block images alone"
    )]
    Logical {
        /// The partition.
        partition: PartitionId,
        /// The transaction.
        tx: TxId,
        /// Position of one of its logical records.
        lsn: Lsn,
    },
    /// The images of one file change their size within the range.
    #[error("{object}: images of file {file} have another block size than later ones")]
    BlockSize {
        /// The object with the older images.
        object: LogName,
        /// The file.
        file: FileId,
    },
}

impl Error {
    /// What a caller can do about it.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self {
            // A missing object may be pruned, or be missing on purpose: the variants below say when it is a loss.
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
}
