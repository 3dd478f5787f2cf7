//! SQLite's own checks of a restored database, before it is published.
//!
//! `integrity_check` reads every page, and compares each index with its table. `foreign_key_check`
//! finds rows without a parent. SQLite does not enforce foreign keys unless the application asks
//! for it, so a source may have such rows itself. The catalog is read, and a query of each ordinary
//! table is prepared.
//!
//! The file is opened as immutable: nothing is created beside it.

use std::path::Path;

use pitr_format::Severity;
use pitr_recovery::{ConsistencyCheck, Error as RecoveryError, Finding, Unfinished};
use rusqlite::{Connection, ErrorCode};

use crate::error::Error;
use crate::exact::open_immutable;
use crate::restore::DatabaseTarget;

/// Findings of each check, at most.
const FINDINGS_MAX: usize = 100;

impl ConsistencyCheck for DatabaseTarget {
    fn check(&self, result: &Unfinished<'_>) -> pitr_recovery::Result<Vec<Finding>> {
        findings(result.path).map_err(|error| RecoveryError::engine(Severity::Fix, Error::Sqlite(error)))
    }
}

fn findings(path: &Path) -> rusqlite::Result<Vec<Finding>> {
    let conn = open_immutable(path)?;
    let mut found = Vec::new();
    for check in [integrity, foreign_keys, catalog] {
        match check(&conn, &mut found) {
            Err(error) if is_damage(&error) => found.push(Finding::new(error.to_string())),
            other => other?,
        }
    }
    Ok(found)
}

/// True if SQLite reports that the file is damaged. Any other error, such as an unknown collation,
/// means that this program can't check the file.
fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

fn integrity(conn: &Connection, found: &mut Vec<Finding>) -> rusqlite::Result<()> {
    let mut check = conn.prepare(&format!("PRAGMA integrity_check({FINDINGS_MAX})"))?;
    for line in check.query_map([], |row| row.get::<_, String>(0))? {
        let line = line?;
        if line != "ok" {
            found.push(Finding::new(format!("integrity_check: {line}")));
        }
    }
    Ok(())
}

fn foreign_keys(conn: &Connection, found: &mut Vec<Finding>) -> rusqlite::Result<()> {
    let mut check = conn.prepare("PRAGMA foreign_key_check")?;
    let row = |row: &rusqlite::Row<'_>| {
        Ok((row.get::<_, String>(0)?, row.get::<_, Option<i64>>(1)?, row.get::<_, String>(2)?))
    };
    for violation in check.query_map([], row)?.take(FINDINGS_MAX) {
        let (table, rowid, parent) = violation?;
        let row = rowid.map_or_else(|| "a row".to_owned(), |rowid| format!("row {rowid}"));
        found.push(Finding::new(format!("foreign_key_check: {row} of {table} has no parent in {parent}")));
    }
    Ok(())
}

fn catalog(conn: &Connection, _: &mut Vec<Finding>) -> rusqlite::Result<()> {
    // The modules of virtual tables may be known to the application alone.
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%'";
    let mut tables = conn.prepare(sql)?;
    for name in tables.query_map([], |row| row.get::<_, String>(0))? {
        let quoted = format!("\"{}\"", name?.replace('"', "\"\""));
        conn.prepare(&format!("SELECT * FROM {quoted}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    fn database(dir: &Path, sql: &str) -> std::path::PathBuf {
        let path = dir.join("app.db");
        let conn = Connection::open(&path).unwrap();
        conn.execute_batch(&format!("PRAGMA page_size=4096; PRAGMA foreign_keys=OFF; {sql}")).unwrap();
        path
    }

    fn texts(path: &Path) -> Vec<String> {
        findings(path).unwrap().iter().map(Finding::to_string).collect()
    }

    #[test]
    fn a_sound_database_in_wal_mode_has_no_findings_and_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let sql = "PRAGMA journal_mode=WAL; CREATE TABLE t(a PRIMARY KEY, b) WITHOUT ROWID; \
                   CREATE INDEX i ON t(b); INSERT INTO t VALUES(1, 2);";
        let path = database(dir.path(), sql);
        assert_eq!(texts(&path), [""; 0]);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_index_that_differs_from_its_table_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let sql = "CREATE TABLE t(a); CREATE INDEX i ON t(a); INSERT INTO t VALUES('needle-1');";
        let path = database(dir.path(), sql);
        let bytes = std::fs::read(&path).unwrap();
        let at = bytes.windows(8).rposition(|window| window == b"needle-1").unwrap();
        std::fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .write_all_at(b"noodle-1", at as u64)
            .unwrap();
        let found = texts(&path);
        assert!(found.iter().any(|text| text.starts_with("integrity_check: ")), "{found:?}");
    }

    #[test]
    fn a_row_without_a_parent_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let sql = "CREATE TABLE p(id INTEGER PRIMARY KEY); CREATE TABLE c(p REFERENCES p); \
                   INSERT INTO c VALUES(7);";
        let found = texts(&database(dir.path(), sql));
        assert_eq!(found, ["foreign_key_check: row 1 of c has no parent in p"]);
    }

    #[test]
    fn a_file_that_is_no_database_and_a_broken_catalog_are_findings() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.db");
        std::fs::write(&path, [b'x'; 4096]).unwrap();
        assert!(!texts(&path).is_empty());
        std::fs::remove_file(&path).unwrap();
        let path = database(dir.path(), "CREATE TABLE t(a);");
        let bytes = std::fs::read(&path).unwrap();
        let at = bytes.windows(12).position(|window| window == b"CREATE TABLE").unwrap();
        std::fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .write_all_at(b"CREATE BABLE", at as u64)
            .unwrap();
        let found = texts(&path);
        assert!(found.iter().any(|text| text.contains("malformed")), "{found:?}");
    }
}
