//! Errors of the tracker.

use crate::LsnRange;
use pitr_format::{DecodeError, Lsn, Severity};
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The result type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Changes could not be frozen, stored, read or extracted.
///
/// A caller that cannot resolve the error can always treat everything as changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system returned an error.
    #[error("{op} {}: {source}", path.display())]
    Io {
        /// The operation that failed.
        op: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The error of the file system.
        source: io::Error,
    },
    /// The folder is already in use, by another process or by another store of this process.
    #[error("{}: another tracker uses the folder", dir.display())]
    Locked {
        /// The folder.
        dir: PathBuf,
    },
    /// The file belongs to another log, in which positions have another meaning.
    #[error("{}: its {what} differs from that of this log", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The field that differs.
        what: &'static str,
    },
    /// A newer version of this program wrote the file.
    #[error("{}: {source}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version error.
        source: DecodeError,
    },
    /// The file claims positions that the log does not have: the log lost data, or is another log.
    #[error("{}: claims the log up to LSN {to}, but the log is durable only up to {durable}", path.display())]
    Ahead {
        /// The file.
        path: PathBuf,
        /// End of the claimed range.
        to: Lsn,
        /// Durable end of the log.
        durable: Lsn,
    },
    /// The file cannot be decoded. Its range counts as unknown.
    #[error("{}: {source}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The decoding error.
        source: DecodeError,
    },
    /// The file disappeared. Its range counts as unknown.
    #[error("{}: the file disappeared", path.display())]
    Gone {
        /// The file.
        path: PathBuf,
    },
    /// The LSN passed to a freeze is below an LSN that was already tracked. It was read too early,
    /// or from another log.
    #[error("the durable LSN {to} is below {tracked}, up to which changes were tracked")]
    Behind {
        /// The LSN passed to the freeze.
        to: Lsn,
        /// Highest LSN of an ended pass or a freeze.
        tracked: Lsn,
    },
    /// The range ends before it begins.
    #[error("the log range from LSN {from} to {to} ends before it begins")]
    Range {
        /// Start of the range.
        from: Lsn,
        /// End of the range.
        to: Lsn,
    },
    /// The block size is not allowed.
    #[error("the block size {bytes} is not between 1 and {most} bytes", most = pitr_format::record::BLOCK_BYTES_MAX)]
    BlockSize {
        /// The block size, bytes.
        bytes: u32,
    },
    /// An extractor received a record that precedes an earlier one.
    #[error("the record at LSN {lsn} came after LSN {after}")]
    OutOfOrder {
        /// Position of the record.
        lsn: Lsn,
        /// End of the previous record.
        after: Lsn,
    },
    /// A record cannot be decoded, so its changes are unknown.
    #[error("record at LSN {lsn}: {source}")]
    Record {
        /// Position of the record.
        lsn: Lsn,
        /// The decoding error.
        source: DecodeError,
    },
    /// The log was not read over the whole range of the extractor.
    #[error("changes of {range} were requested, but the log was read only over {read}")]
    Incomplete {
        /// Range of the extractor.
        range: LsnRange,
        /// Range that was read.
        read: LsnRange,
    },
}

impl Error {
    /// What a caller can do about the error.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self {
            Error::Locked { .. } => Severity::Retry,
            Error::Damaged { .. } | Error::Gone { .. } | Error::Record { .. } => Severity::Fatal,
            _ => Severity::Fix,
        }
    }

    pub(crate) fn io(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Io { op, path: path.to_owned(), source }
    }
}
