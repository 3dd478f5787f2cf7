//! What can go wrong with a log, and where.

use pitr_format::record::RecordKind;
use pitr_format::slots::{SLOT_NAME_BYTES_MAX, SLOTS_MAX};
use pitr_format::{DecodeError, FileId, Lsn, SegmentNo, Severity, TxId};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// What this crate's calls return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a log could not be written, opened or read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system refused.
    #[error("{op} {}: {source}", path.display())]
    Io {
        /// What was tried.
        op: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The file system's answer.
        source: io::Error,
    },
    /// Settings that can't be had together.
    #[error("log settings: {what}")]
    Options {
        /// What is wrong and what to set instead.
        what: &'static str,
    },
    /// Another writer has the log open.
    #[error("{}: the log is open in another writer", dir.display())]
    Locked {
        /// The log's folder.
        dir: PathBuf,
    },
    /// The folder holds no log.
    #[error("{}: there is no log here", dir.display())]
    NoLog {
        /// The folder.
        dir: PathBuf,
    },
    /// The folder holds a log already.
    #[error("{}: there is a log here already", dir.display())]
    Exists {
        /// The folder.
        dir: PathBuf,
    },
    /// A segment's header can't be read. It was synced before the file got its name, so this is damage, or a
    /// file of another kind.
    #[error("segment {segment}, {}: {source}", path.display())]
    Header {
        /// The segment file.
        path: PathBuf,
        /// Number of the segment by the file's name.
        segment: SegmentNo,
        /// What is wrong with the header.
        source: DecodeError,
    },
    /// A segment file that doesn't belong to the log that it lies in.
    #[error("segment {segment}, {}: its {what} is not that of this log", path.display())]
    Foreign {
        /// The segment file.
        path: PathBuf,
        /// Number of the segment by the file's name.
        segment: SegmentNo,
        /// Which field of its header differs.
        what: &'static str,
    },
    /// Bytes below a durable point are missing or damaged. Nothing is cut and nothing is skipped.
    #[error(
        "hole in the log at LSN {lsn} (segment {segment}, offset {offset}): {damage}, but {witness} states that the log is durable to LSN {durable}"
    )]
    Hole {
        /// Where the log can't be read on.
        lsn: Lsn,
        /// Segment that should hold it.
        segment: SegmentNo,
        /// Offset in that segment, bytes.
        offset: u32,
        /// What was found there.
        damage: Damage,
        /// Everything below was durable.
        durable: Lsn,
        /// Who says so.
        witness: Witness,
    },
    /// The position was removed from the local log; the archive may have it.
    #[error("LSN {lsn} is no longer in the local log, which begins at {first}")]
    Removed {
        /// Position asked for.
        lsn: Lsn,
        /// Oldest position that the local log holds.
        first: Lsn,
    },
    /// The position is behind the end of the log.
    #[error("LSN {lsn} is behind the end of the log, {end}")]
    Beyond {
        /// Position asked for.
        lsn: Lsn,
        /// End of the log.
        end: Lsn,
    },
    /// A batch checks out, but its records make no sense: its writer was faulty.
    #[error("batch at LSN {lsn} (segment {segment}) checks out but can't be read: {source}")]
    Frames {
        /// The batch.
        lsn: Lsn,
        /// Segment that holds it.
        segment: SegmentNo,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// A record is whole, but its payload makes no sense: its writer was faulty.
    #[error("record at LSN {lsn} can't be read: {source}")]
    Payload {
        /// The record.
        lsn: Lsn,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// The images of a file have more than one size, so that they overlap in no defined way.
    #[error("file {file} has block images of more than one size")]
    BlockSize {
        /// The file.
        file: FileId,
    },
    /// The records handed out end in the middle of one.
    #[error("the record at LSN {lsn} is incomplete at the end of the log")]
    Unfinished {
        /// Begin of the record.
        lsn: Lsn,
    },
    /// A slot of this name is in use in this process.
    #[error("slot {name} is in use: release it first, or choose another name")]
    SlotTaken {
        /// The name.
        name: String,
    },
    /// The log no longer keeps what the slot's holder needs.
    #[error(
        "slot {name} was dropped, because the log reached its cap or segment files were deleted; the log begins at LSN {first}. Give the slot up with `drop_slot`, then claim it again and begin anew from a base"
    )]
    SlotDropped {
        /// The slot's name.
        name: String,
        /// Where the oldest batch of the log stands now.
        first: Lsn,
    },
    /// A new slot can't be had.
    #[error(
        "slot {name:?} refused: a name has 1 to {SLOT_NAME_BYTES_MAX} bytes, a log at most {SLOTS_MAX} slots; see `slots` for those that it has"
    )]
    SlotRefused {
        /// The name.
        name: String,
    },
    /// The file of the log's slots is damaged or another log's, so that nobody knows what must be kept.
    #[error(
        "{}: the log's slots can't be read: {source}. If no archiver or replica needs this log, or all of them can begin anew from a base, delete this file and open the log again",
        path.display()
    )]
    SlotFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// A record that the format doesn't allow was pushed.
    #[error("{kind:?} record refused: {source}")]
    Record {
        /// Its kind.
        kind: RecordKind,
        /// Which rule it breaks.
        source: DecodeError,
    },
    /// A commit or an abort names a first record past the end of the log, so its transaction's records would not count.
    #[error(
        "transaction {tx}: its first record cannot be at LSN {first}, the log ends at {end}; pass the position that appending that record returned, or none"
    )]
    FirstAhead {
        /// The transaction.
        tx: TxId,
        /// The position given for its first record.
        first: Lsn,
        /// Where the log ends.
        end: Lsn,
    },
    /// The range of positions is used up.
    #[error("the log is at LSN {end} and has no room for {bytes} bytes before the end of the range")]
    Exhausted {
        /// End of the log.
        end: Lsn,
        /// What was to be appended, bytes.
        bytes: u64,
    },
    /// A write or sync failed earlier; what the disk holds is not known, so nothing is acknowledged any more.
    /// Drop the log and open it again.
    #[error("the log is closed by an earlier failure: {cause}")]
    Poisoned {
        /// That failure.
        cause: Arc<Error>,
    },
    /// The thread that wrote for everyone panicked.
    #[error("the writing thread panicked")]
    Panicked,
}

