//! Group commit: threads and files around the [`Queue`].
//!
//! Whoever finds nobody leading leads: it takes all that is placed, writes it and syncs once for everyone.
//! The others sleep, each on its own. At the end of a round the leader first wakes one waiter of the next round,
//! which leads it while the leader wakes those whose records it made durable. These see by one atomic number that
//! they are done and never come back for the lock: a herd that does is what caps a group commit.

use crate::error::Result;
use crate::layout::Step;
use crate::queue::{Queue, Round, Turn, Work};
use crate::retain::Segments;
use crate::segment::Room;
use crate::{Error, segment};
use pitr_format::Lsn;
use pitr_format::log::Seed;
use pitr_vfs::{Clock, File, FileSystem, Lock};
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};

/// Bytes that may wait for a leader before appending waits too. With one builder for each appending thread
/// this bounds what the log holds in memory.
const WAITING_BYTES_MAX: usize = 8 << 20;

/// With fewer syncs in a segment than this, writing it full of zeros first costs more than it saves.
const SYNCS_MIN: u32 = 64;

/// What all handles of an open log share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) fs: Arc<dyn FileSystem>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) dir: PathBuf,
    pub(crate) segments: Mutex<Segments>,
    queue: Mutex<Waited>,
    /// Rounds below this are durable: the queue's word, for those who don't hold its lock.
    done: AtomicU64,
    writer: Mutex<Writer>,
    _held: Held,
}

/// The queue, and who sleeps until something in it changes. The waiters of a round are either those of the one that
/// is being written or those of the one that fills: even and odd.
#[derive(Debug)]
pub(crate) struct Waited {
    queue: Queue,
    sleeping: [Vec<Thread>; 2],
}

impl Waited {
    fn sleepers_of(&mut self, round: Round) -> &mut Vec<Thread> {
        &mut self.sleeping[usize::from(round.0 % 2 == 1)]
    }
}

impl Deref for Waited {
    type Target = Queue;

    fn deref(&self) -> &Queue {
        &self.queue
    }
}

impl DerefMut for Waited {
    fn deref_mut(&mut self) -> &mut Queue {
        &mut self.queue
    }
}

/// The lock file's lock, held for as long as the log is open.
pub(crate) struct Held {
    _lock: Lock,
}

impl Held {
    pub(crate) fn new(lock: Lock) -> Self {
        Held { _lock: lock }
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Held")
    }
}

/// The segment that is written to.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) file: Arc<dyn File>,
    pub(crate) path: PathBuf,
    pub(crate) seed: Seed,
    /// Begin of the segment.
    pub(crate) begin: Lsn,
    /// Syncs of this segment so far.
    syncs: u32,
}

/// A mutex whose holder panicked guards data that is still whole: every change below it is made at once or
/// not at all.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(
        fs: Arc<dyn FileSystem>,
        clock: Arc<dyn Clock>,
        dir: PathBuf,
        queue: Queue,
        segments: Segments,
        writer: Writer,
        held: Held,
    ) -> Self {
        let queue = Mutex::new(Waited { queue, sleeping: [Vec::new(), Vec::new()] });
        let (segments, writer) = (Mutex::new(segments), Mutex::new(writer));
        Shared { fs, clock, dir, segments, queue, done: AtomicU64::new(0), writer, _held: held }
    }

    pub(crate) fn queue(&self) -> MutexGuard<'_, Waited> {
        lock(&self.queue)
    }

    /// The queue, once it has room for more. Leads if nobody else does.
    pub(crate) fn queue_with_room(&self) -> Result<MutexGuard<'_, Waited>> {
        loop {
            let queue = self.queue();
            if queue.waiting_bytes() < WAITING_BYTES_MAX {
                return Ok(queue);
            }
            let round = queue.newest();
            self.wait(queue, round)?;
        }
    }

    /// True once `round` is durable.
    pub(crate) fn is_done(&self, round: Round) -> bool {
        round.0 < self.done.load(Ordering::Acquire)
    }

    /// Returns when `round` is durable.
    pub(crate) fn wait<'a>(&'a self, mut queue: MutexGuard<'a, Waited>, round: Round) -> Result<()> {
        loop {
            match queue.turn(round)? {
                Turn::Done => return Ok(()),
                Turn::Lead(work) => {
                    drop(queue);
                    self.lead(work);
                }
                Turn::Wait => {
                    queue.sleepers_of(round).push(thread::current());
                    drop(queue);
                    thread::park();
                    if self.is_done(round) {
                        return Ok(());
                    }
                }
            }
            queue = self.queue();
        }
    }

    fn lead(&self, work: Work) {
        let mut report = Report { shared: self, round: work.round, outcome: Some(Err(Error::Panicked)) };
        let end = work.end;
        report.outcome = Some(self.write(work).map(|()| end));
    }

    /// Writes and syncs what a leader took.
    fn write(&self, work: Work) -> Result<()> {
        let mut writer = lock(&self.writer);
        let mut durable = work.durable;
        for step in work.steps {
            match step {
                Step::Write(mut batch) => {
                    let (offset, seed) = (batch.lsn.since(writer.begin), writer.seed);
                    let written = writer.file.write_all_at(batch.finish(seed, durable), offset);
                    written.map_err(Error::io("write", &writer.path))?;
                }
                Step::Begin(mut header) => {
                    // The header seals the segment before it: that one must be durable first.
                    writer.sync()?;
                    durable = header.follows.end;
                    let free = lock(&self.segments).take_free();
                    header.recycled = free.is_some();
                    let file = match free {
                        Some(free) => segment::recycle(self.fs.as_ref(), &self.dir, &free, &header)?,
                        None => segment::create(self.fs.as_ref(), &self.dir, &header, writer.room_of_next())?,
                    };
                    *writer = Writer::new(file, segment::path_of(&self.dir, header.segment), &header);
                    lock(&self.segments).push(&header);
                }
            }
        }
        writer.sync()
    }
}

impl Writer {
    pub(crate) fn new(file: Arc<dyn File>, path: PathBuf, header: &pitr_format::log::SegmentHeader) -> Self {
        let begin = header.segment_size.start_of(header.segment).unwrap_or(Lsn::MAX);
        Writer { file, path, seed: header.seed(), begin, syncs: 0 }
    }

    /// The next segment will be used like this one.
    fn room_of_next(&self) -> Room {
        if self.syncs < SYNCS_MIN { Room::Sparse } else { Room::Written }
    }

    fn sync(&mut self) -> Result<()> {
        self.syncs = self.syncs.saturating_add(1);
        self.file.sync_data().map_err(Error::io("sync", &self.path))
    }
}

/// Reports a leader's outcome when it goes out of scope: also if the leader panics, or everyone would wait
/// for ever.
struct Report<'a> {
    shared: &'a Shared,
    round: Round,
    outcome: Option<Result<Lsn>>,
}

impl Drop for Report<'_> {
    fn drop(&mut self) {
        let outcome = self.outcome.take().unwrap_or(Err(Error::Panicked)).map_err(Arc::new);
        let failed = outcome.is_err();
        let next = Round(self.round.0 + 1);
        let mut queue = self.shared.queue();
        queue.finish(outcome);
        if !failed {
            self.shared.done.store(next.0, Ordering::Release);
        }
        let done = std::mem::take(queue.sleepers_of(self.round));
        let following = if failed { usize::MAX } else { 1 };
        let sleepers = queue.sleepers_of(next);
        let first = sleepers.len().saturating_sub(following);
        let following = sleepers.split_off(first);
        drop(queue);
        following.iter().chain(&done).for_each(Thread::unpark);
    }
}
