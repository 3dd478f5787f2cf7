//! Whether two SQLite files hold exactly the same content. The demo, the tests and the drills use
//! it as proof.
//!
//! *Exact* means: every row of every table, and of `sqlite_schema`, has the same digest;
//! `integrity_check` reports ok; page size, page count and file length are equal. Row counts alone
//! never prove it. Bytes that SQLite itself does not carry over into a copy (change counter,
//! version numbers, free space) are not compared.
//!
//! Files are opened as immutable: nothing is created beside them, and no lock is taken. So they
//! must be at rest. A file with a non-empty `-wal` or `-journal` beside it is refused, because that
//! content would not be read.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::source::with_suffix;

/// Digest of the content of a SQLite file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// `sqlite_schema` and every ordinary table, by name.
    pub tables: BTreeMap<String, TableDigest>,
    /// Size of a page, bytes.
    pub page_bytes: u64,
    /// Pages of the database.
    pub pages: u64,
    /// Length of the file, bytes.
    pub file_bytes: u64,
}

/// Digest of all rows of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableDigest {
    /// Number of rows.
    pub rows: u64,
    /// Sum of the rows' SHA-256 digests, in four wrapping lanes of 64 bits. A row's digest covers
    /// every column, and the rowid where there is one.
    pub sha256: [u8; 32],
}

/// Why a file has no fingerprint.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ExactError {
    /// SQLite cannot read the file.
    #[error("{}: {source}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// The error that SQLite reports.
        source: rusqlite::Error,
    },
    /// The file system denies access.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// The content of a file beside the database would not be read.
    #[error("{}: is not empty; its content is part of the database and would be left out", path.display())]
    NotAtRest {
        /// The `-wal` or `-journal` file.
        path: PathBuf,
    },
    /// SQLite finds the file damaged.
    #[error("{}: integrity_check reports: {says}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The first line of the report.
        says: String,
    },
}

/// How two files differ.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Difference {
    /// Page size, page count or file length: name, left, right.
    Size(&'static str, u64, u64),
    /// A table that only one of the databases has.
    Table(String),
    /// A table with different rows: name, rows left, rows right.
    Rows(String, u64, u64),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Difference::Size(what, left, right) => write!(f, "{what}: {left} and {right}"),
            Difference::Table(name) => write!(f, "table {name} is in only one of the files"),
            Difference::Rows(name, left, right) if left == right => {
                write!(f, "table {name}: {left} rows in both, but different ones")
            }
            Difference::Rows(name, left, right) => write!(f, "table {name}: {left} rows and {right} rows"),
        }
    }
}

impl Fingerprint {
    /// Reads the whole file.
    pub fn of(path: &Path) -> Result<Fingerprint, ExactError> {
        let io = |source| ExactError::Io { path: path.to_owned(), source };
        let file_bytes = std::fs::metadata(path).map_err(io)?.len();
        for suffix in ["-wal", "-journal"] {
            let beside = with_suffix(path, suffix);
            if std::fs::metadata(&beside).is_ok_and(|m| m.len() > 0) {
                return Err(ExactError::NotAtRest { path: beside });
            }
        }
        let sqlite = |source| ExactError::Sqlite { path: path.to_owned(), source };
        let conn = open_immutable(path).map_err(sqlite)?;
        let says: String =
            conn.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(sqlite)?;
        if says != "ok" {
            return Err(ExactError::Damaged { path: path.to_owned(), says });
        }
        let number =
            |pragma: &str| conn.query_row(pragma, [], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs);
        let page_bytes = number("PRAGMA page_size").map_err(sqlite)?;
        let pages = number("PRAGMA page_count").map_err(sqlite)?;
        let tables = tables(&conn).map_err(sqlite)?;
        Ok(Fingerprint { tables, page_bytes, pages, file_bytes })
    }

    /// The first difference, if there is one.
    #[must_use]
    pub fn difference(&self, other: &Fingerprint) -> Option<Difference> {
        for name in self.tables.keys().chain(other.tables.keys()) {
            match (self.tables.get(name), other.tables.get(name)) {
                (Some(a), Some(b)) if a == b => {}
                (Some(a), Some(b)) => return Some(Difference::Rows(name.clone(), a.rows, b.rows)),
                _ => return Some(Difference::Table(name.clone())),
            }
        }
        let sizes = [
            ("page size", self.page_bytes, other.page_bytes),
            ("page count", self.pages, other.pages),
            ("file length", self.file_bytes, other.file_bytes),
        ];
        let differs = sizes.into_iter().find(|(_, a, b)| a != b);
        differs.map(|(what, a, b)| Difference::Size(what, a, b))
    }

    /// Number of rows of all tables except `sqlite_schema`.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.tables.iter().filter(|(name, _)| *name != "sqlite_schema").map(|(_, table)| table.rows).sum()
    }
}

/// The first difference between two files; `None` if they are exactly equal.
pub fn compare(left: &Path, right: &Path) -> Result<Option<Difference>, ExactError> {
    Ok(Fingerprint::of(left)?.difference(&Fingerprint::of(right)?))
}

