//! Shipping: stores the durable part of the local log as archive objects, without closing a
//! segment.
//!
//! # Promises
//! - Takes only batches below the log's durable LSN (FAILURES 42).
//! - Each object starts where its predecessor ends, unless the log itself states a gap.
//! - Several objects are put at the same time. One counts as archived when all before it do. If the
//!   process dies in between, the next shipper fills the hole from the log with the same ranges:
//!   where objects end depends on positions alone.
//! - Decodes and compares each object before the put (FAILURES 30). If the reply to a put is lost,
//!   it puts the same bytes again: a range never gets a second content.
//! - [`Shipper::archived`] advances only after a put and a check for a higher claim (FAILURES 21).
//!   Several puts may share one check ([`ShipOptions::check_every`]).

use super::claim::Writer;
use super::compact::{CompactOptions, Compactor};
use super::index::{Carry, LogIdentity};
use super::pack::{Built, Packer};
use crate::archive::Archive;
use crate::error::{Error, Result};
use crate::history::Catalog;
use crate::stored::Timeline;
use pitr_codec::Codec;
use pitr_format::{Lsn, SegmentSize, TimelineId};
use pitr_objects::layout::{LogName, SourceObject};
use pitr_objects::{Bytes, parallel};
use pitr_vfs::Spawn;
use pitr_wal::{LogBatch, LogReader, Wal};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Settings of a [`Shipper`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShipOptions {
    /// Compression of frames.
    pub codec: Codec,
    /// An object ends before the first batch at or after a multiple of this position, in bytes. So
    /// it may exceed this size by at most one batch, and two writers that archive the same log cut
    /// it at the same places.
    pub object_bytes: u32,
    /// Approximate bytes of log in a frame.
    pub frame_bytes: u32,
    /// Maximum number of objects that are put at the same time; at least 1. Each is held in memory.
    /// A repository in a folder gets one at a time.
    pub max_concurrent_uploads: usize,
    /// Number of adjacent small objects that a [`Compactor`] merges; at least 2.
    pub compact_count: usize,
    /// Maximum time from a put to its check for a higher claim. Objects that were put within it
    /// share one check, which is a request, and count as archived after it. Zero: each put has its
    /// own. [`Shipper::acknowledge`] checks at once.
    pub check_every: Duration,
}

impl ShipOptions {
    /// [`check_every`](Self::check_every) of a thread that ships, while nobody waits for it.
    pub const CHECK_EVERY: Duration = Duration::from_secs(10);
}

/// Stored objects that are not checked yet have at most this size together, bytes.
const UNCHECKED_BYTES_MAX: usize = 1 << 20;

impl Default for ShipOptions {
    fn default() -> Self {
        ShipOptions {
            codec: Codec::default(),
            // With a batch of the usual size at its end, an object has 8 MiB of log.
            object_bytes: 7 << 20,
            frame_bytes: 1 << 20,
            max_concurrent_uploads: 4,
            compact_count: CompactOptions::default().count,
            check_every: Duration::ZERO,
        }
    }
}

/// The totals of one call of [`Shipper::ship`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shipped {
    /// Number of objects.
    pub objects: u32,
    /// Bytes of log in these objects.
    pub raw_bytes: u64,
    /// Size of the objects, bytes.
    pub stored_bytes: u64,
}

/// Ships a local log to the archive.
#[derive(Debug)]
pub struct Shipper {
    writer: Writer,
    options: ShipOptions,
    timeline: TimelineId,
    log_id: [u8; 16],
    /// Start of the timeline: the fork point, or the origin.
    begin: Lsn,
    /// The ranges to archive, ascending. The last one is open.
    ranges: VecDeque<Rest>,
    /// Everything below is archived; `None` before the first object of the timeline.
    archived: Option<Lsn>,
    /// Ends of holes, with the end of the archived log after each.
    jumps: BTreeMap<Lsn, Lsn>,
    /// True if the log between the end of the archive and the start of the local log is lost.
    lost: bool,
    /// Built objects that are not known to be stored, or that follow one, ascending.
    pending: Vec<Pending>,
    unchecked: Unchecked,
    compactor: Arc<Compactor>,
}

/// A range of the log that is not archived.
#[derive(Debug)]
struct Rest {
    /// Start of the range; `None` before the first object of the timeline.
    at: Option<Lsn>,
    /// End of a hole; `None` if the archive has no later log.
    until: Option<Lsn>,
    carry: Carry,
}

