//! Errors of the store.

use crate::TableId;
use pitr_format::{FileId, Lsn, Severity};
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The result type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What is wrong with a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PageFault {
    /// The file ends within the page.
    #[error("the file ends within the page")]
    Short,
    /// The checksum does not match.
    #[error("the checksum does not match")]
    Checksum,
    /// The page belongs to another place.
    #[error("the page belongs to another place")]
    Elsewhere,
    /// The first page is not the header of a table that this version knows.
    #[error("it is not the header of a table of version 1")]
    Header,
    /// A restore of the file was not completed.
    #[error("its restore was not completed")]
    Unfinished,
}

/// A call of the store failed.
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
    /// The log returned an error.
    #[error(transparent)]
    Log(#[from] pitr_wal::Error),
    /// The tracker returned an error.
    #[error(transparent)]
    Tracker(#[from] pitr_tracker::Error),
    /// A page is damaged. Restore the store.
    #[error("{}: page {page}: {fault}", path.display())]
    Damaged {
        /// The table's file.
        path: PathBuf,
        /// Number of the page.
        page: u64,
        /// The fault.
        fault: PageFault,
    },
    /// No slot of the file is valid. Restore the store.
    #[error("{}: no slot is valid", path.display())]
    Control {
        /// The file.
        path: PathBuf,
    },
    /// The folder has tables or log records, but not the file that says where the log begins.
    #[error("{}: has data but no file CONTROL: restore the store", dir.display())]
    NoControl {
        /// The folder of the store.
        dir: PathBuf,
    },
    /// The log of the store is missing, and the tables lack what it contained.
    #[error("{}: the log is missing: restore the store", dir.display())]
    NoLog {
        /// The folder of the store.
        dir: PathBuf,
    },
    /// The log contains a record that this engine does not write.
    #[error(
        "the record at LSN {lsn} is neither an image of a page nor a row: the log belongs to another engine"
    )]
    Foreign {
        /// Position of the record.
        lsn: Lsn,
    },
    /// A write or sync failed earlier, so it is unknown what is on disk. Open the store again.
    #[error("an earlier write or sync of the store failed: open it again")]
    Failed,
    /// There is no such table.
    #[error("there is no table {table}")]
    NoTable {
        /// The table.
        table: TableId,
    },
    /// A table has this name.
    #[error("a table `{name}` exists")]
    TableExists {
        /// The name.
        name: String,
    },
    /// The name is empty or too long, or the rows are empty or too large.
    #[error("table `{name}` with rows of {row_bytes} bytes: names have 1 to 64 bytes, rows 1 to {bytes_max}")]
    Shape {
        /// The name.
        name: String,
        /// Size of the rows, bytes.
        row_bytes: usize,
        /// The largest size of a row in a table of this kind, bytes.
        bytes_max: usize,
    },
    /// The row does not have the table's size.
    #[error("row {row} of table {table} has {found} bytes, not {expected}")]
    RowBytes {
        /// The table.
        table: TableId,
        /// Number of the row.
        row: u64,
        /// Size of the table's rows, bytes.
        expected: usize,
        /// Size of the given row, bytes.
        found: usize,
    },
    /// The row is longer than the rows of the table.
    #[error("row {row} of table {table} has {found} bytes, more than {bytes_max}")]
    RowTooLong {
        /// The table.
        table: TableId,
        /// Number of the row.
        row: u64,
        /// Size of the table's largest row, bytes.
        bytes_max: usize,
        /// Size of the given row, bytes.
        found: usize,
    },
    /// Another transaction has changed the row, and is neither committed nor aborted. Abort, and
    /// begin again.
    #[error("row {row} of table {table} was changed by a transaction that is still open")]
    RowLocked {
        /// The table.
        table: TableId,
        /// Number of the row.
        row: u64,
    },
    /// The number of the row is above the largest one of its table.
    #[error("table {table} cannot have a row {row}")]
    RowNumber {
        /// The table.
        table: TableId,
        /// Number of the row.
        row: u64,
    },
    /// All numbers of tables or transactions are used.
    #[error("all numbers of {what} are used")]
    Exhausted {
        /// Tables or transactions.
        what: &'static str,
    },
    /// A snapshot requested a file that the store does not have.
    #[error("the store has no file {file}")]
    NoFile {
        /// The file.
        file: FileId,
    },
}

impl Error {
    /// What a caller can do about the error.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self {
            Error::Log(error) => error.severity(),
            Error::Tracker(error) => error.severity(),
            Error::RowLocked { .. } => Severity::Retry,
            Error::Damaged { .. } | Error::Control { .. } | Error::NoControl { .. } | Error::NoLog { .. } => {
                Severity::Fatal
            }
            _ => Severity::Fix,
        }
    }

    pub(crate) fn io(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Io { op, path: path.to_owned(), source }
    }
}
