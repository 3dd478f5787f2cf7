//! What verification takes and finds on databases of a real size: every byte of a repository
//! against the bound of reading and hashing it, a sample of it, and the user's own queries on a
//! restored copy, with seeded faults and with a query that never ends.

use super::judged;
use super::recovery::sqlite::Writer;
use crate::Result;
use crate::bound::{Sample, quick_ways};
use crate::compare::median;
use crate::program::{CORRUPT, CallResult, Program};
use crate::rows::Rows;
use crate::size::{Size, check_free};
use crate::verdict::Verdict;
use crate::world::{World, bytes_below, drop_cache_below, files_below};
use rusqlite::Connection;
use serde_json::Value;
use std::path::Path;
use std::time::Instant;

/// Rate of the checksums, of the bound.
const BOUND_PERCENT_MIN: f64 = 80.0;
/// Time for a sample.
const SAMPLE_SECONDS_MAX: f64 = 5.0;
const RUNS: usize = 3;
/// Length of an order's text, and number of orders of a customer.
const TEXT_BYTES: usize = 700;
const ORDERS: i64 = 50;
/// Orders of a transaction that fills the table.
const FILL_ROWS: i64 = 10_000;

const DANGLING: &str = "SELECT count(*) = 0 FROM orders WHERE customer NOT IN (SELECT id FROM customers)";
const COUNTED: &str = "SELECT count(*) = 0 FROM customers c WHERE orders <> (SELECT count(*) FROM orders WHERE customer = c.id)";
const FILLED: &str = "SELECT count(*) > 1000 AND min(length(text)) > 0 FROM orders";
const ENDLESS: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n";

#[derive(Debug, clap::Args)]
pub(crate) struct Verification {
    /// Size of the database whose repository is checked
    #[arg(long, default_value = "10G")]
    pub(crate) base: Size,
    /// Size of the database with queries
    #[arg(long, default_value = "1G")]
    pub(crate) functional: Size,
    #[command(flatten)]
    pub(crate) seed: super::Seed,
}

impl Verification {
    pub(crate) fn run(&self) -> Result<bool> {
        let Verification { base, functional, seed: super::Seed { seed } } = self;
        let command =
            format!("cargo xtask drill verify --base {base} --functional {functional} --seed {seed}");
        judged(&command, |verdict| {
            self.checksums(verdict)?;
            self.queries(verdict)
        })
    }

    /// A repository of one large database: all of it, and a sample.
    fn checksums(&self, verdict: &mut Verdict) -> Result<()> {
        let world = World::new("verify")?;
        check_free(&world.path(""), self.base.bytes() * 2)?;
        let program = Program::with_repository(&world.path("repository"))?;
        let database = world.path("app.db");
        drop(Writer::new(&database, self.base.bytes(), self.seed.seed)?);
        program.call(["backup".as_ref(), database.as_os_str()])?.done()?;
        std::fs::remove_file(&database)?;
        let repository = program.repo();
        let stored = bytes_below(repository)? as f64 / 1e6;
        let logical = self.base.bytes() as f64 / 1e6;
        let sample = Sample::of(&files_below(repository)?, u64::MAX)?;

        let (mut ratios, mut rates) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            let mut bound = 0.0_f64;
            for way in quick_ways() {
                bound = bound.max(way.measure_hash(&sample)?);
            }
            let (checked, seconds) = cold(&program, &["--level", "checksum"])?;
            checked.done()?;
            let rate = stored / seconds;
            verdict.step(format_args!("checksums {rate:.0} MB/s of stored bytes, bound {bound:.0}"));
            ratios.push(100.0 * rate / bound);
            rates.push(rate);
        }
        let (ratio, rate) = (median(&ratios), median(&rates));
        verdict.figure(format_args!(
            "checksums of {stored:.0} MB: {rate:.0} MB/s, of the database's {:.0} MB/s, {ratio:.0}% of reading and hashing them",
            rate * logical / stored
        ));
        verdict.check(ratio >= BOUND_PERCENT_MIN, format_args!("checksums at {ratio:.0}% of the bound"));