impl Rest {
    fn is_done(&self) -> bool {
        self.until.is_some() && self.at == self.until
    }
}

/// A built object. It may be stored, also if it is not known to be.
#[derive(Debug)]
struct Pending {
    built: Built,
    is_put: AtomicBool,
}

/// Stored objects that wait for the check for a higher claim, ascending.
#[derive(Debug, Default)]
struct Unchecked {
    objects: Vec<(LogName, Bytes)>,
    /// Their size, bytes.
    bytes: usize,
    /// Monotonic time of the first one's put.
    since: Duration,
}

impl Shipper {
    /// Takes over the source of a log: claims the next epoch, and the first timeline if the source
    /// has none, and continues at the end of the archive of the log's timeline.
    ///
    /// # Errors
    /// As [`Writer::claim`] and [`new`](Self::new).
    pub fn claim(archive: &Archive, log: &Wal, options: ShipOptions) -> Result<Self> {
        let (now, timeline) = (archive.objects().env().clock.now(), log.timeline());
        let writer = Writer::claim(archive, now)?;
        let mut catalog = archive.catalog()?;
        if timeline == TimelineId::FIRST && catalog.timelines().is_empty() {
            writer.claim_timeline(&Timeline::first(now))?;
            catalog = archive.catalog()?;
        }
        Self::new(writer, &catalog, log, timeline, log.log_id(), options)
    }

    /// A shipper that continues at the end of the archive of the log's timeline.
    ///
    /// # Errors
    /// [`Error::UnknownTimeline`] if the catalog was loaded before the timeline was claimed;
    /// [`Error::LocalBehind`] if the archive has more of this timeline than the log;
    /// [`Error::Diverged`] if the two differ (FAILURES 13); errors of reading either.
    pub fn new(
        writer: Writer,
        catalog: &Catalog,
        log: &Wal,
        timeline: TimelineId,
        log_id: [u8; 16],
        options: ShipOptions,
    ) -> Result<Self> {
        let history = catalog.timelines().get(&timeline).ok_or(Error::UnknownTimeline { timeline })?;
        let begin = history.begin();
        let archive = writer.archive();
        let (mut archived, mut carry) = (None, Carry::nothing());
        if let Some((name, _)) = catalog.logs(timeline).last() {
            let object = archive.open(name)?;
            if object.footer.log_id != log_id {
                return Err(Error::Diverged { lsn: name.from });
            }
            if log.end() < name.to {
                return Err(Error::LocalBehind { local: log.end(), archived: name.to });
            }
            if let Some(no) = object.footer.frames.len().checked_sub(1) {
                let stored = archive.frames(&object, no..no + 1)?.concat();
                check_same(log, object.footer.frames[no].lsn, name.to, &stored)?;
            }
            (archived, carry) = (Some(name.to), Carry::after(&object.footer));
        }
        let mut ranges = holes(archive, catalog, timeline, begin, log, log_id)?;
        let mut jumps = BTreeMap::new();
        for (hole, after) in ranges.iter().zip(ranges.iter().skip(1).map(Some).chain([None])) {
            let behind = after.map_or(archived, |after| after.at);
            jumps.extend(hole.until.zip(behind));
        }
        ranges.push_back(Rest { at: archived, until: None, carry });
        let ShipOptions { codec, frame_bytes, object_bytes, compact_count, .. } = options;
        let compact =
            CompactOptions { codec, frame_bytes, count: compact_count, span_bytes: object_bytes.into() };
        let compactor = Arc::new(Compactor::new(writer.clone(), catalog, timeline, compact));
        Ok(Shipper {
            writer,
            options,
            timeline,
            log_id,
            begin,
            archived: ranges.front().and_then(|first| first.at),
            ranges,
            jumps,
            lost: false,
            pending: Vec::new(),
            unchecked: Unchecked::default(),
            compactor,
        })
    }

    /// Everything below this position is archived; `None` if nothing of this timeline is.
    #[must_use]
    pub fn archived(&self) -> Option<Lsn> {
        self.archived
    }

    /// Everything below this position is stored. It counts as archived after the next check.
    #[must_use]
    pub fn stored(&self) -> Option<Lsn> {
        self.unchecked.objects.last().map(|(name, _)| name.to).or(self.archived)
    }

