//! The process that writes a log, ships it and merges its objects. It is xtask itself, so that it
//! can be killed and measured. It reports one JSON document a line:
//!
//! - `{"archived": 4711}`: everything below this position is archived;
//! - `{"failure": "..."}`: a call failed, and is tried again;
//! - `{"done": {...}}`: everything is archived and merged.

use crate::Result;
use crate::moments::Rng;
use pitr::archive::{Archive, CompactOptions, Compactor, Error, ShipOptions, Shipper};
use pitr::format::record::Record;
use pitr::format::{FileId, Lsn, PartitionId, SegmentSize, SourceName, TxId};
use pitr::objects::{Location, Objects};
use pitr::vfs::Env;
use pitr::wal::{BatchBuilder, Start, SyncPolicy, Wal, WalOptions};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// Name of the source.
pub(super) const SOURCE: &str = "drill";
/// Small segments: the log has many.
const SEGMENT_BYTES: u32 = 1 << 20;
/// Start of the first segment of a log.
pub(super) const BEGIN: u64 = SEGMENT_BYTES as u64;
/// Transactions between two syncs.
const SYNC_EVERY: u64 = 8;
/// Size of the blocks in the log, bytes.
const BLOCK_BYTES: u64 = 512;
const BLOCKS: u64 = 1000;
/// Pause after a transaction that is written slowly.
const SLOW: Duration = Duration::from_millis(4);
/// Log in a large object, bytes at most.
const LARGE_BYTES: u64 = 16 << 20;
/// Pause after a failed call.
const PAUSE: Duration = Duration::from_millis(50);
/// Pause between two looks for work.
const IDLE: Duration = Duration::from_millis(5);
/// Failed calls after which the process gives up.
const FAILURES_MAX: u64 = 2000;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Part {
    /// Writes a log, and archives it in small objects
    Ship(Ship),
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Ship {
    /// URL of the repository
    pub(super) url: String,
    /// Folder of the log
    pub(super) log: PathBuf,
    /// The log is written up to this position
    #[arg(long)]
    pub(super) until: u64,
    /// Maximum size of a record, bytes
    #[arg(long)]
    pub(super) data_bytes: u64,
    /// Every second part of the log of this size is written slowly, bytes. Small objects of it are
    /// shipped. Otherwise many wait, and are put at the same time
    #[arg(long)]
    pub(super) slow_bytes: Option<u64>,
    #[arg(long)]
    pub(super) object_bytes: u32,
    #[arg(long)]
    pub(super) uploads: usize,
    /// Number of objects that are merged
    #[arg(long)]
    pub(super) compact: usize,
    /// Number of merges into large objects, after everything is shipped
    #[arg(long, default_value_t = 0)]
    pub(super) large: u64,
    #[arg(long)]
    pub(super) seed: u64,
}

impl Part {
    pub(crate) fn run(self) -> Result<bool> {
        match self {
            Part::Ship(ship) => ship.run(),
        }
    }
}

/// A result that passes from one thread to another.
type Tried<T> = std::result::Result<T, String>;

/// What happened so far.
#[derive(Debug, Default)]
struct Tally {
    failures: AtomicU64,
    merges: AtomicU64,
    /// Everything is shipped: the merging ends when nothing is due.
    is_shipped: AtomicBool,
}

impl Tally {
    /// Reports a failure. An error if there are too many.
    fn note(&self, error: &Error) -> Tried<()> {
        say(&json!({ "failure": error.to_string() }));
        thread::sleep(PAUSE);
        match self.failures.fetch_add(1, Ordering::Relaxed) {
            FAILURES_MAX.. => Err(format!("too many failures, the last one: {error}")),
            _ => Ok(()),
        }
    }

    /// Calls `work` until it succeeds.
    fn again<T>(&self, mut work: impl FnMut() -> pitr::archive::Result<T>) -> Tried<T> {
        loop {
            match work() {
                Ok(done) => return Ok(done),
                Err(error @ Error::Fenced { .. }) => return Err(error.to_string()),
                Err(error) => self.note(&error)?,
            }
        }
    }
}

impl Ship {
    fn run(&self) -> Result<bool> {
        let env = Env::system();
        let wal = open_log(&env, &self.log)?;
        let objects = Objects::open(&Location::parse(&self.url)?, &env)?;
        let archive = Archive::new(objects, SourceName::new(SOURCE)?);
        let tally = Tally::default();
        let options = ShipOptions {
            object_bytes: self.object_bytes,
            max_concurrent_uploads: self.uploads,
            compact_count: self.compact,
            ..ShipOptions::default()
        };
        let mut shipper = tally.again(|| Shipper::claim(&archive, &wal, options))?;
        say_archived(&shipper);
        let is_written = AtomicBool::new(false);
        let compactor = shipper.compactor().clone();
        thread::scope(|scope| -> Result<()> {
            let writing = scope.spawn(|| {
                let written = self.write(&wal).map_err(|error| error.to_string());
                is_written.store(true, Ordering::Release);
                written
            });
            let merging = scope.spawn(|| merge(&compactor, &tally));
            let shipped = ship(&mut shipper, &wal, &is_written, &tally);
            tally.is_shipped.store(true, Ordering::Release);
            let joined = "a thread died";
            writing.join().map_err(|_| joined)??;
            merging.join().map_err(|_| joined)??;
            Ok(shipped?)
        })?;
        self.merge_large(&archive, &shipper, &wal, &tally)?;
        tally.again(|| shipper.writer().close())?;
        let (failures, merges) =
            (tally.failures.load(Ordering::Relaxed), tally.merges.load(Ordering::Relaxed));
        let durable = wal.durable().get();
        say(&json!({ "done": { "durable": durable, "failures": failures, "merges": merges } }));
        Ok(true)
    }

    /// Merges objects that are as large as the shipper makes them. All of them count.
    fn merge_large(&self, archive: &Archive, shipper: &Shipper, wal: &Wal, tally: &Tally) -> Result<()> {
        if self.large == 0 {
            return Ok(());
        }
        let catalog = tally.again(|| archive.catalog())?;
        let options =
            CompactOptions { count: self.compact, span_bytes: LARGE_BYTES, ..CompactOptions::default() };
        let compactor = Compactor::new(shipper.writer().clone(), &catalog, wal.timeline(), options);
        for _ in 0..self.large {
            if tally.again(|| compactor.compact())?.is_some() {
                tally.merges.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Writes transactions of different sizes, each as a batch of its own.
    fn write(&self, wal: &Wal) -> Result<()> {
        let mut rng = Rng(self.seed ^ wal.end().get());
        let mut data = vec![0; usize::try_from(self.data_bytes.max(BLOCK_BYTES))?];
        for nth in 1.. {
            if wal.end().get() >= self.until {
                break;
            }
            // A position is never used twice, and neither is the number of a transaction.
            let (tx, mut batch) = (TxId::new(wal.end().get().max(1)), BatchBuilder::new());
            let len = if rng.below(2) == 0 { BLOCK_BYTES } else { 1 + rng.below(self.data_bytes) };
            let data = &mut data[..usize::try_from(len)?];
            data.iter_mut().for_each(|byte| *byte = rng.bits() as u8);
            let record = match len {
                BLOCK_BYTES => Record::Image { file: FileId::FIRST, block: rng.below(BLOCKS), data },
                _ => Record::Data(data),
            };
            batch.push(PartitionId::FIRST, tx, &record)?;
            batch.push_commit(PartitionId::FIRST, tx, None, None, b"")?;
            wal.append(batch)?;
            wal.flush()?;
            let is_slow = self.slow_bytes.is_some_and(|bytes| wal.end().get() / bytes % 2 == 1);
            if is_slow || u64::is_multiple_of(nth, SYNC_EVERY) {
                wal.sync()?;
            }
            if is_slow {
                thread::sleep(SLOW);
            }
        }
        wal.sync()?;
        Ok(())
    }
}

/// Opens the log, or creates it.
fn open_log(env: &Env, dir: &Path) -> Result<Wal> {
    let options = WalOptions { sync: SyncPolicy::Never, ..WalOptions::default() };
    match Wal::open(env, dir, Lsn::ORIGIN, &options) {
        Err(pitr::wal::Error::NoLog { .. }) => {
            let segment_size = SegmentSize::new(SEGMENT_BYTES)?;
            let start = Start { segment_size, ..Start::first(env.random_bytes()?) };
            Ok(Wal::create(env, dir, &start, &options)?)
        }
        opened => Ok(opened?.0),
    }
}

/// Prints a line. The process ends if nobody reads it.
fn say(line: &Value) {
    println!("{line}");
}

fn say_archived(shipper: &Shipper) {
    say(&json!({ "archived": shipper.archived().unwrap_or(Lsn::ORIGIN).get() }));
}

/// Ships until everything is written and archived.
fn ship(shipper: &mut Shipper, wal: &Wal, is_written: &AtomicBool, tally: &Tally) -> Tried<()> {
    loop {
        // Read first: what is written afterwards is shipped in the next turn.
        let is_last = is_written.load(Ordering::Acquire);
        let durable = wal.durable();
        match tally.again(|| shipper.ship_some(wal, durable))? {
            Some(_) => say_archived(shipper),
            None if is_last => return Ok(()),
            None => thread::sleep(IDLE),
        }
    }
}

/// Merges until everything is shipped and nothing is due.
fn merge(compactor: &Compactor, tally: &Tally) -> Tried<()> {
    loop {
        let is_last = tally.is_shipped.load(Ordering::Acquire);
        while compactor.is_due() && tally.again(|| compactor.compact())?.is_some() {
            tally.merges.fetch_add(1, Ordering::Relaxed);
        }
        if is_last {
            return Ok(());
        }
        thread::sleep(IDLE);
    }
}
