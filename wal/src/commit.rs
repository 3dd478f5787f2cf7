//! Group commit: threads and files around the [`Queue`].
//!
//! Whoever finds nobody leading leads: it takes all that is placed, writes it and syncs once for everyone.
//! Waiters of even and odd rounds sleep on different condition variables, so that the end of a round wakes
//! those whose records it made durable, and of the next round only one, to lead it.

use crate::error::Result;
use crate::layout::Step;
use crate::queue::{Queue, Round, Turn, Work};
use crate::retain::Segments;
use crate::segment::Room;
use crate::{Error, segment};
use pitr_format::Lsn;
use pitr_format::log::Seed;
use pitr_vfs::{Clock, File, FileSystem, Lock};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

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
    queue: Mutex<Queue>,
    /// For the waiters of even and of odd rounds.
    rounds: [Condvar; 2],
    writer: Mutex<Writer>,
    _held: Held,
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
        let (queue, writer) = (Mutex::new(queue), Mutex::new(writer));
        let rounds = [Condvar::new(), Condvar::new()];
        Shared { fs, clock, dir, segments: Mutex::new(segments), queue, rounds, writer, _held: held }
    }

    pub(crate) fn queue(&self) -> MutexGuard<'_, Queue> {
        lock(&self.queue)
    }

    /// The queue, once it has room for more. Leads if nobody else does.
    pub(crate) fn queue_with_room(&self) -> Result<MutexGuard<'_, Queue>> {
        let mut queue = self.queue();
        while queue.waiting_bytes() >= WAITING_BYTES_MAX {
            let round = queue.newest();
            queue = self.wait(queue, round)?;
        }
        Ok(queue)
    }

    /// Returns when `round` is durable.
    pub(crate) fn wait<'a>(
        &'a self,
        mut queue: MutexGuard<'a, Queue>,
        round: Round,
    ) -> Result<MutexGuard<'a, Queue>> {
        loop {
            queue = match queue.turn(round)? {
                Turn::Done => return Ok(queue),
                Turn::Wait => self.waiters_of(round).wait(queue).unwrap_or_else(PoisonError::into_inner),
                Turn::Lead(work) => {
                    drop(queue);
                    self.lead(work);
                    self.queue()
                }
            };
        }
    }

    fn waiters_of(&self, round: Round) -> &Condvar {
        &self.rounds[usize::from(round.0 % 2 == 1)]
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
                Step::Begin(header) => {
                    // The header seals the segment before it: that one must be durable first.
                    writer.sync()?;
                    durable = header.follows.end;
                    let room = writer.room_of_next();
                    let file = segment::create(self.fs.as_ref(), &self.dir, &header, room)?;
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
        self.shared.queue().finish(outcome);
        self.shared.waiters_of(self.round).notify_all();
        let next = self.shared.waiters_of(Round(self.round.0 + 1));
        if failed { next.notify_all() } else { next.notify_one() }
    }
}
