//! The application: the transactions of the SQLite one (`drill/recovery/sqlite.rs`), by `psql`.

use super::cluster::Cluster;
use crate::Result;
use crate::rows::Rows;
use std::fmt::Write as _;
use std::io::{BufWriter, Write};
use std::process::Stdio;

/// Rows of about 700 bytes: the length of a row follows from its number.
const ROW_BYTES: (u64, u64) = (200, 1200);
const PAGE_BYTES: u64 = 4096;
/// Rows in 4 KiB, about: as many as SQLite puts into its pages.
const ROWS_A_PAGE: u64 = 5;
/// One transaction, so that a server without an archive does not log the rows.
const FILL: &str = "BEGIN;
CREATE TABLE progress (commits bigint);
INSERT INTO progress VALUES (0);
CREATE TABLE entries (id bigint PRIMARY KEY, content text NOT NULL) WITH (fillfactor = 90);
ALTER TABLE entries ALTER COLUMN content SET STORAGE PLAIN;
COPY entries FROM STDIN;
";
const FILLED: &str = "\\.\nCOMMIT;\nCHECKPOINT;\n";

pub(super) struct Session<'c> {
    cluster: &'c Cluster,
    rows: Rows,
    /// Number of the last row.
    last: u64,
    /// Pages of 4 KiB that SQLite would have written, about.
    pages: u64,
    pub(super) commits: u64,
    pub(super) changed_rows: u64,
}

impl<'c> Session<'c> {
    pub(super) fn new(cluster: &'c Cluster, seed: u64) -> Session<'c> {
        Session { cluster, rows: Rows::new(seed), last: 0, pages: 0, commits: 0, changed_rows: 0 }
    }

    pub(super) fn fill(&mut self, bytes: u64) -> Result<()> {
        let rows = bytes / PAGE_BYTES * ROWS_A_PAGE;
        self.feed(FILL, FILLED, |session, line| {
            if session.last == rows {
                return false;
            }
            session.last += 1;
            let content = session.content(session.last);
            // Writing to a String cannot fail.
            let _ = writeln!(line, "{}\t{content}", session.last);
            true
        })
        .map(drop)
    }

    /// Commits until about this number of bytes is changed. In the middle, between two
    /// transactions, asks the server for its time: returns that, and the number of commits before.
    pub(super) fn write_until(&mut self, bytes: u64) -> Result<(String, u64)> {
        let mut before = None;
        let said = self.feed("", "", |session, line| {
            let written = session.pages * PAGE_BYTES;
            if before.is_none() && written >= bytes / 2 {
                before = Some(session.commits);
                line.push_str("SELECT clock_timestamp();\n");
            }
            let wants = written < bytes;
            if wants {
                session.transaction(line);
            }
            wants
        })?;
        Ok((said, before.ok_or("no moment")?))
    }

    pub(super) fn write_commits(&mut self, count: u64) -> Result<()> {
        let until = self.commits + count;
        self.feed("", "", |session, line| {
            let wants = session.commits < until;
            if wants {
                session.transaction(line);
            }
            wants
        })
        .map(drop)
    }

    /// Passes lines to `psql`, between `head` and `tail`, as long as there are some. Returns the
    /// rows that it printed.
    fn feed(
        &mut self,
        head: &str,
        tail: &str,
        mut next: impl FnMut(&mut Self, &mut String) -> bool,
    ) -> Result<String> {
        let mut command = self.cluster.session();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("psql: {error}"))?;
        let mut into = BufWriter::with_capacity(1 << 16, child.stdin.take().ok_or("no pipe")?);
        let mut line = head.to_owned();
        let mut feed = || -> std::io::Result<()> {
            loop {
                into.write_all(line.as_bytes())?;
                line.clear();
                if !next(self, &mut line) {
                    into.write_all(tail.as_bytes())?;
                    return into.flush();
                }
            }
        };
        // A pipe that breaks is explained by psql's own error.
        let fed = feed();
        drop(into);
        let output = child.wait_with_output()?;
        if !output.status.success() {
            return Err(format!("psql: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        fed?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn content(&mut self, id: u64) -> String {
        let (least, most) = ROW_BYTES;
        let scattered = id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
        let mut content = vec![0; (least + scattered % (most - least)) as usize];
        self.rows.fill(&mut content);
        String::from_utf8_lossy(&content).into_owned() // ASCII
    }

    /// One line with all statements of a transaction: the server gets them together.
    fn transaction(&mut self, line: &mut String) {
        let (count, grows) = (self.rows.transaction_rows(), self.rows.is_growth());
        for _ in 0..count {
            let id = if grows { self.last + 1 } else { 1 + self.rows.below(self.last) };
            self.last = self.last.max(id);
            let content = self.content(id);
            let _ = match grows {
                true => write!(line, "INSERT INTO entries VALUES ({id}, '{content}')\\; "),
                false => write!(line, "UPDATE entries SET content = '{content}' WHERE id = {id}\\; "),
            };
        }
        self.commits += 1;
        self.changed_rows += count;
        let _ = writeln!(line, "UPDATE progress SET commits = {};", self.commits);
        self.pages += 1 + if grows { 1 + count / ROWS_A_PAGE } else { count };
    }
}
