//! A SQLite database as a restored file.

use pitr_recovery::{ConsistencyCheck, Layout, RestoreState, RestoreTarget, Result};

/// Suffixes that SQLite appends to a database's path to name the files that belong to it.
pub const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];
/// First bytes of an unfinished database: SQLite refuses to open a file that begins with them.
const MARK: &[u8] = b"pitr: an unfinished restore, not a database\n";

/// The database file.
///
/// A log or a journal beside it would be replayed into it by the next program that opens it
/// (FAILURES 43).
#[derive(Debug, Clone, Copy, Default)]
pub struct DatabaseTarget;

impl RestoreTarget for DatabaseTarget {
    fn lay_out(&self, state: &RestoreState<'_>) -> Result<Layout> {
        state.single_file()
    }

    fn companions(&self) -> &'static [&'static str] {
        &COMPANIONS
    }

    fn consistency(&self) -> Option<&dyn ConsistencyCheck> {
        Some(self)
    }

    fn mark(&self) -> Option<&'static [u8]> {
        Some(MARK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlite_opens_no_file_with_the_mark() {
        // FAILURES 32: a leftover of a killed restore is removed, whatever its length.
        let dir = tempfile::tempdir().unwrap();
        for len in [MARK.len(), 512, 4096, 100 * 4096] {
            let path = dir.path().join("app.db");
            let mut bytes = vec![0; len];
            bytes[..MARK.len()].copy_from_slice(MARK);
            std::fs::write(&path, bytes).unwrap();
            let db = rusqlite::Connection::open(&path).unwrap();
            let read = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0));
            let code = read.unwrap_err().sqlite_error_code();
            assert_eq!(code, Some(rusqlite::ErrorCode::NotADatabase), "{len} bytes");
        }
    }
}
