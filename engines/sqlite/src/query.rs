//! Queries on a restored database, with a time limit.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use pitr_recovery::BoxError;
use pitr_verify::{Answer, Queries, RestoredCopy};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, InterruptHandle};

use crate::engine::Sqlite;
use crate::exact::open_immutable;

/// Pause between two interruptions of a query.
const AGAIN: Duration = Duration::from_millis(10);

impl Queries for Sqlite {
    fn first_value(&self, copy: &RestoredCopy<'_>, query: &str) -> Result<Answer, BoxError> {
        let conn = open_immutable(copy.path)?;
        match within(&conn.get_interrupt_handle(), copy.limit, || first_value(&conn, query)) {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
                Err(format!("no answer within {} s", copy.limit.as_secs_f64()).into())
            }
            other => Ok(other?),
        }
    }
}

/// Runs `work`, and interrupts its queries after `limit`.
fn within<T>(handle: &InterruptHandle, limit: Duration, work: impl FnOnce() -> T) -> T {
    let (done, ended) = channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut pause = limit;
            // More than once: an interruption before the query begins has no effect.
            while ended.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                handle.interrupt();
                pause = AGAIN;
            }
        });
        let answer = work();
        drop(done);
        answer
    })
}

fn first_value(conn: &Connection, query: &str) -> rusqlite::Result<Answer> {
    let mut statement = conn.prepare(query)?;
    let mut rows = statement.query([])?;
    let Some(row) = rows.next()? else { return Ok(Answer::NoRow) };
    Ok(match row.get_ref(0)? {
        ValueRef::Null => Answer::Null,
        ValueRef::Integer(value) => Answer::Integer(value),
        ValueRef::Real(value) => Answer::Real(value),
        ValueRef::Text(text) => Answer::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Answer::Bytes(bytes.len() as u64),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitr_format::{Lsn, SourceName, TimelineId, Timestamp, TxId};
    use pitr_recovery::Point;
    use std::path::Path;
    use std::time::Instant;

    fn ask(path: &Path, limit: Duration, query: &str) -> Result<Answer, String> {
        let source = SourceName::new("app").unwrap();
        let (timeline, lsn, tx) = (TimelineId::FIRST, Lsn::ORIGIN, TxId::NONE);
        let state = Point { timeline, lsn, tx, time: Timestamp::MIN, named: true };
        let copy = RestoredCopy { path, source: &source, state, limit };
        Sqlite.first_value(&copy, query).map_err(|error| error.to_string())
    }

    #[test]
    fn a_query_gives_its_first_value_and_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.db");
        let sql = "PRAGMA journal_mode=WAL; CREATE TABLE t(a, b); INSERT INTO t VALUES(7, 'x'), (8, NULL);";
        Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        let ask = |query: &str| ask(&path, Duration::from_secs(60), query);
        assert_eq!(ask("SELECT a, b FROM t ORDER BY a"), Ok(Answer::Integer(7)));
        assert_eq!(ask("SELECT b FROM t ORDER BY a DESC"), Ok(Answer::Null));
        assert_eq!(ask("SELECT b || 1.5 FROM t"), Ok(Answer::Text("x1.5".into())));
        assert_eq!(ask("SELECT avg(a) FROM t"), Ok(Answer::Real(7.5)));
        assert_eq!(ask("SELECT x'0102'"), Ok(Answer::Bytes(2)));
        assert_eq!(ask("SELECT a FROM t WHERE a > 8"), Ok(Answer::NoRow));
        assert!(ask("SELECT a FROM missing").unwrap_err().contains("missing"));
        assert!(ask("DELETE FROM t").unwrap_err().contains("readonly"));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "a file beside the copy");
    }

    #[test]
    fn a_query_that_does_not_end_is_stopped_at_its_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.db");
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE t(a);").unwrap();
        let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n";
        let begun = Instant::now();
        let answer = ask(&path, Duration::from_millis(50), endless);
        assert_eq!(answer, Err("no answer within 0.05 s".to_owned()));
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
}
