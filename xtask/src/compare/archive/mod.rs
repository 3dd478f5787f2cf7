//! Compares the archive that pitr keeps of a SQLite database with Litestream's: lag, requests,
//! bytes, processor time, and which commits stay restorable.
//!
//! An application commits small transactions at a steady pace. pitr and Litestream archive it in
//! turns, with their defaults: first to a local folder, then to SeaweedFS through a proxy that
//! counts requests. All runs have the same seed.
//!
//! The *lag* of a commit is the time from the return of `COMMIT` in the application until the store
//! lists the object with which the commit can be restored, and all objects before it. The store is
//! listed every 20 ms, past the proxy. Both clocks are the machine's monotonic one.

mod arrivals;
mod day;
mod litestream;
mod pitr;
mod place;
mod report;
mod writer;

pub(super) use writer::Write;

use self::pitr::Pitr;
use crate::Result;
use crate::application;
use crate::size::Size;
use crate::usage;
use crate::verdict::Verdict;
use crate::world::World;
use arrivals::{Arrival, Lags, Span};
use clap::ValueEnum;
use day::Bytes;
use litestream::Litestream;
use pitr_testkit::proxy::Counts;
use place::Place;
use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Time for both after the last commit.
const CATCH_UP: Duration = Duration::from_secs(5);
/// Litestream deletes its smallest files after five minutes. Until then each can be restored, which
/// tells the commits that it holds.
const SECONDS_MAX: i64 = 240;

#[derive(Debug, clap::Args)]
pub(crate) struct Archives {
    /// Seconds for which the application commits, in each of the runs. From 70 on, pitr merges
    /// small objects within the time
    #[arg(long, default_value_t = 150, value_parser = clap::value_parser!(u32).range(10..=SECONDS_MAX))]
    seconds: u32,
    /// Commits a second
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=200))]
    rate: u32,
    /// Size of the database before, at least
    #[arg(long, default_value = "16M")]
    base: Size,
    /// The same seed writes the same data
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only these stores
    #[arg(long = "store", value_delimiter = ',', default_values_t = [Store::Local, Store::S3])]
    stores: Vec<Store>,
}

/// Where the archive is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Store {
    /// A folder on the local disk
    Local,
    /// SeaweedFS on this machine
    S3,
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Store::Local => "local",
            Store::S3 => "s3",
        })
    }
}

/// A program that archives a database.
trait Archiver {
    /// A running process, which is killed when it is dropped.
    type Running: Running;

    fn name(&self) -> String;

    /// Begins to archive. Returns when the state of the database is stored.
    fn start(&self, database: &Path, place: &Place) -> Result<Self::Running>;

    /// Begin of the names of the objects that hold commits.
    fn prefix(&self) -> &'static str;

    /// The range of an object that holds commits, by its name.
    fn span(key: &str) -> Option<Span>;

    /// What the archive holds when the process has ended.
    fn examine(&self, run: &Run<'_>) -> Result<Kept>;
}

trait Running {
    fn pid(&self) -> u32;

    /// Ends the process after everything is archived. Fails if it has ended before.
    fn stop(self) -> Result<()>;
}

/// A run that is over.
struct Run<'a> {
    place: &'a Place,
    world: &'a World,
    /// Number of commits.
    commits: u64,
    /// Seconds from the first commit to the last.
    seconds: f64,
    arrivals: &'a [Arrival],
    /// Bytes that were stored before the first commit.
    before: u64,
}

/// What an archive holds.
struct Kept {
    /// For each object that arrived, ascending: number of commits that can be restored with it and
    /// those before it.
    commits: Vec<u64>,
    /// Number of commits that can be restored, each by itself: at the end, and after everything
    /// that compaction makes superfluous is deleted.
    restorable: (u64, u64),
    bytes: Bytes,
    /// Requests of the command that deletes what is superfluous, if there is one.
    pruned: Option<Counts>,
    /// Changed pages, bytes of a commit, if the archive knows.
    images: Option<f64>,
}

/// The results of a run.
struct Outcome {
    name: String,
    store: String,
    commits: u64,
    seconds: f64,
    /// Size of the archive before the first commit, bytes.
    before: u64,
    kept: Kept,
    lags: Lags,
    /// Processor seconds of the archiving process.
    cpu: f64,
    /// Requests from the first commit to the last, if they are counted.
    counts: Option<Counts>,
}

