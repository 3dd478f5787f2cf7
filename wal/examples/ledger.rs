//! A bank that keeps its balances in memory and restarts from its log.
//!
//! Four threads transfer money. Each transfer is a transaction of two records, which count together
//! or not at all. The last transfer is not committed when the bank stops.

use pitr_wal::{BatchBuilder, Error, PartitionId, Record, SegmentSize, TxId, Wal, WholeRecord};
use pitr_wal::{Env, Lsn, Start, WalOptions};
use std::collections::BTreeMap;
use std::path::Path;
use std::thread;

const ACCOUNTS: u64 = 5;
const TRANSFERS: u64 = 40;
const PARTITION: PartitionId = PartitionId::FIRST;

/// A record: an account, and what is added to its balance.
fn change(account: u64, amount: i64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&account.to_le_bytes());
    bytes[8..].copy_from_slice(&amount.to_le_bytes());
    bytes
}

/// The records of one transfer, without its commit.
fn transfer(tx: TxId, amount: i64) -> Result<BatchBuilder, Error> {
    let (from, to) = (tx.get() % ACCOUNTS, (tx.get() * 3 + 1) % ACCOUNTS);
    let mut batch = BatchBuilder::new();
    batch.push(PARTITION, tx, &Record::Data(&change(from, -amount)))?;
    batch.push(PARTITION, tx, &Record::Data(&change(to, amount)))?;
    Ok(batch)
}

/// Opens the bank for the first time, works, and stops.
fn work(dir: &Path) -> Result<(), Error> {
    let env = Env::system();
    let start = Start { segment_size: SegmentSize::SMALL, ..Start::first(*b"a random log id.") };
    let wal = Wal::create(&env, dir, &start, &WalOptions::default())?;
    let teller = |nth: u64| {
        for tx in (nth..TRANSFERS).step_by(4).map(|tx| TxId::new(tx + 1)) {
            let mut batch = transfer(tx, tx.get() as i64)?;
            batch.push_commit(PARTITION, tx, None, None, b"")?;
            wal.commit(batch)?;
        }
        Ok::<(), Error>(())
    };
    thread::scope(|scope| {
        let tellers: Vec<_> = (0..4).map(|nth| scope.spawn(move || teller(nth))).collect();
        tellers.into_iter().try_for_each(|teller| teller.join().expect("no teller panics"))
    })?;
    let unfinished = transfer(TxId::new(TRANSFERS + 1), 1_000_000)?;
    wal.append(unfinished)?;
    wal.sync()?;
    let stats = wal.stats();
    println!("{} transfers committed with {} syncs, one is unfinished", TRANSFERS, stats.syncs);
    Ok(())
}

/// Opens the log again and computes the balances.
fn restart(dir: &Path) -> Result<BTreeMap<u64, i64>, Error> {
    let (wal, recovered) = Wal::open(&Env::system(), dir, Lsn::ORIGIN, &WalOptions::default())?;
    println!("the log ends at LSN {}, last commit at {}", recovered.end, recovered.time);
    let mut balances = BTreeMap::new();
    let mut apply = |record: &WholeRecord<'_>| {
        let (numbers, _) = record.payload.as_chunks();
        let account = u64::from_le_bytes(numbers[0]);
        *balances.entry(account).or_insert(0) += i64::from_le_bytes(numbers[1]);
        Ok::<(), Error>(())
    };
    wal.scan(wal.first(), wal.durable())?.for_each_committed(&mut apply)?;
    Ok(balances)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let temp = tempfile::tempdir()?;
    let dir = temp.path().join("log");
    work(&dir)?;
    let balances = restart(&dir)?;
    for (account, balance) in &balances {
        println!("account {account}: {balance}");
    }
    assert_eq!(balances.values().sum::<i64>(), 0, "a transfer moves money and makes none");
    Ok(())
}