        let (checked, seconds) = cold(&program, &["--sample"])?;
        let read = checked.done()?["checked_bytes"].as_u64().unwrap_or_default() as f64 / 1e6;
        verdict
            .figure(format_args!("a sample of {} of database: {seconds:.1} s, {read:.0} MB read", self.base));
        verdict.check(seconds < SAMPLE_SECONDS_MAX, format_args!("a sample takes {seconds:.1} s"));
        Ok(())
    }

    /// Queries on restored copies of a sound database, and of one with two faults.
    fn queries(&self, verdict: &mut Verdict) -> Result<()> {
        let world = World::new("verify-functional")?;
        check_free(&world.path(""), self.functional.bytes() * 3)?;
        let program = Program::with_repository(&world.path("repository"))?;
        let database = world.path("shop.db");
        let shop = fill(&database, self.functional.bytes(), self.seed.seed)?;
        let sandbox = world.path("sandbox");
        std::fs::create_dir(&sandbox)?;
        let sandbox = sandbox.to_string_lossy();
        let functional = |queries: &[&str]| -> Result<CallResult> {
            let mut args = vec!["verify", "--level", "functional", "--sandbox", &sandbox, "--limit", "30s"];
            queries.iter().for_each(|query| args.extend(["--sql", query]));
            program.call(args)
        };
        let backup = || program.call(["backup".as_ref(), database.as_os_str()])?.done();
        let queries = [FILLED, DANGLING, COUNTED];

        backup()?;
        let sound = functional(&queries)?;
        let restored = sound.answer["rehearsals"][0]["restore_seconds"].as_f64().unwrap_or_default();
        verdict.figure(format_args!(
            "three queries on {}: {:.1} s, {restored:.1} s of them for the restore",
            self.functional, sound.seconds
        ));
        verdict.check(sound.code == Some(0), format_args!("a sound database: {sound}"));

        let hung = functional(&[FILLED, ENDLESS])?;
        let is_stopped = hung.code == Some(CORRUPT) && names(&hung.answer, ENDLESS);
        verdict.check(is_stopped, format_args!("a query without an end: {hung}"));
        verdict.figure(format_args!("a query without an end is stopped after 30 s: {:.1} s", hung.seconds));

        for (fault, query) in [
            ("UPDATE customers SET orders = orders + 1 WHERE id = 7", COUNTED),
            (
                "UPDATE customers SET orders = orders - 1 WHERE id = 7; DELETE FROM customers WHERE id = 9",
                DANGLING,
            ),
        ] {
            shop.execute_batch(fault)?;
            backup()?;
            let found = functional(&queries)?;
            let others = queries.iter().filter(|other| **other != query);
            let is_found = found.code == Some(CORRUPT)
                && names(&found.answer, query)
                && others.clone().all(|other| !names(&found.answer, other));
            verdict.check(is_found, format_args!("{fault}: {found}"));
            let by_engine = names(&found.answer, "engine");
            verdict.check(
                by_engine == (query == DANGLING),
                format_args!("{fault}: found by the engine: {by_engine}"),
            );
        }
        verdict.figure(
            "a wrong count is found by its query, a dangling reference by its query and by foreign_key_check",
        );
        Ok(())
    }
}

/// Verifies with a cold cache. Also returns the seconds.
fn cold(program: &Program, args: &[&str]) -> Result<(CallResult, f64)> {
    drop_cache_below(program.repo())?;
    let begun = Instant::now();
    let called = program.call(["verify"].iter().chain(args))?;
    Ok((called, begun.elapsed().as_secs_f64()))
}

/// True if a check of this name has a finding.
fn names(answer: &Value, check: &str) -> bool {
    let findings = answer["rehearsals"][0]["findings"].as_array();
    findings.is_some_and(|found| found.iter().any(|one| one["check"] == check))
}

/// Creates a database of customers and their orders. Each customer states how many there are.
fn fill(path: &Path, bytes: u64, seed: u64) -> Result<Connection> {
    let (db, mut rows) = (Connection::open(path)?, Rows::new(seed));
    db.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA foreign_keys = OFF;
         CREATE TABLE customers (id INTEGER PRIMARY KEY, orders INTEGER NOT NULL);
         CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER NOT NULL REFERENCES customers, text TEXT NOT NULL);",
    )?;
    let (mut text, mut last) = (vec![0; TEXT_BYTES], 0_i64);
    while std::fs::metadata(path)?.len() < bytes {
        db.execute_batch("BEGIN")?;
        for _ in 0..FILL_ROWS {
            if last % ORDERS == 0 {
                db.prepare_cached("INSERT INTO customers VALUES (?, ?)")?.execute([last / ORDERS, ORDERS])?;
            }
            rows.fill(&mut text);
            let text = std::str::from_utf8(&text)?;
            db.prepare_cached("INSERT INTO orders VALUES (?, ?, ?)")?.execute((last, last / ORDERS, text))?;
            last += 1;
        }
        db.execute_batch("COMMIT; PRAGMA wal_checkpoint(TRUNCATE)")?;
    }
    db.execute_batch("CREATE INDEX by_customer ON orders (customer); PRAGMA wal_checkpoint(TRUNCATE)")?;
    Ok(db)
}
