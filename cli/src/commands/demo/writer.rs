//! The demo's application: `pitr demo-writer DIR SEED`.
//!
//! An ordinary SQLite application in WAL mode. It creates its tables, prints that it is ready, and
//! starts when a line arrives on standard input. It prints one JSON line for each commit. Just
//! before the damage it copies the database with SQLite's backup API, so that the copy is
//! independent of pitr.

use super::shop::Shop;
use rusqlite::backup::Backup;
use rusqlite::{Connection, MAIN_DB};
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;
use thiserror::Error;

/// Name of the shop's database in the writer's folder.
pub(crate) const DATABASE: &str = "shop.db";
const COPY: &str = "before-the-damage.db";
const COMMITS_BEFORE: u64 = 150;
const COMMITS_AFTER: u64 = 50;
const BASKETS_LEFT_EVERY: u64 = 17;
const PACE: Duration = Duration::from_millis(8);
/// Pause before and after the damage, so that its time identifies one transaction.
const QUIET: Duration = Duration::from_millis(200);

/// A line that the application prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(crate) enum Event {
    /// The tables exist. A line on standard input starts the transactions.
    Ready {
        /// The database file.
        database: PathBuf,
    },
    /// The database was copied after commit `after`.
    Copy {
        /// Number of the last commit in the copy.
        after: u64,
        /// The copy's file.
        path: PathBuf,
    },
    /// A transaction was committed.
    Commit {
        /// Counted from 1.
        commit: u64,
        /// Wall clock right after the commit returned, microseconds since the Unix epoch, UTC.
        time_us: i64,
        /// Label of the transaction.
        label: String,
        /// True for the transaction that does the damage.
        damage: bool,
    },
    /// The application has ended its transactions.
    Done {
        /// Number of committed transactions.
        commits: u64,
    },
}

/// An error of the application.
#[derive(Debug, Error)]
pub(crate) enum WriterError {
    #[error("the shop's database: {0}")]
    Database(#[from] rusqlite::Error),
    #[error("the pipe to the demo: {0}")]
    Pipe(#[from] io::Error),
}

/// Runs the application in `dir`, an existing folder without a shop.
pub(crate) fn run(dir: &Path, seed: u64) -> Result<(), WriterError> {
    let mut story = Story { shop: open(&dir.join(DATABASE), seed)?, commits: 0 };
    say(&Event::Ready { database: dir.join(DATABASE) })?;
    io::stdin().read_line(&mut String::new())?;

    story.trade(COMMITS_BEFORE)?;
    thread::sleep(QUIET);
    let path = dir.join(COPY);
    copy(story.shop.database(), &path)?;
    say(&Event::Copy { after: story.commits, path })?;
    thread::sleep(QUIET);
    let label = story.shop.damage()?;
    story.committed(label, true)?;
    thread::sleep(QUIET);
    story.trade(COMMITS_AFTER)?;
    say(&Event::Done { commits: story.commits })?;
    Ok(())
}

struct Story {
    shop: Shop,
    commits: u64,
}

impl Story {
    fn trade(&mut self, commits: u64) -> Result<(), WriterError> {
        for _ in 0..commits {
            let label = self.shop.trade()?;
            self.committed(label, false)?;
            if self.commits.is_multiple_of(BASKETS_LEFT_EVERY) {
                self.shop.abandon()?;
            }
            thread::sleep(PACE);
        }
        Ok(())
    }

    fn committed(&mut self, label: &str, damage: bool) -> Result<(), WriterError> {
        // The application is independent of pitr and reads the clock directly.
        let time_us = jiff::Timestamp::now().as_microsecond();
        self.commits += 1;
        say(&Event::Commit { commit: self.commits, time_us, label: label.to_owned(), damage })?;
        Ok(())
    }
}

fn open(path: &Path, seed: u64) -> rusqlite::Result<Shop> {
    let database = Connection::open(path)?;
    database.busy_timeout(Duration::from_secs(5))?;
    database.pragma_update(None, "journal_mode", "wal")?;
    database.pragma_update(None, "synchronous", "normal")?;
    Shop::open(database, seed)
}

fn copy(database: &Connection, to: &Path) -> rusqlite::Result<()> {
    const ALL_PAGES: i32 = -1;
    let mut copy = Connection::open(to)?;
    Backup::new_with_names(database, MAIN_DB, &mut copy, MAIN_DB)?.step(ALL_PAGES)?;
    copy.close().map_err(|(_, error)| error)
}

fn say(event: &Event) -> io::Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line)?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_events_parse_back() {
        let event = Event::Commit { commit: 3, time_us: 7, label: "order".into(), damage: false };
        let line = serde_json::to_string(&event).unwrap();
        assert_eq!(line, r#"{"event":"commit","commit":3,"time_us":7,"label":"order","damage":false}"#);
        assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event);
    }

    #[test]
    fn the_same_seed_gives_the_same_transactions() {
        let sold = |seed| {
            let mut shop = Shop::open(Connection::open_in_memory().unwrap(), seed).unwrap();
            (0..40).map(|_| shop.trade().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(sold(7), sold(7));
        assert_ne!(sold(7), sold(8));
    }
}
