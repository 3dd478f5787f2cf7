//! The pages of a SQLite database that nobody writes: those of its file, and the committed ones of
//! its `-wal` file over them, as SQLite's file format describes both. It shares no code with pitr.

use crate::Result;
use crate::blocks::{BLOCK_BYTES, Blocks};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const LOG_HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;
const FRAME_BYTES: usize = FRAME_HEADER_BYTES + BLOCK_BYTES;

/// A database with pages of 4096 bytes.
#[derive(Debug)]
pub(crate) struct AtRest {
    file: File,
    log: Option<File>,
    /// Offset of each page's newest committed content in the log, by its number from 0.
    newer: HashMap<u64, u64>,
    pages: u64,
}

impl AtRest {
    /// Opens a database that no process writes now.
    pub(crate) fn open(path: &Path) -> Result<AtRest> {
        let file = File::open(path)?;
        let pages = file.metadata()?.len() / BLOCK_BYTES as u64;
        let mut name = path.as_os_str().to_owned();
        name.push("-wal");
        let log = match File::open(PathBuf::from(name)) {
            Ok(log) => Some(log),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        let mut at_rest = AtRest { file, log, newer: HashMap::new(), pages };
        at_rest.read_log()?;
        Ok(at_rest)
    }

    /// The hashes of all pages, under this name.
    pub(crate) fn blocks(&self, name: &str) -> Result<Blocks> {
        let mut blocks = Blocks::default();
        blocks.add(name, self.pages * BLOCK_BYTES as u64, |from, buf| self.read(from, buf))?;
        Ok(blocks)
    }

    /// All pages.
    pub(crate) fn pages(&self) -> Result<Vec<Vec<u8>>> {
        let page = |number: u64| {
            let mut bytes = vec![0; BLOCK_BYTES];
            self.read(number * BLOCK_BYTES as u64, &mut bytes)?;
            Ok(bytes)
        };
        (0..self.pages).map(page).collect()
    }

    fn read(&self, from: u64, buf: &mut [u8]) -> io::Result<()> {
        for (page, buf) in (from / BLOCK_BYTES as u64..).zip(buf.chunks_mut(BLOCK_BYTES)) {
            match (self.newer.get(&page), &self.log) {
                (Some(at), Some(log)) => log.read_exact_at(buf, *at)?,
                _ => self.file.read_exact_at(buf, page * BLOCK_BYTES as u64)?,
            }
        }
        Ok(())
    }

    /// Reads frames until one is not of this log, and takes over those up to the last commit.
    fn read_log(&mut self) -> Result<()> {
        let Some(log) = &self.log else { return Ok(()) };
        let mut log = BufReader::with_capacity(1 << 20, log.try_clone()?);
        log.rewind()?;
        let mut header = [0; LOG_HEADER_BYTES];
        if log.read_exact(&mut header).is_err() {
            return Ok(());
        }
        let is_big = match number(&header, 0) {
            0x377f_0682 => false,
            0x377f_0683 => true,
            _ => return Ok(()),
        };
        if number(&header, 8) as usize != BLOCK_BYTES {
            return Err("the database has no pages of 4096 bytes".into());
        }
        let mut sum = checksum(is_big, [0, 0], &header[..24]);
        if sum != [number(&header, 24), number(&header, 28)] {
            return Ok(());
        }
        let (mut frame, mut at, mut pending) = (vec![0; FRAME_BYTES], LOG_HEADER_BYTES as u64, Vec::new());
        while log.read_exact(&mut frame).is_ok() {
            sum = checksum(is_big, checksum(is_big, sum, &frame[..8]), &frame[FRAME_HEADER_BYTES..]);
            if frame[8..16] != header[16..24] || sum != [number(&frame, 16), number(&frame, 20)] {
                break;
            }
            let page = u64::from(number(&frame, 0)).checked_sub(1).ok_or("a frame of page 0")?;
            pending.push((page, at + FRAME_HEADER_BYTES as u64));
            let pages = u64::from(number(&frame, 4));
            if pages > 0 {
                self.newer.extend(pending.drain(..));
                self.pages = pages;
            }
            at += FRAME_BYTES as u64;
        }
        Ok(())
    }
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The running checksum of SQLite's log.
fn checksum(is_big: bool, sum: [u32; 2], bytes: &[u8]) -> [u32; 2] {
    let [mut a, mut b] = sum;
    for pair in bytes.as_chunks::<8>().0 {
        let [x, y] = [[pair[0], pair[1], pair[2], pair[3]], [pair[4], pair[5], pair[6], pair[7]]]
            .map(|word| if is_big { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) });
        a = a.wrapping_add(x).wrapping_add(b);
        b = b.wrapping_add(y).wrapping_add(a);
    }
    [a, b]
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;

    #[test]
    fn pages_of_file_and_log_are_those_of_a_checkpointed_database() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.db");
        let db = Connection::open(&path).unwrap();
        let run = |sql: &str| db.execute_batch(sql).unwrap();
        run("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t (v BLOB);");
        let insert = "WITH n(x) AS (VALUES(1) UNION ALL SELECT x + 1 FROM n WHERE x < 300) \
            INSERT INTO t SELECT randomblob(3000) FROM n;";
        run(insert);
        run("PRAGMA wal_checkpoint(FULL)");
        // The log restarts: frames of the earlier log stay after the new ones.
        run("UPDATE t SET v = randomblob(3000) WHERE rowid % 7 = 0; DELETE FROM t WHERE rowid > 250;");
        let found = AtRest::open(&path).unwrap();
        assert!(!found.newer.is_empty());
        let before = found.blocks("app.db").unwrap();
        run("PRAGMA wal_checkpoint(TRUNCATE)");
        let after = Blocks::of_files(&[path]).unwrap();
        assert_eq!(after.difference(&before), None);
        assert!(after.count() > 200);
    }

    #[test]
    fn a_transaction_without_its_commit_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.db");
        let db = Connection::open(&path).unwrap();
        db.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (v); INSERT INTO t VALUES (1);").unwrap();
        let log = dir.path().join("app.db-wal");
        let before = AtRest::open(&path).unwrap().blocks("a").unwrap();
        let frames = std::fs::metadata(&log).unwrap().len();
        db.execute_batch("INSERT INTO t VALUES (2)").unwrap();
        let mut bytes = std::fs::read(&log).unwrap();
        assert!(bytes.len() as u64 > frames);
        bytes[frames as usize + 4..][..4].fill(0); // no commit
        let (copy, copied_log) = (dir.path().join("copy.db"), dir.path().join("copy.db-wal"));
        std::fs::copy(&path, &copy).unwrap();
        std::fs::write(copied_log, bytes).unwrap();
        assert_eq!(AtRest::open(&copy).unwrap().blocks("a").unwrap().difference(&before), None);
    }
}