impl Error {
    /// What a caller can do about it.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self {
            Error::Locked { .. } => Severity::Retry,
            Error::Header { .. }
            | Error::Foreign { .. }
            | Error::SlotFile { .. }
            | Error::Hole { .. }
            | Error::Frames { .. }
            | Error::Payload { .. }
            | Error::BlockSize { .. } => Severity::Fatal,
            _ => Severity::Fix,
        }
    }

    /// True if the disk, or the user's share of it, is full.
    pub(crate) fn is_out_of_space(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, Error::Io { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded))
    }

    pub(crate) fn io(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Io { op, path: path.to_owned(), source }
    }
}

/// What stands where the log should go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Damage {
    /// No segment file.
    FileMissing,
    /// Nothing but zeros.
    Zeros,
    /// Bytes that are not a batch of this life of the segment.
    Bytes,
    /// A batch that checks out but names another position or predecessor.
    Misplaced,
    /// The log ends where a record is only half written.
    Unfinished,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Damage::FileMissing => "the segment file is missing",
            Damage::Zeros => "there are only zeros",
            Damage::Bytes => "the bytes are damaged",
            Damage::Misplaced => "a batch stands there that belongs elsewhere",
            Damage::Unfinished => "a record is cut off",
        })
    }
}

/// Who states that the log was durable above a damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Witness {
    /// The header of a later batch.
    Batch(Lsn),
    /// The header of a later segment.
    Segment(SegmentNo),
    /// The archive, which holds it.
    Archive,
    /// The caller of a reader, or the open log that it reads.
    Caller,
}

impl fmt::Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Witness::Batch(lsn) => write!(f, "the batch at LSN {lsn}"),
            Witness::Segment(no) => write!(f, "the header of segment {no}"),
            Witness::Archive => f.write_str("the archive"),
            Witness::Caller => f.write_str("the caller"),
        }
    }
}
