//! Archives the transactions of a small engine, and restores its file to one of them.
//!
//! The engine has one file, `notes.db`, with a note in each block of 512 bytes.

use pitr_archive::{Archive, ShipOptions, Shipper};
use pitr_dedup::ChunkStore;
use pitr_format::record::Record;
use pitr_format::{FileId, PartitionId, SourceName, TxId};
use pitr_objects::Objects;
use pitr_recovery::{Error as RecoveryError, History, RestoreOptions, Restorer, SingleFile, Target};
use pitr_wal::{BatchBuilder, Wal};
use std::error::Error;
use std::fs;

const BLOCK: usize = 512;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let objects = Objects::create_local(dir.path().join("repo"))?;
    objects.init_repository(objects.env().clock.now())?;
    let name = SourceName::new("notes")?;

    // Four transactions; the third is a mistake.
    let wal = Wal::open_or_create(dir.path().join("log"))?;
    let archive = Archive::new(objects.clone(), name.clone());
    let mut shipper = Shipper::claim(&archive, &wal, ShipOptions::default())?;
    commit(&wal, 1, &[(0, "buy bread"), (1, "call Ada")])?;
    commit(&wal, 2, &[(2, "water the plants")])?;
    commit(&wal, 3, &[(0, "x"), (1, "x"), (2, "x")])?;
    commit(&wal, 4, &[(3, "pay the rent")])?;
    shipper.ship(&wal)?;

    let history = History::load(&objects, &name, None)?;
    for found in history.transactions() {
        let commit = found?.commit;
        println!("transaction {} at {}", commit.tx, commit.time);
    }

    // There is no snapshot, so the plan begins from the empty file at the origin of the log.
    let chunks = ChunkStore::open(objects)?;
    let restorer = Restorer::new(&history, &chunks, &SingleFile);
    for (output, target) in
        [("latest.db", Target::latest()), ("before-the-mistake.db", Target::just_before(TxId::new(3)))]
    {
        let path = dir.path().join(output);
        let restored = restorer.restore(&history.plan_for(&target)?, &RestoreOptions::to(&path))?;
        println!("{output} is {}", restored.reached());
        for note in fs::read(&path)?.chunks(BLOCK) {
            println!("  {}", String::from_utf8_lossy(note).trim_end_matches('\0'));
        }
    }

    // A target that does not exist is never replaced by a state nearby.
    match history.plan_for(&Target::at(TxId::new(9))) {
        Err(error @ RecoveryError::TargetUnreachable(_)) => println!("transaction 9: {error}"),
        other => return Err(format!("transaction 9 was found: {other:?}").into()),
    }
    Ok(())
}

/// Logs some notes in one transaction. Durable on return.
fn commit(wal: &Wal, tx: u64, notes: &[(u64, &str)]) -> Result<(), pitr_wal::Error> {
    let (tx, mut batch) = (TxId::new(tx), BatchBuilder::new());
    for (block, note) in notes {
        let mut data = note.as_bytes().to_vec();
        data.resize(BLOCK, 0);
        let image = Record::Image { file: FileId::FIRST, block: *block, data: &data };
        batch.push(PartitionId::FIRST, tx, &image)?;
    }
    batch.push_commit(PartitionId::FIRST, tx, None, None, b"")?;
    wal.commit(batch).map(drop)
}