impl Archives {
    pub(crate) fn run(&self) -> Result<bool> {
        let stores: Vec<String> = self.stores.iter().map(Store::to_string).collect();
        let command = format!(
            "cargo xtask compare archive --seconds {} --rate {} --base {} --seed {} --store {}",
            self.seconds,
            self.rate,
            self.base,
            self.seed,
            stores.join(",")
        );
        println!("{command}");
        let mut verdict = Verdict::default();
        let mut outcomes = Vec::new();
        let mut ratio = f64::NAN;
        for store in &self.stores {
            let ours = self.once(*store, "pitr", Pitr::new, &mut ratio)?;
            report::print(&ours, &mut verdict);
            let theirs = self.once(*store, "litestream", |_| Litestream::new(), &mut ratio)?;
            report::print(&theirs, &mut verdict);
            report::judge(&ours, &theirs, &mut verdict);
            outcomes.extend([ours, theirs]);
        }
        report::keep(&command, self.rate, ratio, &outcomes)?;
        verdict.close(&command)
    }

    /// Archives one run of the application. Sets the ratio at which zstd compresses the database.
    fn once<A: Archiver>(
        &self,
        store: Store,
        bucket: &str,
        archiver: impl FnOnce(&Place) -> Result<A>,
        ratio: &mut f64,
    ) -> Result<Outcome> {
        let world = World::new("compare-archive")?;
        let place = match store {
            Store::Local => Place::local(&world)?,
            Store::S3 => Place::s3(&world, bucket)?,
        };
        let archiver = archiver(&place)?;
        let folder = world.path("application");
        fs::create_dir(&folder)?;
        let mut application = writer::start(&folder, self.base, self.rate, self.seconds, self.seed)?;
        let database = application::path(&application.event("ready")?, "database")?;
        *ratio = writer::compression(&database)?;
        let running = archiver.start(&database, &place)?;
        let before = place.bytes()?;

        let (pid, prefix) = (running.pid(), archiver.prefix());
        let ended = AtomicBool::new(false);
        let (arrivals, during) = thread::scope(|scope| {
            let watching = scope.spawn(|| arrivals::watch(&place, prefix, A::span, &ended));
            let during = During::of(&mut application, &place, pid);
            ended.store(true, Ordering::Release);
            (watching.join(), during)
        });
        let during = during?;
        let arrivals = arrivals.map_err(|_| "the thread that lists the store panicked")??;
        running.stop()?;
        application.end()?;

        let commits = during.commits.len() as u64;
        let run = Run {
            place: &place,
            world: &world,
            commits,
            seconds: during.seconds,
            arrivals: &arrivals,
            before,
        };
        let kept = archiver.examine(&run)?;
        let lags = arrivals::lags(&during.commits, &arrivals, &kept.commits)?;
        Ok(Outcome {
            name: archiver.name(),
            store: place.name(),
            commits,
            seconds: during.seconds,
            before,
            kept,
            lags: Lags::of(lags),
            cpu: during.cpu,
            counts: during.counts,
        })
    }
}

/// What happens while the application commits.
struct During {
    /// Times at which the commits returned.
    commits: Vec<Duration>,
    seconds: f64,
    cpu: f64,
    counts: Option<Counts>,
}

impl During {
    /// Has the application commit, and waits until everything can be archived.
    fn of(application: &mut application::Application, place: &Place, pid: u32) -> Result<During> {
        let (counts, cpu, begun) = (place.counts(), usage::cpu_seconds_of(pid)?, Instant::now());
        application.send("go")?;
        let events = application.events_until("done")?;
        let seconds = begun.elapsed().as_secs_f64();
        let cpu = usage::cpu_seconds_of(pid)? - cpu;
        let counts = place.counts().zip(counts).map(|(now, then)| now.since(&then));
        thread::sleep(CATCH_UP);
        let commits = writer::commits(&events)?;
        Ok(During { commits, seconds, cpu, counts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        archives: Archives,
    }

    fn parse(line: &str) -> std::result::Result<Archives, clap::Error> {
        let words = std::iter::once("archive").chain(line.split_whitespace());
        Line::try_parse_from(words).map(|line| line.archives)
    }

    #[test]
    fn times_beyond_the_life_of_small_files_and_paces_of_nothing_are_refused() {
        let defaults = parse("").unwrap();
        assert_eq!((defaults.seconds, defaults.rate, defaults.seed), (150, 10, 1));
        assert_eq!(defaults.stores, [Store::Local, Store::S3]);
        assert_eq!(parse("--seconds 240 --store s3").unwrap().stores, [Store::S3]);
        for refused in ["--seconds 241", "--seconds 9", "--rate 0", "--base 0M", "--store gcs"] {
            assert!(parse(refused).is_err(), "{refused}");
        }
    }
}
