//! Watches a database while an application writes to it, and restores it to one transaction.

use pitr_dedup::ChunkStore;
use pitr_engine::{Capture, CaptureOptions, EngineContext};
use pitr_format::SourceName;
use pitr_objects::Objects;
use pitr_recovery::{History, RestoreOptions, Restorer, Target};
use pitr_sqlite::restore::DatabaseTarget;
use pitr_sqlite::watch::Watch;
use pitr_sqlite::{Sqlite, exact, place};
use rusqlite::Connection;
use std::error::Error;
use std::sync::Arc;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let database = dir.path().join("shop.db");
    let shop = Connection::open(&database)?;
    shop.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE stock(item TEXT, pieces INTEGER)")?;

    let objects = Objects::create_local(dir.path().join("repo"))?;
    let repository = objects.init_repository(objects.env().clock.now())?;
    let name = SourceName::new("shop")?;

    // From the return of `begin` on, every commit is captured.
    let context = EngineContext::new(&objects, &repository);
    let source = Sqlite.source(&place::resolve(&database)?, name.clone(), None);
    let mut watch = Watch::begin(context, source, CaptureOptions::default(), Arc::new(|_| {}))?;
    shop.execute_batch("INSERT INTO stock VALUES('tea', 40)")?;
    shop.execute_batch("INSERT INTO stock VALUES('cups', 12)")?;
    let copy = dir.path().join("copy.db");
    shop.backup("main", &copy, None::<fn(_)>)?; // the state to get back
    shop.execute_batch("DELETE FROM stock")?; // a mistake
    shop.execute_batch("INSERT INTO stock VALUES('honey', 3)")?;
    let summary = watch.drain()?; // captures and archives everything up to here
    println!("captured {} transactions, {} pages", summary.commits, summary.pages);

    // The mistake was the transaction before the last.
    let history = History::load(&objects, &name, None)?;
    let commits: Vec<_> = history.transactions().collect::<Result<_, _>>()?;
    let mistake = commits.iter().rev().nth(1).ok_or("four transactions were archived")?.commit.tx;
    let plan = history.plan_for(&Target::just_before(mistake))?;
    let chunks = ChunkStore::open(objects)?;
    let restored = dir.path().join("restored.db");
    let done =
        Restorer::new(&history, &chunks, &DatabaseTarget).restore(&plan, &RestoreOptions::to(&restored))?;
    println!("restored {}", done.reached());

    if let Some(difference) = exact::compare(&restored, &copy)? {
        return Err(format!("the restored database differs from the copy: {difference}").into());
    }
    println!("it is exactly the copy that the application made before the mistake:");

    let connection = Connection::open(&restored)?;
    let mut select = connection.prepare("SELECT item, pieces FROM stock ORDER BY item")?;
    let read = select.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, u32>(1)?)))?;
    for row in read {
        let (item, pieces) = row?;
        println!("  {item}: {pieces}");
    }
    Ok(())
}