/// Opens a file at rest: nothing is created beside it, and no lock is taken.
pub(crate) fn open_immutable(path: &Path) -> rusqlite::Result<Connection> {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut uri = String::from("file://");
    for byte in std::os::unix::ffi::OsStrExt::as_bytes(absolute.as_os_str()) {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                uri.push(char::from(*byte))
            }
            other => uri.push_str(&format!("%{other:02X}")),
        }
    }
    uri.push_str("?immutable=1");
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(uri, flags)
}

fn tables(conn: &Connection) -> rusqlite::Result<BTreeMap<String, TableDigest>> {
    // Virtual tables keep their rows in ordinary tables, which are listed themselves.
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%'";
    let names: Vec<String> = conn.prepare(sql)?.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut digests = BTreeMap::new();
    for name in names.into_iter().chain(["sqlite_schema".to_owned()]) {
        digests.insert(name.clone(), digest(conn, &name)?);
    }
    Ok(digests)
}

fn digest(conn: &Connection, table: &str) -> rusqlite::Result<TableDigest> {
    let quoted = format!("\"{}\"", table.replace('"', "\"\""));
    let with_rowid = conn.prepare(&format!("SELECT rowid, * FROM {quoted}"));
    let mut statement = match with_rowid {
        Ok(statement) => statement,
        Err(_) => conn.prepare(&format!("SELECT * FROM {quoted}"))?, // WITHOUT ROWID
    };
    let columns = statement.column_count();
    let mut rows = statement.query([])?;
    // The sum of the rows' digests does not depend on the order of the rows, and needs no memory
    // for them.
    let mut sum = [0u64; 4];
    let mut count = 0;
    while let Some(row) = rows.next()? {
        let mut hash = Sha256::new();
        for column in 0..columns {
            hash_value(&mut hash, row.get_ref(column)?);
        }
        for (lane, bytes) in sum.iter_mut().zip(hash.finalize().chunks_exact(8)) {
            *lane = lane.wrapping_add(u64::from_le_bytes(bytes.try_into().unwrap_or_default()));
        }
        count += 1;
    }
    let mut sha256 = [0; 32];
    for (out, lane) in sha256.chunks_exact_mut(8).zip(sum) {
        out.copy_from_slice(&lane.to_le_bytes());
    }
    Ok(TableDigest { rows: count, sha256 })
}

fn hash_value(hash: &mut Sha256, value: ValueRef<'_>) {
    let (tag, bytes): (u8, &[u8]) = match &value {
        ValueRef::Null => (0, &[]),
        ValueRef::Integer(i) => (1, &i.to_le_bytes()),
        ValueRef::Real(r) => (2, &r.to_bits().to_le_bytes()),
        ValueRef::Text(t) => (3, t),
        ValueRef::Blob(b) => (4, b),
    };
    hash.update([tag]);
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "CREATE TABLE a(x); CREATE TABLE b(k PRIMARY KEY, v) WITHOUT ROWID;
        INSERT INTO a VALUES(1),('1'),(NULL),(1.0),(x'31'); INSERT INTO b VALUES(1,2)";

    fn made(dir: &Path, name: &str, more: &str) -> PathBuf {
        let path = dir.join(name);
        Connection::open(&path).unwrap().execute_batch(&format!("{BASE};{more}")).unwrap();
        path
    }

    #[test]
    fn equal_files_compare_equal_and_each_kind_of_difference_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let left = made(dir.path(), "left ?#%.db", "");
        assert_eq!(compare(&left, &made(dir.path(), "same", "")).unwrap(), None);
        let differences = [
            ("value", "UPDATE a SET x = 2 WHERE rowid = 1", Difference::Rows("a".into(), 5, 5)),
            ("type", "UPDATE a SET x = 1 WHERE rowid = 2", Difference::Rows("a".into(), 5, 5)),
            ("rowid", "UPDATE a SET rowid = 99 WHERE rowid = 1", Difference::Rows("a".into(), 5, 5)),
            ("row", "DELETE FROM b", Difference::Rows("b".into(), 1, 0)),
            ("table", "CREATE TABLE c(x)", Difference::Table("c".into())),
            ("pages", "CREATE TABLE c(x); DROP TABLE c", Difference::Size("page count", 3, 4)),
        ];
        for (name, sql, expected) in differences {
            let found = compare(&left, &made(dir.path(), name, sql)).unwrap();
            match (&expected, found) {
                (Difference::Table(_), Some(Difference::Rows(name, _, _))) => {
                    assert_eq!(name, "sqlite_schema")
                }
                (_, found) => assert_eq!(found, Some(expected), "{name}"),
            }
        }
    }

    #[test]
    fn a_file_with_a_wal_beside_it_or_with_damage_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = made(dir.path(), "a", "");
        std::fs::write(dir.path().join("a-wal"), b"x").unwrap();
        assert!(matches!(Fingerprint::of(&path), Err(ExactError::NotAtRest { .. })));
        let path =
            made(dir.path(), "b", "CREATE TABLE c(x); INSERT INTO c SELECT randomblob(3000) FROM a, a");
        let mut bytes = std::fs::read(&path).unwrap();
        let len = bytes.len();
        bytes[len / 2..].fill(0xff);
        std::fs::write(&path, bytes).unwrap();
        assert!(Fingerprint::of(&path).is_err());
    }
}
