//! Connections to the watched database that never write.
//!
//! # Rules
//! - No connection checkpoints on its own: `wal_autocheckpoint` is off, and `NO_CKPT_ON_CLOSE` is
//!   set. With the latter, SQLite neither checkpoints nor deletes the `-wal` file when the last
//!   connection closes. (`sqlite3WalClose` does so only if it gets a buffer, and
//!   `sqlite3PagerClose` then passes none.) So `PERSIST_WAL` is not needed; a test checks this.
//! - `busy_timeout` is 0: retries of this engine never make an application wait in a queue.
//! - A statement that reads the schema is prepared once. The read transactions use `PRAGMA
//!   user_version`, which takes the read lock without parsing the schema.

use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::error::Result;
use crate::steps;

/// State of the `-wal` file according to the wal-index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// `mxFrame`: the number of the last committed frame.
    pub frames: u32,
    /// `nBackfill`: how many frames were copied into the database file.
    pub backfilled: u32,
}

/// Opens a connection that follows the rules above.
pub(crate) fn open(path: &Path) -> Result<Connection> {
    steps::reached();
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(std::time::Duration::ZERO)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    conn.pragma_update(None, "wal_autocheckpoint", 0)?;
    Ok(conn)
}

/// What the wal-index publishes now; `None` while another process rebuilds it.
/// `SQLITE_CHECKPOINT_NOOP` reads the wal-index header again and takes no lock.
pub(crate) fn published(conn: &Connection) -> Result<Option<Published>> {
    checkpoint(conn, "PRAGMA main.wal_checkpoint(NOOP)")
}

/// Backfills as much as readers allow, without waiting; `None` if another checkpoint runs.
pub(crate) fn checkpoint_passive(conn: &Connection) -> Result<Option<Published>> {
    checkpoint(conn, "PRAGMA main.wal_checkpoint(PASSIVE)")
}

fn checkpoint(conn: &Connection, sql: &str) -> Result<Option<Published>> {
    steps::reached();
    let mut statement = conn.prepare_cached(sql)?;
    let (frames, backfilled): (i64, i64) = statement.query_row([], |row| Ok((row.get(1)?, row.get(2)?)))?;
    // SQLite returns -1 if it could not read the wal-index.
    let both = u32::try_from(frames).ok().zip(u32::try_from(backfilled).ok());
    Ok(both.map(|(frames, backfilled)| Published { frames, backfilled }))
}

/// Begins a read transaction, which stays open until [`end`].
pub(crate) fn begin_read(conn: &Connection) -> Result<()> {
    steps::reached();
    conn.execute_batch("BEGIN")?;
    let taken = conn.prepare_cached("PRAGMA main.user_version").and_then(|mut s| s.query_row([], |_| Ok(())));
    if let Err(e) = taken {
        end(conn)?;
        return Err(e.into());
    }
    Ok(())
}

/// Takes the write lock, without writing anything, until [`end`].
pub(crate) fn begin_write(conn: &Connection) -> Result<()> {
    steps::reached();
    Ok(conn.execute_batch("BEGIN IMMEDIATE")?)
}

/// Ends a transaction of either kind, unless an error has already ended it.
pub(crate) fn end(conn: &Connection) -> Result<()> {
    steps::reached();
    if conn.is_autocommit() { Ok(()) } else { Ok(conn.execute_batch("ROLLBACK")?) }
}

/// Pages of the database in the transaction that is open on `conn`.
pub(crate) fn page_count(conn: &Connection) -> Result<u32> {
    steps::reached();
    Ok(conn.query_row("PRAGMA main.page_count", [], |row| row.get(0))?)
}
