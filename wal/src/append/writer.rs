//! Writes the rounds of the commit queue to the segment files.

use super::layout::Step;
use super::queue::{Round, Work};
use super::rounds::Locked;
use crate::options::SyncPolicy;
use crate::segments::{Room, segment};
use crate::shared::{Shared, lock};
use crate::{Error, Result};
use pitr_format::Lsn;
use pitr_format::index::SegmentIndex;
use pitr_format::log::{Seed, SegmentHeader};
use pitr_vfs::File;
use std::path::PathBuf;
use std::sync::Arc;

/// A segment that is synced fewer times than this is not filled with zeros in advance: that would
/// cost more than it saves.
const SYNCS_MIN: u32 = 64;

/// The segment that is being written.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) file: Arc<dyn File>,
    pub(crate) path: PathBuf,
    pub(crate) seed: Seed,
    /// Start of the segment.
    pub(crate) begin: Lsn,
    /// From this position on the next segment's file should be prepared; `None` once that was
    /// requested.
    spare_from: Option<Lsn>,
    /// Syncs of this segment so far.
    syncs: u32,
}

impl Shared {
    /// The queue, once it has room for more records.
    pub(crate) fn queue_with_room(&self) -> Result<Locked<'_>> {
        self.rounds.queue_with_room(self.options.waiting_bytes_max, |work| self.write(work))
    }

    /// Returns when `round` is durable.
    pub(crate) fn wait<'a>(&'a self, queue: Locked<'a>, round: Round) -> Result<()> {
        let delay = match self.options.sync {
            SyncPolicy::Within(delay) => Some(delay),
            _ => None,
        };
        let gather = delay.map(|delay| move || self.env.clock.sleep(delay));
        let gather = gather.as_ref().map(|gather| gather as &dyn Fn());
        self.rounds.wait(queue, round, gather, |work| {
            let end = work.end;
            self.write(work)?;
            self.sync(&mut lock(&self.writer))?;
            Ok(end)
        })
    }

    /// Writes the waiting records, unless there is a leader; without `all` only if enough bytes
    /// wait.
    pub(crate) fn flush(&self, all: bool) {
        self.rounds.flush(all, |work| self.write(work));
    }

    /// See [`crate::Wal::flush`].
    pub(crate) fn write_out(&self) -> Result<()> {
        self.rounds.write_out(|work| self.write(work))
    }

    /// Performs a leader's work without a final sync. Returns the durable point, which moves only
    /// where a segment ends.
    fn write(&self, work: Work) -> Result<Lsn> {
        let mut writer = lock(&self.writer);
        let mut durable = work.durable;
        let mut buffers = Vec::new();
        for step in work.steps {
            match step {
                Step::Write(mut batch) => {
                    let (offset, seed) = (batch.lsn.since(writer.begin), writer.seed);
                    let bytes = batch.finish(seed, durable);
                    writer.file.write_all_at(bytes, offset).map_err(Error::io("write", &writer.path))?;
                    self.counters.batches.add(1);
                    self.counters.batch_bytes.add(bytes.len() as u64);
                    buffers.push(batch.into_buffer());
                }
                Step::Begin(header, index) => {
                    // The header seals the previous segment, which must be durable first.
                    self.sync(&mut writer)?;
                    durable = header.follows.end;
                    self.begin(&mut writer, header, &index)?;
                }
            }
        }
        let mut queue = self.queue();
        queue.give_back(buffers.into_iter());
        if writer.wants_spare(work.end) {
            queue.ask(|asked| asked.spare = true);
        }
        Ok(durable)
    }

    fn sync(&self, writer: &mut Writer) -> Result<()> {
        writer.syncs = writer.syncs.saturating_add(1);
        let begun = self.env.clock.monotonic();
        writer.file.sync_data().map_err(Error::io("sync", &writer.path))?;
        self.counters.synced(self.env.clock.monotonic().saturating_sub(begun));
        Ok(())
    }

    /// Begins the segment with this header; its predecessor is durable.
    fn begin(&self, writer: &mut Writer, mut header: SegmentHeader, before: &SegmentIndex) -> Result<()> {
        let free = lock(&self.segments).take_free();
        header.recycled = free.as_ref().is_some_and(|free| free.used);
        self.counters.segments_begun.add(1);
        self.counters.segments_recycled.add(u64::from(header.recycled));
        let file = match free {
            Some(free) => segment::recycle(self.env.fs.as_ref(), &self.dir, &free.path, &header, before)?,
            None => segment::create(self.env.fs.as_ref(), &self.dir, &header, before, writer.room_of_next())?,
        };
        *writer = Writer::new(file, segment::path_of(&self.dir, header.segment), &header);
        lock(&self.segments).push(&header);
        self.keep_cap();
        Ok(())
    }
}

impl Writer {
    pub(crate) fn new(file: Arc<dyn File>, path: PathBuf, header: &SegmentHeader) -> Self {
        let begin = header.segment_size.start_of(header.segment).unwrap_or(Lsn::MAX);
        let spare_from = begin.checked_add(u64::from(header.segment_size.bytes()) / 2);
        Writer { file, path, seed: header.seed(), begin, spare_from, syncs: 0 }
    }

    /// Room for the next segment, assuming that it is used like this one.
    fn room_of_next(&self) -> Room {
        if self.syncs < SYNCS_MIN { Room::Sparse } else { Room::Written }
    }

    /// True once for each segment: when the segment is half full at `end`, if the file of the next
    /// one will be filled with zeros.
    fn wants_spare(&mut self, end: Lsn) -> bool {
        let wants = self.spare_from.is_some_and(|from| end >= from) && self.room_of_next() == Room::Written;
        if wants {
            self.spare_from = None;
        }
        wants
    }
}
