//! The same damage twice: at the end of a log it is a torn tail, before the end it is a hole.
//!
//! A power loss can tear only what was never acknowledged. So the log cuts a damaged end, and
//! refuses damage at a place that a later batch states to be durable.

use pitr_wal::{Env, Error, Lsn, Start, TxId, Wal, WalOptions};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

fn open(dir: &Path) -> Result<(), Error> {
    let (wal, recovered) = Wal::open(&Env::system(), dir, Lsn::ORIGIN, &WalOptions::default())?;
    match recovered.cut {
        Some(cut) => println!("  opened: {} bytes were cut at LSN {}", cut.bytes, cut.at),
        None => println!("  opened: nothing was cut"),
    }
    let mut transactions = Vec::new();
    wal.scan(wal.first(), wal.durable())?.for_each_committed::<Error>(|record| {
        transactions.push(record.tx.get());
        Ok(())
    })?;
    println!("  transactions {transactions:?}");
    Ok(())
}

/// Overwrites a byte of the log at this position.
fn damage(dir: &Path, lsn: Lsn) -> std::io::Result<()> {
    let segments = fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path()));
    let segments: Vec<PathBuf> = segments.collect::<Result<_, _>>()?;
    let size = u64::from(Start::first([0; 16]).segment_size.bytes());
    let first = segments.iter().find(|path| fs::metadata(path).is_ok_and(|file| file.len() == size));
    let path = first.expect("the log has one segment");
    OpenOptions::new().write(true).open(path)?.write_all_at(&[0xff], lsn.get() % size)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for (what, damaged) in [("the last batch", 5), ("an earlier batch", 3)] {
        let temp = tempfile::tempdir()?;
        let dir = temp.path().join("log");
        let wal = Wal::open_or_create(&dir)?;
        let mut commits = Vec::new();
        for tx in 1..=5 {
            commits.push(wal.commit_data(TxId::new(tx), b"some change")?);
        }
        drop(wal);
        println!("damage in {what}, that of transaction {damaged}:");
        damage(&dir, commits[damaged - 1].lsn.before())?;
        if let Err(error) = open(&dir) {
            println!("  refused: {error}");
        }
    }
    Ok(())
}
