//! The acts of a run, and the ends of its lives.

use super::Counts;
use super::model::{Event, Model, Placed};
use crate::help::{P, env, options, start};
use crate::workload::{history, payloads, transaction};
use pitr_format::record::Record;
use pitr_format::{Lsn, Severity, Timestamp, TxId};
use pitr_vfs::FileSystem;
use pitr_vfs::sim::{Disk, Fault, Mode, Op, Rng, SimClock, SimFs, Survivors, Trace};
use pitr_wal::{Appended, BatchBuilder, Error, LogReader, Ticket, Wal};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Minimum counts of a hundred runs.
pub(crate) const EVERYTHING: [&str; 20] = [
    "lives",
    "commits",
    "rounds of several batches",
    "appends",
    "tickets",
    "transactions in two parts",
    "records without a commit",
    "appends while a sync ran",
    "removals while a sync ran",
    "skips",
    "segments recycled",
    "batches followed",
    "whole readings",
    "failed syncs",
    "full disks",
    "failed openings",
    "closings",
    "kills",
    "power losses",
    "holes refused",
];

const SEGMENT_BYTES: [u32; 6] = [16 << 10, 16 << 10, 32 << 10, 32 << 10, 128 << 10, LARGE];
/// Segments in which a round may leave more than one batch, and a note that fills one of them.
const LARGE: u32 = 4 << 20;
const FILLING_BYTES: usize = (1 << 20) + 100;

/// A run. See the head of [`super`].
#[derive(Debug)]
pub(crate) struct Run {
    rng: Rng,
    segment_bytes: u32,
    clock: Arc<SimClock>,
    fs: SimFs,
    /// Number of ops in the trace of earlier lives.
    begun_at: usize,
    /// The log left by earlier lives.
    before: Model,
    /// The log when this life started to write.
    opened: Model,
    now: Model,
    events: Vec<Event>,
    next_tx: u64,
    counts: Counts,
}

/// An open log and the handles of its user.
struct Open {
    wal: Wal,
    tickets: Vec<Ticket>,
    follower: LogReader,
    /// A transaction with records in the log and no commit yet: its number and its start.
    half: Option<(u64, Lsn)>,
}

fn dir() -> &'static Path {
    Path::new("/log")
}

fn file(segment: u64) -> PathBuf {
    dir().join(format!("{segment:016x}.seg"))
}

