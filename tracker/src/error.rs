//! What can go wrong with tracking, and where.

use crate::LsnRange;
use pitr_format::{DecodeError, Lsn, Severity};
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// What this crate's calls return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why changes could not be frozen, kept, read or extracted. Whoever can't solve it may always take everything
/// as changed.
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
    /// Another process or another part of this one keeps changes in the folder.
    #[error("{}: another tracker has the folder open", dir.display())]
    Locked {
        /// The folder.
        dir: PathBuf,
    },
    /// The file was kept for another log: its positions mean something else.
    #[error("{}: its {what} is not that of this log", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What differs.
        what: &'static str,
    },
    /// The file was written by a later version of this program.
    #[error("{}: {source}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Which version it is.
        source: DecodeError,
    },
    /// The file speaks for positions that the log doesn't have: the log lost some, or is another one.
    #[error("{}: speaks for the log up to LSN {to}, but that is durable only to {durable}", path.display())]
    Ahead {
        /// The file.
        path: PathBuf,
        /// End of what it speaks for.
        to: Lsn,
        /// Where the log ends.
        durable: Lsn,
    },
    /// The file can't be read. Its range counts as not tracked.
    #[error("{}: {source}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// The file was there and is gone. Its range counts as not tracked.
    #[error("{}: the file is gone", path.display())]
    Gone {
        /// The file.
        path: PathBuf,
    },
    /// The LSN given to a freeze is below what was tracked already: it was read too early, or from another
    /// log.
    #[error("the log is said to be durable to LSN {to}, but changes were tracked up to {tracked}")]
    Behind {
        /// The LSN given.
        to: Lsn,
        /// Highest LSN of a pass that ended, or of a freeze.
        tracked: Lsn,
    },
    /// A range that ends before it begins.
    #[error("a range of the log from LSN {from} to {to}")]
    Range {
        /// Its begin.
        from: Lsn,
        /// Its end.
        to: Lsn,
    },
    /// A block size that is not possible.
    #[error("blocks of {bytes} bytes, possible are 1 to {most}", most = pitr_format::record::BLOCK_BYTES_MAX)]
    BlockSize {
        /// The size.
        bytes: u32,
    },
    /// A record was given to an extractor behind a later one.
    #[error("the record at LSN {lsn} came behind LSN {after}")]
    OutOfOrder {
        /// The record.
        lsn: Lsn,
        /// End of the record given before it.
        after: Lsn,
    },
    /// A record can't be read; what it changed is not known.
    #[error("record at LSN {lsn}: {source}")]
    Record {
        /// The record.
        lsn: Lsn,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// The log was not read over the whole range that an extractor is for.
    #[error("changes of {range} were asked for, but the log was read only over {read}")]
    Incomplete {
        /// What the extractor is for.
        range: LsnRange,
        /// What was read.
        read: LsnRange,
    },
}

impl Error {
    /// What a caller can do about it.
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
