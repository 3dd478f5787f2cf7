//! pitr: `watch` with its defaults, then `prune`.

use super::arrivals::Span;
use super::day::{Bytes, DAY_SECONDS};
use super::place::Place;
use super::{Archiver, Kept, Run, Running};
use crate::Result;
use crate::drill::recovery::sqlite;
use crate::moments::Rng;
use crate::program::{Program, Watch};
use std::cell::Cell;
use std::path::Path;

/// Transactions that are restored and counted.
const RESTORES: usize = 10;

pub(super) struct Pitr {
    /// Through the proxy.
    counted: Program,
    /// Past the proxy.
    program: Program,
    /// Number of the last transaction of the first snapshot.
    first: Cell<u64>,
}

impl Pitr {
    pub(super) fn new(place: &Place) -> Result<Pitr> {
        let (counted, program) = match place {
            Place::Local(folder) => {
                let program = Program::with_repository(folder)?;
                (program.clone(), program)
            }
            Place::S3(bucket) => {
                let url = format!("s3://{}", bucket.name());
                let program = Program::in_store(&url, bucket.environment(false))?;
                (program.through(bucket.environment(true)), program)
            }
        };
        Ok(Pitr { counted, program, first: Cell::new(0) })
    }

    /// Restores some of the transactions, and checks that each has its number of commits.
    fn check(&self, run: &Run<'_>) -> Result<()> {
        let output = run.world.path("moment.db");
        let mut rng = Rng(run.commits);
        for commit in rng.sample((1..=run.commits).collect(), RESTORES) {
            let target = format!("tx:{}", self.first.get() + commit);
            self.program.restore(&target, &output, &[])?.done()?;
            let found = sqlite::progress(&output)?;
            if found != commit {
                return Err(format!("{target} has {found} commits, not {commit}").into());
            }
            std::fs::remove_file(&output)?;
        }
        Ok(())
    }
}

/// The part of `pitr log` that counts here.
struct Log {
    /// LSNs of the application's commits, ascending.
    lsns: Vec<u64>,
    /// Number of them that can be restored.
    restorable: u64,
    /// Size of all changed pages.
    image_bytes: u64,
}

impl Pitr {
    fn log(&self) -> Result<Log> {
        let log = self.program.call(["log"])?.done()?;
        let mut found = Log { lsns: Vec::new(), restorable: 0, image_bytes: 0 };
        for transaction in log["transactions"].as_array().ok_or("no transactions")? {
            let number = |name: &str| transaction[name].as_u64().ok_or_else(|| format!("no {name}"));
            if number("tx")? > self.first.get() {
                found.lsns.push(number("lsn")?);
                found.restorable += u64::from(transaction["restorable"] == true);
                found.image_bytes += number("bytes")?;
            }
        }
        Ok(found)
    }
}

impl Archiver for Pitr {
    type Running = Watch;

    fn name(&self) -> String {
        "pitr".to_owned()
    }

    fn start(&self, database: &Path, _: &Place) -> Result<Watch> {
        let watch = self.counted.watch(database, &[])?;
        self.first.set(sqlite::archived(&self.program, |source| source["snapshots"][0]["tx"].as_u64())?);
        Ok(watch)
    }

    fn prefix(&self) -> &'static str {
        "sources/"
    }

    fn span(key: &str) -> Option<Span> {
        let parts: Vec<&str> = key.split('/').collect();
        let ["sources", _, "log" | "compacted", _, _, name] = parts[..] else { return None };
        let number = |text: &str| u64::from_str_radix(text, 16).ok().filter(|_| text.len() == 16);
        let mut parts = name.split('-');
        let (from, to) = (number(parts.next()?)?, number(parts.next()?)?);
        let level = parts.next().map_or(Some(0), |level| level.parse().ok())?;
        parts.next().is_none().then_some(Span { from, to, level })
    }

    fn examine(&self, run: &Run<'_>) -> Result<Kept> {
        let before = self.log()?;
        if before.lsns.len() as u64 != run.commits {
            return Err(format!("the log has {} of {} commits", before.lsns.len(), run.commits).into());
        }
        let commits = run.arrivals.iter();
        let commits = commits.map(|arrival| before.lsns.partition_point(|lsn| *lsn < arrival.span.to) as u64);
        let commits = commits.collect();
        let added = run.place.bytes()?.saturating_sub(run.before);
        let counts = run.place.counts();
        self.counted.call(["prune", "--keep-within", "7d", "--execute"])?.done()?;
        let pruned = run.place.counts().zip(counts).map(|(now, then)| now.since(&then));
        let compacted = run.place.bytes()?.saturating_sub(run.before);
        let restorable = (before.restorable, self.log()?.restorable);
        self.check(run)?;
        let day = Some(compacted as f64 / run.seconds * DAY_SECONDS);
        let bytes = Bytes { added, compacted: Some(compacted), day };
        let images = Some(before.image_bytes as f64 / run.commits as f64);
        Ok(Kept { commits, restorable, bytes, pruned, images })
    }
}

impl Running for Watch {
    fn pid(&self) -> u32 {
        Watch::pid(self)
    }

    fn stop(self) -> Result<()> {
        Watch::stop(self).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_from_the_names_of_log_objects() {
        let of = |folder, name| format!("sources/app.db/{folder}/00000001/0000000000000001/{name}");
        let name = |name| of("log", name);
        let span = |level| Some(Span { from: 4096, to: 65_536, level });
        assert_eq!(Pitr::span(&name("0000000000001000-0000000000010000")), span(0));
        assert_eq!(Pitr::span(&of("compacted", "0000000000001000-0000000000010000-2")), span(2));
        for other in [
            name("0000000000001000-0000000000010000.tmp"),
            name("0000000000001000"),
            "sources/app.db/pruned/00000001/0000000000001000-0000000000010000".to_owned(),
        ] {
            assert_eq!(Pitr::span(&other), None, "{other}");
        }
    }
}
