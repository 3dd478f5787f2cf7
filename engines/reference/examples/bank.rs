//! A bank overwrites an account by mistake, and restores its store to just before that.

use pitr_archive::{Archive, ShipOptions, Shipper};
use pitr_dedup::ChunkStore;
use pitr_engine::Registry;
use pitr_format::SourceName;
use pitr_objects::Objects;
use pitr_recovery::{History, RestoreOptions, Restorer, Target};
use pitr_reference::{Committed, ReferenceEngine, Store, TableId};
use pitr_snapshot::write_full;
use std::error::Error;
use std::sync::Arc;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let objects = Objects::create_local(dir.path().join("repo"))?;
    objects.init_repository(objects.env().clock.now())?;
    let (name, chunks) = (SourceName::new("bank")?, ChunkStore::open(objects.clone())?);

    // A store, and its archive.
    let store = Store::open_or_create(dir.path().join("bank"))?;
    let archive = Archive::new(objects.clone(), name.clone());
    let mut shipper = Shipper::claim(&archive, store.wal(), ShipOptions::default())?;
    // A checkpoint removes no log that the archiver still needs.
    let slot = store.wal().slot("archiver", store.wal().first())?;
    let accounts = store.create_table("accounts", 8)?;
    for account in 0..1000 {
        set(&store, accounts, account, 100)?;
    }

    // A snapshot, during which the bank goes on.
    let source = store.begin_snapshot()?;
    set(&store, accounts, 7, 250)?;
    let mut taken = write_full(&chunks, &source, source.meta(name.clone()), None)?;
    source.complete(&mut taken.snapshot.meta)?;
    shipper.ship(store.wal())?;
    let snapshot = taken.publish(&chunks)?.snapshot;
    slot.advance(shipper.archived().ok_or("nothing was archived")?)?;
    println!("snapshot {}: {} bytes stored", snapshot.id, snapshot.sizes.stored);

    let deposit = set(&store, accounts, 7, 300)?;
    let mistake = set(&store, accounts, 7, 0)?;
    shipper.ship(store.wal())?;
    println!("account 7 had {} after transaction {}", balance(&store, accounts, 7)?, mistake.tx);

    // Restore the state just before the mistake.
    let registry = Registry::new(Arc::new(ReferenceEngine));
    let history = History::load(&objects, &name, None)?;
    let plan = history.plan_for(&Target::just_before(mistake.tx))?;
    let target = registry.named(&snapshot.meta.engine)?.need_restore_target()?;
    let output = dir.path().join("restored");
    let done = Restorer::new(&history, &chunks, target).restore(&plan, &RestoreOptions::to(&output))?;
    println!("restored {}", done.reached());

    // It opens, and continues.
    let restored = Store::open_or_create(&output)?;
    println!("account 7 has {}", balance(&restored, accounts, 7)?);
    if done.reached().tx != deposit.tx || balance(&restored, accounts, 7)? != 300 {
        return Err("the restored store is not that of the deposit".into());
    }
    set(&restored, accounts, 7, 350)?;
    Ok(())
}

fn set(store: &Store, accounts: TableId, account: u64, balance: u64) -> pitr_reference::Result<Committed> {
    let mut transaction = store.begin();
    transaction.put(accounts, account, &balance.to_le_bytes())?;
    transaction.commit()
}

fn balance(store: &Store, accounts: TableId, account: u64) -> Result<u64, Box<dyn Error>> {
    let row = store.get(accounts, account)?.ok_or("there is no such account")?;
    Ok(u64::from_le_bytes(row.as_slice().try_into()?))
}