impl Run {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let segment_bytes = SEGMENT_BYTES[rng.below(6) as usize];
        Run {
            rng,
            segment_bytes,
            clock: Arc::new(SimClock::new(Timestamp::from_micros(1_000))),
            fs: SimFs::new(),
            begun_at: 0,
            before: Model::default(),
            opened: Model::default(),
            now: Model::default(),
            events: Vec::new(),
            next_tx: 1,
            counts: Counts::new(),
        }
    }

    /// Runs all lives, and checks the remaining log.
    pub(crate) fn run(mut self) -> Counts {
        for _ in 0..2 + self.rng.below(4) {
            self.live();
            self.die();
        }
        drop(self.come_back());
        self.counts
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn event(&mut self, event: Event) {
        self.fs.ack(self.events.len() as u64);
        self.now.note(&event);
        self.events.push(event);
    }

    fn live(&mut self) {
        self.count("lives");
        let mut open = self.come_back();
        match self.rng.below(6) {
            0 => self.fs.inject(Fault::Sync { nth: self.rng.below(30) }),
            1 => self.fs.inject(Fault::Full { nth: self.rng.below(50) }),
            _ => {}
        }
        for _ in 0..self.rng.below(40) {
            if let Err(error) = self.act(&mut open) {
                self.check_failed(&open, &error);
                break;
            }
        }
        self.fs.during_next_sync(|| ());
        self.fs.mend();
    }

    /// Opens the log of the previous life, or creates it.
    fn come_back(&mut self) -> Open {
        if self.rng.once_in(5) {
            self.open_into_a_fault();
        }
        let archived_to = if self.rng.once_in(3) { self.before.acked } else { Lsn::ORIGIN };
        let (fs, clock) = (Arc::new(self.fs.clone()), Arc::clone(&self.clock) as _);
        self.now = self.before.clone();
        let wal = match Wal::open(&env(fs, clock), dir(), archived_to, &options()) {
            Ok((wal, recovered)) => {
                let found = history(&mut wal.reader(wal.first()).unwrap()).unwrap();
                assert_eq!(wal.durable(), recovered.end);
                self.now.settle(&recovered, &found);
                if self.rng.once_in(4) {
                    self.damage_is_refused(recovered.end);
                }
                wal
            }
            Err(Error::NoLog { .. }) if self.before.acked == Lsn::ORIGIN => self.create(),
            Err(other) => panic!("the log does not come back: {other}"),
        };
        self.opened = self.now.clone();
        self.event(Event::Opened);
        let follower = wal.reader(wal.first()).unwrap();
        Open { wal, tickets: Vec::new(), follower, half: None }
    }

    fn create(&self) -> Wal {
        let (fs, clock) = (Arc::new(self.fs.clone()), Arc::clone(&self.clock) as _);
        Wal::create(&env(fs, clock), dir(), &start(self.segment_bytes), &options()).unwrap()
    }

    /// Opening fails in the middle; the next opening must succeed.
    fn open_into_a_fault(&mut self) {
        let nth = self.rng.below(8);
        let fault = if self.rng.once_in(2) { Fault::Sync { nth } } else { Fault::Full { nth } };
        self.fs.inject(fault);
        let clock = Arc::clone(&self.clock) as _;
        match Wal::open(&env(Arc::new(self.fs.clone()), clock), dir(), Lsn::ORIGIN, &options()) {
            Err(Error::Io { .. }) => self.count("failed openings"),
            Err(Error::NoLog { .. }) | Ok(_) => {}
            Err(other) => panic!("a fault turned into {other}"),
        }
        self.fs.mend();
    }

    /// Performs an act of the log's user.
    fn act(&mut self, open: &mut Open) -> Result<(), Error> {
        self.clock.set(Timestamp::from_micros(1_000 + self.rng.below(100_000) as i64));
        match self.rng.below(40) {
            0..14 => self.commit(open),
            14..20 => self.append(open),
            20..23 => self.submit(open),
            23..26 => self.wait(open),
            26..28 => self.first_part(open),
            28..30 => self.no_commit(open),
            30..32 => self.sync(open),
            32 => self.skip(open),
            33..35 => self.remove(open),
            35..38 => self.follow(open),
            _ => {
                let found = history(&mut open.wal.reader(open.wal.first())?)?;
                self.now.compare(&found, open.wal.first(), open.wal.durable());
                self.count("whole readings");
                Ok(())
            }
        }
    }

    /// The records of a whole transaction, or the missing records of one that the log has in part.
    fn builder(&mut self, open: &mut Open) -> (BatchBuilder, Option<Lsn>) {
        if let Some((tx, first)) = open.half.take() {
            let mut builder = BatchBuilder::new();
            builder.push_commit(P, TxId::new(tx), None, Some(first), &tx.to_le_bytes()).unwrap();
            self.count("transactions in two parts");
            return (builder, Some(first));
        }
        self.next_tx += 1;
        (transaction(self.next_tx), None)
    }

    fn placed(&mut self, appended: &Appended, first: Option<Lsn>) {
        for commit in &appended.commits {
            assert!(commit.time >= self.now.time(), "a stamp goes back");
            let (tx, end, time) = (commit.tx.get(), commit.lsn, commit.time);
            self.now.place(Placed { tx, first: first.unwrap_or(appended.first), end, time });
        }
    }

    fn acked(&mut self, open: &Open, lsn: Lsn) {
        assert!(open.wal.durable() >= lsn, "acknowledged and not durable");
        self.event(Event::Acked(lsn));
    }

    fn commit(&mut self, open: &mut Open) -> Result<(), Error> {
        if self.segment_bytes == LARGE && self.rng.once_in(2) {
            let mut filling = BatchBuilder::new();
            filling.push(P, TxId::NONE, &Record::Note(&vec![7; FILLING_BYTES])).unwrap();
            open.wal.append(filling)?;
            self.count("rounds of several batches");
        }
        let (builder, first) = self.builder(open);
        let others = self.others_act(open);
        // Like `commit`, except that the positions are known if it fails.
        let ticket = open.wal.submit(builder)?;
        self.placed(ticket.appended(), first);
        let outcome = ticket.wait();
        self.take_over(&others);
        self.count("commits");
        self.acked(open, outcome?.end);
        Ok(())
    }

    fn append(&mut self, open: &mut Open) -> Result<(), Error> {
        let (mut builder, first) = self.builder(open);
        let appended = open.wal.append(&mut builder)?;
        assert!(builder.is_empty() && appended.end > open.wal.durable());
        self.placed(&appended, first);
        self.count("appends");
        Ok(())
    }

    fn submit(&mut self, open: &mut Open) -> Result<(), Error> {
        let (builder, first) = self.builder(open);
        let ticket = open.wal.submit(builder)?;
        assert!(!ticket.is_durable());
        self.placed(ticket.appended(), first);
        open.tickets.push(ticket);
        self.count("tickets");
        Ok(())
    }

    /// Waits for any ticket, in any order.
    fn wait(&mut self, open: &mut Open) -> Result<(), Error> {
        if open.tickets.is_empty() {
            return Ok(());
        }
        let ticket = open.tickets.swap_remove(self.rng.below(open.tickets.len() as u64) as usize);
        assert_eq!(ticket.is_durable(), ticket.appended().end <= open.wal.durable());
        let others = self.others_act(open);
        let outcome = ticket.wait();
        self.take_over(&others);
        self.acked(open, outcome?.end);
        Ok(())
    }

    /// The records of a transaction without its commit, which may follow later.
    fn first_part(&mut self, open: &mut Open) -> Result<(), Error> {
        self.next_tx += 1;
        let (tx, mut builder) = (self.next_tx, BatchBuilder::new());
        for payload in payloads(tx) {
            builder.push(P, TxId::new(tx), &Record::Data(&payload)).unwrap();
        }
        if !builder.is_empty() && open.half.is_none() {
            open.half = Some((tx, open.wal.append(builder)?.first));
        }
        Ok(())
    }

    fn no_commit(&mut self, open: &mut Open) -> Result<(), Error> {
        self.next_tx += 1;
        let (tx, time) = (TxId::new(self.next_tx), self.now.time());
        let record = match self.rng.below(3) {
            0 => Record::Watermark(time),
            1 => Record::Abort { first_lsn: open.wal.end() },
            _ => Record::Note(b"state of the engine"),
        };
        let mut builder = BatchBuilder::new();
        builder.push(P, tx, &record).unwrap();
        open.wal.append(builder)?;
        self.count("records without a commit");
        Ok(())
    }

    fn sync(&mut self, open: &mut Open) -> Result<(), Error> {
        let end = open.wal.end();
        let others = self.others_act(open);
        let synced = open.wal.sync();
        self.take_over(&others);
        let synced = synced?;
        assert!(synced >= end, "synced to {synced}, not to {end}");
        self.acked(open, synced);
        Ok(())
    }

    fn skip(&mut self, open: &mut Open) -> Result<(), Error> {
        self.now.skips.push(open.wal.end());
        open.half = None;
        let on = open.wal.skip()?;
        self.acked(open, on);
        self.event(Event::Skipped(on));
        self.count("skips");
        Ok(())
    }

    fn remove(&mut self, open: &mut Open) -> Result<(), Error> {
        let placed = self.now.placed.len() as u64;
        let lsn = match self.rng.below(placed + 1) {
            nth if nth < placed => self.now.placed[nth as usize].end,
            _ => open.wal.durable(),
        };
        self.event(Event::Removing(lsn.min(open.wal.durable())));
        match open.wal.remove_below(lsn) {
            // A failed removal does no harm; the log continues.
            Err(Error::Io { .. }) => return Ok(()),
            other => drop(other?),
        }
        let names = self.fs.list(dir()).unwrap();
        if names.iter().any(|name| name.to_string_lossy().ends_with(".free")) {
            self.count("segments recycled");
        }
        Ok(())
    }

    fn follow(&mut self, open: &mut Open) -> Result<(), Error> {
        for _ in 0..self.rng.below(6) {
            match open.follower.next_batch() {
                Ok(Some(batch)) => {
                    assert!(batch.end() <= open.wal.durable(), "handed out and not durable");
                    self.event(Event::HandedOut(batch.header.lsn, batch.bytes));
                    self.count("batches followed");
                }
                Ok(None) => break,
                Err(Error::Removed { first, .. }) => {
                    assert_eq!(first, open.wal.first());
                    open.follower = open.wal.reader(first)?;
                }
                Err(other) => panic!("{other}"),
            }
        }
        Ok(())
    }

    /// The acts of other callers while the next sync runs. Returns the place of their appended
    /// records.
    fn others_act(&mut self, open: &Open) -> Arc<Mutex<Vec<Appended>>> {
        let done = Arc::new(Mutex::new(Vec::new()));
        let (wal, durable, theirs) = (open.wal.clone(), open.wal.durable(), Arc::clone(&done));
        match self.rng.below(10) {
            0..3 => {
                self.next_tx += 1;
                let builder = transaction(self.next_tx);
                self.fs.during_next_sync(move || theirs.lock().unwrap().push(wal.append(builder).unwrap()));
            }
            3 => {
                self.event(Event::Removing(durable));
                self.fs.during_next_sync(move || drop(wal.remove_below(durable)));
                self.count("removals while a sync ran");
            }
            _ => {}
        }
        done
    }

    fn take_over(&mut self, others: &Mutex<Vec<Appended>>) {
        self.fs.during_next_sync(|| ());
        for appended in others.lock().unwrap().drain(..) {
            self.placed(&appended, None);
            self.count("appends while a sync ran");
        }
    }

    /// After a failure nothing is acknowledged, and durable records can still be read.
    fn check_failed(&mut self, open: &Open, error: &Error) {
        let Error::Poisoned { cause } = error else { panic!("{error}") };
        let Error::Io { source, .. } = cause.as_ref() else { panic!("{cause}") };
        let full = source.kind() == std::io::ErrorKind::StorageFull;
        self.count(if full { "full disks" } else { "failed syncs" });
        assert!(open.wal.commit(transaction(u64::MAX)).is_err() && open.wal.sync().is_err());
        assert!(open.wal.append(transaction(u64::MAX)).is_err() && open.wal.skip().is_err());
        let found = history(&mut open.wal.reader(open.wal.first()).unwrap()).unwrap();
        self.now.compare(&found, open.wal.first(), open.wal.durable());
    }

    /// Ends the life: the log is closed, its process is killed, or the power is lost.
    fn die(&mut self) {
        let trace = self.fs.trace();
        match self.rng.below(6) {
            0 => {
                self.count("closings");
                self.before = self.now.clone();
                self.begun_at = trace.ops.len();
            }
            1 => {
                self.count("kills");
                let cut = self.cut(&trace);
                self.fs = SimFs::after_kill(&trace, cut);
                self.begun_at = cut;
            }
            _ => {
                self.count("power losses");
                let cut = self.cut(&trace);
                let mode = Mode::ALL[self.rng.below(5) as usize];
                self.fs = SimFs::on(Survivors::at(&trace, cut).disk(mode, self.rng.draw()));
                self.begun_at = 0;
            }
        }
        self.events.clear();
    }

    /// Chooses the end of this life, and what the user knows at that time.
    fn cut(&mut self, trace: &Trace) -> usize {
        let len = trace.ops.len();
        let cut = match self.rng.below(3) {
            0 => len,
            // The last ops include a round in progress; the first ops open the log.
            1 => len - self.rng.below(12.min(len - self.begun_at + 1) as u64) as usize,
            _ => self.begun_at + self.rng.below((len - self.begun_at + 1) as u64) as usize,
        };
        let told = trace.ops[self.begun_at..cut].iter().filter(|op| matches!(op, Op::Ack(_))).count();
        if told > 0 {
            self.before = self.opened.clone();
            (self.before.placed, self.before.skips) = (self.now.placed.clone(), self.now.skips.clone());
            self.events[..told].iter().for_each(|event| self.before.note(event));
        }
        cut
    }

    /// A flipped bit or a lost file below a durable point that the archive states is refused, with
    /// its position.
    fn damage_is_refused(&mut self, durable: Lsn) {
        let fs = SimFs::on(self.fs.durable_disk());
        let clock = Arc::clone(&self.clock);
        let (wal, _) =
            Wal::open(&env(Arc::new(fs.clone()), Arc::clone(&clock) as _), dir(), durable, &options())
                .unwrap();
        let found = history(&mut wal.reader(wal.first()).unwrap()).unwrap();
        drop(wal);
        let mut disk = fs.durable_disk();
        if found.batches.is_empty() {
            return;
        }
        let (lsn, bytes) =
            found.batches.iter().nth(self.rng.below(found.batches.len() as u64) as usize).unwrap();
        self.damage(&mut disk, *lsn, bytes);
        let opened = Wal::open(&env(Arc::new(SimFs::on(disk)), clock), dir(), durable, &options());
        let read = opened.and_then(|(wal, _)| history(&mut wal.reader(wal.first())?));
        match read {
            Err(error @ Error::Hole { lsn: at, .. }) => {
                assert_eq!((at, error.severity()), (*lsn, Severity::Fatal))
            }
            other => panic!("damage at {lsn}: {other:?}"),
        }
        self.count("holes refused");
    }

    fn damage(&mut self, disk: &mut Disk, lsn: Lsn, bytes: &[u8]) {
        let (size, at) = (u64::from(self.segment_bytes), self.rng.below(bytes.len() as u64));
        let flipped = bytes[at as usize] ^ (1 << self.rng.below(8));
        assert!(disk.damage(&file(lsn.get() / size), lsn.get() % size + at, &[flipped]));
    }
}
