//! Archives the log of a small engine, and reads the archive after the log is gone.
//!
//! The engine keeps the balances of accounts: one block of 512 bytes for each account.

use pitr_archive::{Archive, Error as ArchiveError, Merged, Search, ShipOptions, Shipper};
use pitr_format::record::Record;
use pitr_format::{FileId, Lsn, PartitionId, SourceName, TimelineId, TxId};
use pitr_objects::Objects;
use pitr_wal::{BatchBuilder, Wal};
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let objects = Objects::create_local(dir.path().join("repo"))?;
    objects.init_repository(objects.env().clock.now())?;
    let archive = Archive::new(objects, SourceName::new("accounts")?);

    let log = dir.path().join("log");
    let wal = Wal::open_or_create(&log)?;
    let mut shipper = Shipper::claim(&archive, &wal, ShipOptions::default())?;

    for (tx, changes) in [[(1, 100), (2, 100)], [(1, 70), (2, 130)], [(2, 0), (3, 130)]].iter().enumerate() {
        commit(&wal, tx as u64 + 1, changes)?;
        let shipped = shipper.ship(&wal)?;
        println!("transaction {}: {} bytes of log in the archive", tx + 1, shipped.raw_bytes);
    }

    // A second process takes over: the first can't archive any more.
    let next = Shipper::claim(&archive, &wal, ShipOptions::default())?;
    commit(&wal, 4, &[(1, 0)])?;
    match shipper.ship(&wal) {
        Err(error @ ArchiveError::Fenced { .. }) => println!("the first shipper: {error}"),
        other => return Err(format!("the first shipper was not fenced: {other:?}").into()),
    }
    drop((shipper, next, wal));
    std::fs::remove_dir_all(&log)?;

    // From here on only the archive is left.
    let catalog = archive.catalog()?;
    let pieces = catalog.pieces(&catalog.lineage(TimelineId::FIRST)?);
    let commits: Vec<_> =
        Search::new(&archive, &pieces).transactions(Lsn::ORIGIN).collect::<Result<_, _>>()?;
    for found in &commits {
        println!("found transaction {} at {}", found.commit.tx, found.commit.time);
    }

    // The newest image of each block as of the second transaction.
    let until = commits.get(1).ok_or("the archive has three commits")?.commit.lsn;
    Merged::new(&archive, &pieces, Lsn::ORIGIN, until)?.for_each(|image| {
        let balance = String::from_utf8_lossy(image.data);
        println!("account {} after transaction 2: {}", image.block, balance.trim_end_matches('\0'));
        Ok::<_, ArchiveError>(())
    })?;
    Ok(())
}

/// Logs the new balances of some accounts. Durable on return.
fn commit(wal: &Wal, tx: u64, changes: &[(u64, u32)]) -> Result<(), pitr_wal::Error> {
    let (tx, mut batch) = (TxId::new(tx), BatchBuilder::new());
    for (account, balance) in changes {
        let mut data = balance.to_string().into_bytes();
        data.resize(512, 0);
        let image = Record::Image { file: FileId::FIRST, block: *account, data: &data };
        batch.push(PartitionId::FIRST, tx, &image)?;
    }
    batch.push_commit(PartitionId::FIRST, tx, None, None, b"")?;
    wal.commit(batch).map(drop)
}
