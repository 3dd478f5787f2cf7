//! Shipping: stores the durable part of the local log as archive objects, without closing a
//! segment.
//!
//! # Promises
//! - Takes only batches below the log's durable LSN (FAILURES 42).
//! - Each object starts where its predecessor ends, unless the log itself states a gap.
//! - Decodes and compares each object before the put (FAILURES 30). If the reply to a put is lost,
//!   it puts the same bytes again: a range never gets a second content.
//! - [`Shipper::archived`] advances only after a put and a check for a higher claim (FAILURES 21).

use super::claim::Writer;
use super::index::{Carry, LogIdentity};
use super::pack::{Built, Packer};
use crate::archive::Archive;
use crate::error::{Error, Result};
use crate::history::Catalog;
use crate::stored::Timeline;
use pitr_codec::Codec;
use pitr_format::{Lsn, SegmentSize, TimelineId};
use pitr_objects::layout::SourceObject;
use pitr_wal::{LogBatch, LogReader, Wal};

/// Settings of a [`Shipper`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShipOptions {
    /// Compression of frames.
    pub codec: Codec,
    /// Bytes of log after which an object is closed; it may exceed this by at most one batch.
    pub object_bytes: u32,
    /// Approximate bytes of log in a frame.
    pub frame_bytes: u32,
}

impl Default for ShipOptions {
    fn default() -> Self {
        ShipOptions { codec: Codec::default(), object_bytes: 8 << 20, frame_bytes: 1 << 20 }
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
    /// End of the archived log; `None` before the first object of the timeline.
    at: Option<Lsn>,
    /// True if the log between `at` and the start of the local log is lost.
    lost: bool,
    carry: Carry,
    /// A built object whose put is not confirmed. It may already be stored.
    pending: Option<Built>,
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
        let mut shipper = Shipper {
            writer,
            options,
            timeline,
            log_id,
            begin: history.parent.map_or(Lsn::ORIGIN, |_| history.fork),
            at: None,
            lost: false,
            carry: Carry::nothing(),
            pending: None,
        };
        if let Some((name, _)) = catalog.logs(timeline).last() {
            let object = shipper.writer.archive().open(name)?;
            if object.footer.log_id != log_id {
                return Err(Error::Diverged { lsn: name.from });
            }
            if log.end() < name.to {
                return Err(Error::LocalBehind { local: log.end(), archived: name.to });
            }
            if let Some(no) = object.footer.frames.len().checked_sub(1) {
                let archived = shipper.writer.archive().frames(&object, no..no + 1)?.concat();
                check_same(log, object.footer.frames[no].lsn, name.to, &archived)?;
            }
            shipper.at = Some(name.to);
            shipper.carry = Carry::after(&object.footer);
        }
        Ok(shipper)
    }

    /// Everything below this position is archived; `None` if nothing of this timeline is.
    #[must_use]
    pub fn archived(&self) -> Option<Lsn> {
        self.at
    }

    /// The writer that the shipper uses.
    #[must_use]
    pub fn writer(&self) -> &Writer {
        &self.writer
    }

    /// Archives everything that is durable now.
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
        while let Some(one) = self.ship_one(log, durable)? {
            shipped.objects += one.objects;
            shipped.raw_bytes += one.raw_bytes;
            shipped.stored_bytes += one.stored_bytes;
        }
        Ok(shipped)
    }

    /// Like [`ship`](Self::ship), but at most one object, up to `until`, which must be durable.
    /// `None` if everything below `until` is archived.
    ///
    /// # Errors
    /// Errors of [`ship`](Self::ship).
    pub fn ship_one(&mut self, log: &Wal, until: Lsn) -> Result<Option<Shipped>> {
        self.writer.check_memory()?;
        if self.pending.is_none() && !self.build_next(log, until)? {
            return Ok(None);
        }
        self.put_pending().map(Some)
    }

    /// Builds the next object; false if there are no batches for it.
    fn build_next(&mut self, log: &Wal, until: Lsn) -> Result<bool> {
        if self.at.is_some_and(|at| at >= until) {
            return Ok(false);
        }
        let mut reader = self.reader(log)?;
        let mut packer: Option<Packer> = None;
        while let Some(batch) = reader.next_batch()? {
            if batch.end() > until {
                break;
            }
            let gap = batch.follows.is_some_and(|follows| follows.gap);
            let span = batch.header.span() as usize;
            let into = match &mut packer {
                Some(full) if gap || full.raw_bytes() + span > self.options.object_bytes as usize => break,
                Some(packer) => packer,
                None => packer.insert(self.begin(&batch)?),
            };
            into.push(&batch, until)?;
        }
        let Some(packer) = packer else { return Ok(false) };
        debug_assert!(packer.end() > Lsn::ORIGIN, "a packer contains at least its first batch");
        self.pending = Some(packer.build(self.writer.archive(), self.options.codec)?);
        Ok(true)
    }

    /// Accepts the loss of log that was removed before it was archived, after
    /// [`pitr_wal::Error::Removed`]. The next object starts with a gap, at the start of the local
    /// log. If the log starts within a record, the rest of that record does not count. States after
    /// the gap need a new base. Does nothing if nothing is lost.
    pub fn accept_loss(&mut self) {
        self.lost = true;
    }

    fn reader(&self, log: &Wal) -> Result<LogReader> {
        // The first segment states the position that the log follows, which lies before its first
        // batch.
        let at = self.at.unwrap_or(self.begin);
        let from = if self.lost { at.max(log.first()) } else { at };
        match log.reader(from) {
            Err(pitr_wal::Error::Beyond { .. }) => Err(Error::Diverged { lsn: from }),
            other => Ok(other?),
        }
    }

    /// Starts the object of this first batch.
    fn begin(&mut self, batch: &LogBatch) -> Result<Packer> {
        let lsn = batch.header.lsn;
        let (from, gap, carry) = match (batch.follows, self.at) {
            (Some(follows), _) if follows.gap && !self.lost => (lsn, true, self.carry.clone()),
            (Some(follows), None) if !follows.gap && follows.end == self.begin => {
                (follows.end, false, self.carry.clone())
            }
            (Some(follows), Some(at)) if !follows.gap && follows.end == at => (at, false, self.carry.clone()),
            (None, Some(at)) if lsn == at => (at, false, self.carry.clone()),
            _ if self.lost => (lsn, true, self.carry.clone().after_loss()),
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

    /// Puts the built object. Drops it only when it is known to be stored and to count.
    fn put_pending(&mut self) -> Result<Shipped> {
        let mut shipped = Shipped::default();
        let Some(built) = &self.pending else { return Ok(shipped) };
        let archive = self.writer.archive();
        archive
            .objects()
            .put_new(&archive.folder().path(&SourceObject::Log(built.name)), built.bytes.clone())?;
        self.writer.check()?;
        if let Some(built) = self.pending.take() {
            shipped.objects = 1;
            shipped.raw_bytes = built.raw_bytes;
            shipped.stored_bytes = built.bytes.len() as u64;
            self.at = Some(built.name.to);
            self.lost = false;
            self.carry = built.carry;
        }
        Ok(shipped)
    }
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