    /// Checks for a higher claim, after which everything that is stored counts as archived. Does
    /// nothing if everything does.
    ///
    /// # Errors
    /// [`Error::Fenced`] if another writer took over; [`Error::Objects`].
    pub fn acknowledge(&mut self) -> Result<()> {
        if self.unchecked.objects.is_empty() {
            return Ok(());
        }
        self.writer.check()?;
        for (name, bytes) in std::mem::take(&mut self.unchecked).objects {
            self.archived = Some(self.jumps.remove(&name.to).unwrap_or(name.to));
            self.compactor.note(name, bytes);
        }
        Ok(())
    }

    /// Monotonic time at which stored objects have waited long enough for their check; `None` if
    /// nothing waits.
    #[must_use]
    pub fn check_due(&self) -> Option<Duration> {
        let Unchecked { objects, bytes, since } = &self.unchecked;
        let wait = if *bytes >= UNCHECKED_BYTES_MAX { Duration::ZERO } else { self.options.check_every };
        (!objects.is_empty()).then(|| since.saturating_add(wait))
    }

    /// True if stored objects have waited long enough for their check.
    #[must_use]
    pub fn is_check_due(&self) -> bool {
        self.check_due().is_some_and(|due| due <= self.now())
    }

    fn now(&self) -> Duration {
        self.writer.archive().objects().env().clock.monotonic()
    }

    /// The writer that the shipper uses.
    #[must_use]
    pub fn writer(&self) -> &Writer {
        &self.writer
    }

    /// Merges small objects that were shipped. It may work in another thread than the shipper.
    #[must_use]
    pub fn compactor(&self) -> &Arc<Compactor> {
        &self.compactor
    }

    /// Stores everything that is durable now. With [`ShipOptions::check_every`] a part of it may
    /// not count as archived yet.
    ///
    /// After an error of the repository another call continues where this one stopped.
    ///
    /// # Errors
    /// [`Error::Fenced`] if another writer took over; [`pitr_wal::Error::Removed`] if the log was
    /// cut down before it was archived (see [`accept_loss`](Self::accept_loss));
    /// [`Error::Diverged`]; [`Error::Objects`].
    pub fn ship(&mut self, log: &Wal) -> Result<Shipped> {
        let durable = log.durable();
        let mut shipped = Shipped::default();
        while let Some(some) = self.ship_some(log, durable)? {
            shipped.objects += some.objects;
            shipped.raw_bytes += some.raw_bytes;
            shipped.stored_bytes += some.stored_bytes;
        }
        Ok(shipped)
    }

    /// Like [`ship`](Self::ship), but at most as many objects as may be put at the same time, up to
    /// `until`, which must be durable. `None` if everything below `until` is stored.
    ///
    /// # Errors
    /// Errors of [`ship`](Self::ship).
    pub fn ship_some(&mut self, log: &Wal, until: Lsn) -> Result<Option<Shipped>> {
        self.writer.check_memory()?;
        if self.pending.is_empty() {
            self.build(log, until)?;
        }
        if !self.pending.is_empty() {
            return self.put_pending().map(Some);
        }
        if self.is_check_due() {
            self.acknowledge()?;
        }
        Ok(None)
    }

