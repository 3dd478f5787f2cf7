//! Answer of `pitr watch`, printed when it ends.

use std::fmt::Write as _;

use serde::Serialize;

use crate::output::Document;

/// Summary of a watch.
#[derive(Debug, Serialize)]
pub(crate) struct Watch {
    /// Transactions captured.
    pub(crate) commits: u64,
    /// Pages in these commits.
    pub(crate) pages: u64,
    /// How long write locks were held, over all databases.
    pub(crate) w_lock: WriteLock,
    /// Duration of the watch, seconds.
    pub(crate) seconds: f64,
    /// The databases.
    pub(crate) sources: Vec<Watched>,
}

/// Summary of one database.
#[derive(Debug, Serialize)]
pub(crate) struct Watched {
    /// Name of the database's source.
    pub(crate) name: String,
    /// Transactions captured.
    pub(crate) commits: u64,
    /// Everything below this LSN is archived.
    pub(crate) archived_lsn: u64,
    /// The last archived transaction.
    pub(crate) last_tx: Option<u64>,
}

/// How long write locks were held.
#[derive(Debug, Serialize)]
pub(crate) struct WriteLock {
    /// Number of times.
    pub(crate) count: usize,
    /// 99th percentile, milliseconds.
    pub(crate) p99_ms: f64,
    /// Maximum, milliseconds.
    pub(crate) max_ms: f64,
}

impl Document for Watch {
    fn for_people(&self) -> String {
        let mut text = String::new();
        for source in &self.sources {
            let last = source.last_tx.map_or("none".into(), |tx| format!("transaction {tx}"));
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{}: {} commits captured, all archived; last: {last}",
                source.name, source.commits
            );
        }
        text
    }
}
