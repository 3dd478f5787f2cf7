//! Protects a SQLite file, and restores it to the transaction before a mistake.

use pitr::exact;
use pitr::recovery::Target;
use pitr::{Pitr, PitrConfig};
use rusqlite::Connection;
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let database = dir.path().join("shop.db");
    let shop = Connection::open(&database)?;
    shop.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE orders(item TEXT, pieces INTEGER)")?;

    let pitr = Pitr::init(&PitrConfig::at(dir.path().join("backup")))?;
    let watching = pitr.watch(&database)?;
    for (item, pieces) in [("tea", 2), ("cups", 4), ("honey", 1)] {
        shop.execute("INSERT INTO orders VALUES(?1, ?2)", (item, pieces))?;
    }
    let copy = dir.path().join("copy.db");
    shop.backup("main", &copy, None::<fn(_)>)?; // the state to get back
    shop.execute_batch("UPDATE orders SET pieces = 0")?; // a mistake
    shop.execute_batch("INSERT INTO orders VALUES('bread', 3)")?;
    let summary = watching.stop()?;
    println!("{} transactions were captured", summary.commits);

    let source = pitr.only_source()?;
    let history = pitr.history(&source, None)?;
    let commits: Vec<_> = history.transactions().collect::<Result<_, _>>()?;
    for found in &commits {
        println!("  transaction {} at {}", found.commit.tx, found.commit.time);
    }

    // The mistake is the last but one.
    let mistake = commits.iter().rev().nth(1).ok_or("the transactions were archived")?.commit.tx;
    let output = dir.path().join("restored.db");
    let restored = pitr.restore_to(&source, &Target::just_before(mistake), &output)?;
    println!("restored {}, {} bytes", restored.reached(), restored.bytes);

    match exact::compare(&output, &copy)? {
        None => println!("it equals the copy from before the mistake, row for row"),
        Some(difference) => return Err(format!("it differs from the copy: {difference}").into()),
    }
    Ok(())
}
