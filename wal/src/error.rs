//! What can go wrong with a log, and where.

use pitr_format::record::RecordKind;
use pitr_format::slots::{SLOT_NAME_BYTES_MAX, SLOTS_MAX};
use pitr_format::{DecodeError, FileId, Lsn, SegmentNo, Severity, TxId};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{error, fmt, io};

/// The result of this crate's calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a log could not be written, opened or read.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The file system returned an error.
    Io {
        /// The operation.
        op: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The file system's error.
        source: io::Error,
    },
    /// Settings that exclude each other.
    Options {
        /// The conflict, and what to set instead.
        what: &'static str,
    },
    /// Another writer has the log open.
    Locked {
        /// The log's folder.
        dir: PathBuf,
    },
    /// The folder holds no log.
    NoLog {
        /// The folder.
        dir: PathBuf,
    },
    /// The folder already holds a log.
    Exists {
        /// The folder.
        dir: PathBuf,
    },
    /// A segment's header can't be read. A header is synced before its file gets its name, so the
    /// file is damaged, or is no segment.
    Header {
        /// The segment file.
        path: PathBuf,
        /// Number of the segment, from the file's name.
        segment: SegmentNo,
        /// The fault in the header.
        source: DecodeError,
    },
    /// A segment file belongs to another log.
    Foreign {
        /// The segment file.
        path: PathBuf,
        /// Number of the segment, from the file's name.
        segment: SegmentNo,
        /// The field of the header that differs.
        what: &'static str,
    },
    /// Bytes below a durable point are missing or damaged. Nothing is cut and nothing is skipped.
    Hole {
        /// Where reading stops.
        lsn: Lsn,
        /// Segment that should hold this LSN.
        segment: SegmentNo,
        /// Offset in that segment, bytes.
        offset: u32,
        /// The bytes that were found there.
        damage: Damage,
        /// Everything below this LSN was durable.
        durable: Lsn,
        /// The source of that statement.
        witness: Witness,
    },
    /// The position was removed from the local log; the archive may have it.
    Removed {
        /// The requested LSN.
        lsn: Lsn,
        /// Oldest LSN in the local log.
        first: Lsn,
    },
    /// The position lies after the end of the log.
    Beyond {
        /// The requested LSN.
        lsn: Lsn,
        /// End of the log.
        end: Lsn,
    },
    /// A batch passes its checksum, but its records can't be decoded: its writer was faulty.
    Frames {
        /// The batch.
        lsn: Lsn,
        /// Segment that holds the batch.
        segment: SegmentNo,
        /// The fault.
        source: DecodeError,
    },
    /// A record is complete, but its payload can't be decoded: its writer was faulty.
    Payload {
        /// The record.
        lsn: Lsn,
        /// The fault.
        source: DecodeError,
    },
    /// The images of a file have more than one size, so that they overlap in no defined way.
    BlockSize {
        /// The file.
        file: FileId,
    },
    /// The log ends in the middle of a record.
    Unfinished {
        /// Start of the record.
        lsn: Lsn,
    },
    /// This process holds the slot already.
    SlotTaken {
        /// The slot's name.
        name: String,
    },
    /// The log no longer keeps the positions that the slot's holder needs.
    SlotDropped {
        /// The slot's name.
        name: String,
        /// LSN of the oldest batch in the log.
        first: Lsn,
    },
    /// The log can't create a slot of this name.
    SlotRefused {
        /// The requested name.
        name: String,
    },
    /// The log's slot file is damaged or belongs to another log, so the positions that must be kept
    /// are unknown.
    SlotFile {
        /// The file.
        path: PathBuf,
        /// The fault.
        source: DecodeError,
    },
    /// The format does not allow a pushed record.
    Record {
        /// Kind of the record.
        kind: RecordKind,
        /// The rule that the name breaks.
        source: DecodeError,
    },
    /// A commit or an abort names a first record after the end of the log. It would not cover its
    /// transaction's records.
    FirstAhead {
        /// The transaction.
        tx: TxId,
        /// The given LSN of the first record.
        first: Lsn,
        /// End of the log.
        end: Lsn,
    },
    /// A checkpoint names a redo point after the end of the log: records of transactions that it
    /// does not hold would be lost.
    RedoAhead {
        /// The given redo point.
        redo_from: Lsn,
        /// End of the log.
        end: Lsn,
    },
    /// The range of positions is used up.
    Exhausted {
        /// End of the log.
        end: Lsn,
        /// Size of the rejected append, bytes.
        bytes: u64,
    },
    /// A write or sync failed earlier. The content of the disk is unknown, so nothing is
    /// acknowledged any more. Drop the log and open it again.
    Poisoned {
        /// The earlier failure.
        cause: Arc<Error>,
    },
    /// The thread that wrote for all waiting threads panicked.
    Panicked,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io { op, path, source } => write!(f, "{op} {}: {source}", path.display()),
            Error::Options { what } => write!(f, "log settings: {what}"),
            Error::Locked { dir } => write!(f, "{}: another writer has the log open", dir.display()),
            Error::NoLog { dir } => write!(f, "{}: the folder holds no log", dir.display()),
            Error::Exists { dir } => write!(f, "{}: the folder already holds a log", dir.display()),
            Error::Header { path, segment, source } => {
                write!(f, "segment {segment}, {}: {source}", path.display())
            }
            Error::Foreign { path, segment, what } => {
                write!(f, "segment {segment}, {}: its {what} does not match this log", path.display())
            }
            Error::Hole { lsn, segment, offset, damage, durable, witness } => write!(
                f,
                "hole in the log at LSN {lsn} (segment {segment}, offset {offset}): {damage}, but {witness} states that the log is durable up to LSN {durable}"
            ),
            Error::Removed { lsn, first } => {
                write!(f, "LSN {lsn} was removed from the local log, which begins at LSN {first}")
            }
            Error::Beyond { lsn, end } => write!(f, "LSN {lsn} lies after the end of the log, LSN {end}"),
            Error::Frames { lsn, segment, source } => write!(
                f,
                "batch at LSN {lsn} (segment {segment}) passes its checksum, but can't be decoded: {source}"
            ),
            Error::Payload { lsn, source } => write!(f, "record at LSN {lsn} can't be decoded: {source}"),
            Error::BlockSize { file } => write!(f, "file {file} has block images of more than one size"),
            Error::Unfinished { lsn } => write!(f, "the log ends in the middle of the record at LSN {lsn}"),
            Error::SlotTaken { name } => {
                write!(f, "slot {name} is in use: release it first, or choose another name")
            }
            Error::SlotDropped { name, first } => write!(
                f,
                "slot {name} was dropped, because the log reached its cap or segment files were deleted; the log begins at LSN {first}. Remove the slot with `drop_slot`, then claim it again and start from a new base"
            ),
            Error::SlotRefused { name } => write!(
                f,
                "slot {name:?} refused: a name has 1 to {SLOT_NAME_BYTES_MAX} bytes, a log at most {SLOTS_MAX} slots; `slots` lists them"
            ),
            Error::SlotFile { path, source } => write!(
                f,
                "{}: the log's slots can't be decoded: {source}. If no archiver or replica needs this log, or all of them can start from a new base, delete this file and open the log again",
                path.display()
            ),
            Error::Record { kind, source } => write!(f, "{kind:?} record refused: {source}"),
            Error::FirstAhead { tx, first, end } => write!(
                f,
                "transaction {tx}: its first record can't be at LSN {first}, the log ends at LSN {end}; pass the position that appending that record returned, or none"
            ),
            Error::RedoAhead { redo_from, end } => write!(
                f,
                "a checkpoint can't redo from LSN {redo_from}, the log ends at LSN {end}; pass a position that the log returned"
            ),
            Error::Exhausted { end, bytes } => write!(
                f,
                "the log is at LSN {end} and has no room for {bytes} bytes before the end of the LSN range"
            ),
            Error::Poisoned { cause } => write!(f, "an earlier failure closed the log: {cause}"),
            Error::Panicked => f.write_str("the writing thread panicked"),
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Error::Io { source, .. } => Some(source),
            Error::Header { source, .. }
            | Error::Frames { source, .. }
            | Error::Payload { source, .. }
            | Error::SlotFile { source, .. }
            | Error::Record { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl Error {
    /// What a caller can do about the error.
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

/// The bytes at the place where the log should continue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Damage {
    /// No segment file.
    FileMissing,
    /// Nothing but zeros.
    Zeros,
    /// Bytes that are no batch of the segment's present incarnation.
    Bytes,
    /// A batch that passes its checksum but names another position or predecessor.
    Misplaced,
    /// The log ends in the middle of a record.
    Unfinished,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Damage::FileMissing => "the segment file is missing",
            Damage::Zeros => "there are only zeros",
            Damage::Bytes => "the bytes are damaged",
            Damage::Misplaced => "a batch of another position is there",
            Damage::Unfinished => "a record is cut off",
        })
    }
}

/// The source of a statement that the log was durable above the damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Witness {
    /// The header of a later batch.
    Batch(Lsn),
    /// The header of a later segment.
    Segment(SegmentNo),
    /// The archive, which holds the log up to there.
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