    /// Builds the next objects.
    fn build(&mut self, log: &Wal, until: Lsn) -> Result<()> {
        // A folder takes one as fast as several.
        let is_folder = self.writer.archive().objects().folder().is_some();
        let most = if is_folder { 1 } else { self.options.max_concurrent_uploads.max(1) };
        while self.pending.len() < most {
            match self.build_next(log, until) {
                Ok(Some(built)) => self.pending.push(Pending { built, is_put: AtomicBool::new(false) }),
                Ok(None) => break,
                // What is built is put first. Then the same error comes back.
                Err(_) if !self.pending.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Builds the next object; `None` if there are no batches for it.
    fn build_next(&mut self, log: &Wal, until: Lsn) -> Result<Option<Built>> {
        while self.ranges.front().is_some_and(Rest::is_done) {
            self.ranges.pop_front();
        }
        let Some(rest) = self.ranges.front() else { return Ok(None) };
        let (at, hole_end) = (rest.at, rest.until);
        let until = hole_end.map_or(until, |end| end.min(until));
        if at.is_some_and(|at| at >= until) {
            return Ok(None);
        }
        let stripe = |lsn: Lsn| lsn.get() / u64::from(self.options.object_bytes.max(1));
        let mut reader = self.reader(log, at)?;
        let mut packer: Option<(Packer, u64)> = None;
        while let Some(batch) = reader.next_batch()? {
            if batch.end() > until {
                break;
            }
            let (gap, within) = (batch.follows.is_some_and(|follows| follows.gap), stripe(batch.header.lsn));
            let (into, _) = match &mut packer {
                Some((_, first)) if gap || *first != within => break,
                Some(packer) => packer,
                None => packer.insert((self.begin(&batch, rest)?, within)),
            };
            into.push(&batch, until)?;
        }
        let Some((packer, _)) = packer else {
            return match hole_end {
                // The objects around the hole are of another log.
                Some(end) if end <= until => Err(Error::Diverged { lsn: at.unwrap_or(self.begin) }),
                _ => Ok(None),
            };
        };
        debug_assert!(packer.end() > Lsn::ORIGIN, "a packer contains at least its first batch");
        let built = packer.build(self.writer.archive(), self.options.codec)?;
        if let Some(rest) = self.ranges.front_mut() {
            (rest.at, rest.carry) = (Some(built.name.to), built.carry.clone());
        }
        self.lost = false;
        Ok(Some(built))
    }

    /// Accepts the loss of log that was removed before it was archived, after
    /// [`pitr_wal::Error::Removed`]. The next object starts with a gap, at the start of the local
    /// log. If the log starts within a record, the rest of that record does not count. States after
    /// the gap need a new base. Does nothing if nothing is lost.
    pub fn accept_loss(&mut self) {
        self.lost = true;
    }

    fn reader(&self, log: &Wal, at: Option<Lsn>) -> Result<LogReader> {
        // The first segment states the position that the log follows, which lies before its first
        // batch.
        let at = at.unwrap_or(self.begin);
        let from = if self.lost { at.max(log.first()) } else { at };
        match log.reader(from) {
            Err(pitr_wal::Error::Beyond { .. }) => Err(Error::Diverged { lsn: from }),
            other => Ok(other?),
        }
    }

    /// Starts the object of this first batch.
    fn begin(&self, batch: &LogBatch, rest: &Rest) -> Result<Packer> {
        let lsn = batch.header.lsn;
        let carry = || rest.carry.clone();
        let (from, gap, carry) = match (batch.follows, rest.at) {
            (Some(follows), _) if follows.gap && !self.lost => (lsn, true, carry()),
            (Some(follows), None) if !follows.gap && follows.end == self.begin => {
                (follows.end, false, carry())
            }
            (Some(follows), Some(at)) if !follows.gap && follows.end == at => (at, false, carry()),
            (None, Some(at)) if lsn == at => (at, false, carry()),
            _ if self.lost => (lsn, true, carry().after_loss()),
            _ => return Err(Error::Diverged { lsn }),
        };
        if batch.timeline != self.timeline {
            return Err(Error::Diverged { lsn });
        }
        let segment_size = segment_size(batch).ok_or(Error::Diverged { lsn })?;
        let (timeline, epoch, log_id) = (self.timeline, self.writer.epoch(), self.log_id);
        let identity = LogIdentity { timeline, epoch, segment_size, log_id };
        Ok(Packer::new(identity, from, gap, carry, self.options.frame_bytes as usize))
    }

    /// Puts the built objects. An object counts when it is known to be stored, when those before it
    /// count, and when no other writer took over. Until it is known to be stored the same bytes are
    /// put again.
    fn put_pending(&mut self) -> Result<Shipped> {
        let archive = self.writer.archive();
        let put = |pending: &Pending| {
            if !pending.is_put.load(Ordering::Relaxed) {
                let path = archive.folder().path(&SourceObject::Log(pending.built.name));
                archive.objects().put_new(&path, pending.built.bytes.clone())?;
                pending.is_put.store(true, Ordering::Relaxed);
            }
            Ok(())
        };
        // A single one needs no thread.
        let spawn = if self.pending.len() > 1 { archive.spawn() } else { Spawn::Inline };
        let outcome: Result<()> =
            parallel::ahead(spawn, self.pending.len(), &self.pending, put, |_, ()| Ok(()));
        let is_put = |pending: &&Pending| pending.is_put.load(Ordering::Relaxed);
        let stored = self.pending.iter().take_while(is_put).count();
        let mut shipped = Shipped::default();
        if self.unchecked.objects.is_empty() {
            self.unchecked.since = self.now();
        }
        for Pending { built, .. } in self.pending.drain(..stored) {
            shipped.objects += 1;
            shipped.raw_bytes += built.raw_bytes;
            shipped.stored_bytes += built.bytes.len() as u64;
            self.unchecked.bytes += built.bytes.len();
            self.unchecked.objects.push((built.name, built.bytes));
        }
        if self.is_check_due() {
            self.acknowledge()?;
        }
        outcome.map(|()| shipped)
    }
}

/// The ranges of a timeline that the archive lacks between objects of this log, and that the log
/// still has: puts that ran at the same time were not all done when their process died.
fn holes(
    archive: &Archive,
    catalog: &Catalog,
    timeline: TimelineId,
    begin: Lsn,
    log: &Wal,
    log_id: [u8; 16],
) -> Result<VecDeque<Rest>> {
    let (mut holes, mut before): (VecDeque<Rest>, Option<LogName>) = (VecDeque::new(), None);
    for (name, _) in catalog.logs(timeline) {
        let from = before.map_or(begin, |before| before.to);
        if from < name.from && !catalog.is_pruned_within(timeline, from, name.from) && has(log, from)? {
            let footer = archive.footer(name)?;
            if !footer.gap && footer.log_id == log_id {
                let carry = match &before {
                    Some(before) => Carry::after(&archive.footer(before)?),
                    None => Carry::nothing(),
                };
                holes.push_back(Rest { at: before.map(|before| before.to), until: Some(name.from), carry });
            }
        }
        before = Some(*name);
    }
    Ok(holes)
}

/// True if the log still has its first batch at or after this position, and states no gap there.
fn has(log: &Wal, from: Lsn) -> Result<bool> {
    let first = match log.reader(from).and_then(|mut reader| reader.next_batch()) {
        Err(pitr_wal::Error::Removed { .. } | pitr_wal::Error::Beyond { .. }) => return Ok(false),
        other => other?,
    };
    Ok(first.is_some_and(|batch| match batch.follows {
        Some(follows) => !follows.gap && follows.end == from,
        None => batch.header.lsn == from,
    }))
}

/// The segment size of the batch's log. Only one power of two puts the batch into its segment.
fn segment_size(batch: &LogBatch) -> Option<SegmentSize> {
    let most = batch.header.lsn.get().checked_div(batch.segment.get())?;
    let size = SegmentSize::new(1u32.checked_shl(most.checked_ilog2()?)?).ok()?;
    (size.segment_of(batch.header.lsn) == batch.segment).then_some(size)
}

/// Fails unless the log's bytes from `from` to `to` equal `archived`, as far as the log still has
/// them.
fn check_same(log: &Wal, from: Lsn, to: Lsn, archived: &[u8]) -> Result<()> {
    let mut reader = log.reader(from)?;
    let mut rest = archived;
    while reader.position() < to {
        let batch = match reader.next_batch() {
            Err(pitr_wal::Error::Removed { .. }) => return Ok(()),
            other => other?,
        };
        let Some(batch) = batch else { break };
        let same = rest.get(..batch.bytes.len()) == Some(&batch.bytes[..]);
        let Some(left) = rest.get(batch.header.span() as usize..).filter(|_| same) else {
            return Err(Error::Diverged { lsn: batch.header.lsn });
        };
        rest = left;
    }
    if rest.is_empty() { Ok(()) } else { Err(Error::Diverged { lsn: to }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitr_format::log::BatchHeader;
    use pitr_format::{Incarnation, SegmentNo, Timestamp};

    #[test]
    fn the_segment_size_follows_from_any_batch() {
        for (size, segment, offset) in
            [(16u64 << 10, 1, 4096u64), (1 << 30, 1, (1 << 30) - 8), (64 << 10, 77, 4096)]
        {
            let lsn = Lsn::new(size * segment + offset);
            let (time, durable) = (Timestamp::MIN, Lsn::ORIGIN);
            let header =
                BatchHeader { lsn, prev: Lsn::ORIGIN, durable, time, body_len: 0, frames: 0, body_crc: 0 };
            let batch = LogBatch {
                header,
                timeline: TimelineId::FIRST,
                segment: SegmentNo::new(segment),
                incarnation: Incarnation::FIRST,
                bytes: Vec::new(),
                follows: None,
            };
            assert_eq!(segment_size(&batch).unwrap().bytes() as u64, size);
        }
    }
}
