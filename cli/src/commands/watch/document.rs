//! Answer of `pitr watch`.

use std::fmt::Write as _;

use serde::Serialize;

use crate::output::Document;

/// What a watch did until it was ended.
#[derive(Debug, Serialize)]
pub(crate) struct Watch {
    /// Transactions captured.
    pub(crate) commits: u64,
    /// Pages in them.
    pub(crate) pages: u64,
    /// How long the write lock of a database was held, over all of them.
    pub(crate) w_lock: WriteLock,
    /// How long the watch lasted.
    pub(crate) seconds: f64,
    /// Each database.
    pub(crate) sources: Vec<Watched>,
}

/// What was done for one database.
#[derive(Debug, Serialize)]
pub(crate) struct Watched {
    /// Its source.
    pub(crate) name: String,
    /// Transactions captured.
    pub(crate) commits: u64,
    /// Everything below this position is archived.
    pub(crate) archived_lsn: u64,
    /// The last transaction archived.
    pub(crate) last_tx: Option<u64>,
}

/// How long a write lock was held.
#[derive(Debug, Serialize)]
pub(crate) struct WriteLock {
    /// How many times.
    pub(crate) count: usize,
    /// Milliseconds that 99 of 100 stayed below.
    pub(crate) p99_ms: f64,
    /// Milliseconds of the longest.
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
                "{}: {} commits captured, all archived; the last is {last}",
                source.name, source.commits
            );
        }
        text
    }
}
