//! What the handles of an open log share, and how a round of the queue becomes bytes on the disk.

use crate::error::Result;
use crate::layout::Step;
use crate::queue::{Queue, Round, Work};
use crate::retain::Segments;
use crate::rounds::{Locked, Rounds};
use crate::segment::Room;
use crate::{Error, segment};
use pitr_format::Lsn;
use pitr_format::log::Seed;
use pitr_vfs::{Clock, File, FileSystem, Lock};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
    pub(crate) rounds: Rounds,
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
        let (rounds, segments, writer) = (Rounds::new(queue), Mutex::new(segments), Mutex::new(writer));
        Shared { fs, clock, dir, segments, rounds, writer, _held: held }
    }

    pub(crate) fn queue(&self) -> Locked<'_> {
        self.rounds.queue()
    }

    /// The queue, once it has room for more. Leads if nobody else does.
    pub(crate) fn queue_with_room(&self) -> Result<Locked<'_>> {
        loop {
            let queue = self.queue();
            if queue.waiting_bytes() < WAITING_BYTES_MAX {
                return Ok(queue);
            }
            let round = queue.newest();
            self.wait(queue, round)?;
        }
    }

    /// Returns when `round` is durable.
    pub(crate) fn wait<'a>(&'a self, queue: Locked<'a>, round: Round) -> Result<()> {
        self.rounds.wait(queue, round, |work| {
            let end = work.end;
            self.write(work).map(|()| end)
        })
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
