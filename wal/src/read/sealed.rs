//! A segment whose bytes don't change, and its batches in place.
//!
//! A sealed segment, whose successor states its end, is never written again, so it is mapped. A pin
//! keeps the log from recycling its file while it is read. The newest segment is still being
//! written: its durable part is read into memory, and nothing above it ([law 2](crate)).

use super::chain;
use super::place::{Found, Place, Reach};
use crate::error::Witness;
use crate::segments::{DirLock, Pin, segment, sequence};
use crate::shared::Shared;
use crate::{Error, Result};
use pitr_format::Lsn;
use pitr_format::log::{BATCH_HEADER_BYTES, Batch, SegmentHeader};
use pitr_vfs::{Access, File, FileSystem, View};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What keeps the segments of a scan from being overwritten.
#[derive(Debug)]
pub(crate) enum Hold {
    /// The log is open; each segment is pinned while it is read.
    Open(Arc<Shared>),
    /// The log is not open, and the lock keeps it from being opened.
    Closed { _lock: DirLock },
}

/// The part of a segment that belongs to a scan.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece {
    /// Start of the scan in the segment.
    pub(crate) place: Place,
    /// How far the scan reads.
    pub(crate) reach: Reach,
    /// The next segment, if the scan continues there.
    pub(crate) next: Option<SegmentHeader>,
}

impl Piece {
    pub(crate) fn header(&self) -> &SegmentHeader {
        self.place.header()
    }

    /// Loads the bytes of the segment.
    pub(crate) fn load(&self, fs: &dyn FileSystem, dir: &Path, hold: &Hold) -> Result<SealedSegment> {
        let header = self.header();
        let gone = || sequence::missing_segment(header, header.segment, self.reach.end, Witness::Caller);
        let removed = |error| chain::hole_or_removed(fs, dir, header, error);
        let pin = match hold {
            Hold::Closed { .. } => None,
            Hold::Open(shared) => Some(Pin::new(shared, header.segment).ok_or_else(|| removed(gone()))?),
        };
        let opened = segment::open(fs, dir, header.segment, Access::Read)?;
        let (file, _) = opened.filter(|(_, found)| found == header).ok_or_else(|| removed(gone()))?;
        let (base, bytes) =
            self.bytes(file.as_ref()).map_err(Error::io("map", &segment::path_of(dir, header.segment)))?;
        Ok(SealedSegment { piece: *self, base, bytes, dir: dir.to_owned(), _pin: pin })
    }

    /// The bytes, and their offset in the file.
    fn bytes(&self, file: &dyn File) -> std::io::Result<(u64, View)> {
        let end = self.place.offset_of(self.reach.end);
        if self.next.is_some() {
            return Ok((0, file.view(end)?));
        }
        let base = self.place.offset_of(self.place.at());
        // At most a segment: the file is as long as its header says.
        let mut bytes = vec![0; end.saturating_sub(base) as usize];
        file.read_exact_at(&mut bytes, base)?;
        Ok((base, View::from(bytes)))
    }
}

/// A segment of a [`crate::LogScan`], or the part in the scan's range, to be read in place. While
/// it lives the log may remove its file, but does not overwrite it.
#[derive(Debug)]
pub struct SealedSegment {
    piece: Piece,
    /// Offset of `bytes` in the file.
    base: u64,
    bytes: View,
    dir: PathBuf,
    _pin: Option<Pin>,
}

impl SealedSegment {
    /// The segment's header.
    #[must_use]
    pub fn header(&self) -> &SegmentHeader {
        self.piece.header()
    }

    /// End of the segment's last batch, or of the scan.
    #[must_use]
    pub fn end(&self) -> Lsn {
        self.piece.reach.end
    }

    /// Bytes from one position to another; empty if they are not loaded.
    #[cfg(feature = "parallel")]
    pub(crate) fn between(&self, from: Lsn, to: Lsn) -> &[u8] {
        let offset = |lsn| self.piece.place.offset_of(lsn).saturating_sub(self.base) as usize;
        self.bytes.get(offset(from)..offset(to)).unwrap_or_default()
    }

    /// The segment's batches in order, each verified. They borrow the segment's bytes.
    #[must_use]
    pub fn batches(&self) -> Batches<'_> {
        Batches { segment: self, place: self.piece.place, done: false }
    }
}

/// The batches of a [`SealedSegment`]; ends after the first error.
#[derive(Debug)]
pub struct Batches<'a> {
    segment: &'a SealedSegment,
    place: Place,
    done: bool,
}

impl<'a> Batches<'a> {
    fn step(&mut self) -> Result<Option<Batch<'a>>> {
        let piece = &self.segment.piece;
        if self.place.at() >= piece.reach.end {
            return match &piece.next {
                Some(next) => chain::check_joins(&self.segment.dir, &self.place, next).map(|()| None),
                None => Ok(None),
            };
        }
        let before = self.place;
        match walk(&mut self.place, self.segment.base, &self.segment.bytes, piece.reach.end) {
            Found::Batch(batch) => Ok(Some(batch)),
            Found::Fault(fault) => piece.reach.hole(&before, fault).map_or(Ok(None), Err),
        }
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<Batch<'a>>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let step = self.step().transpose();
        self.done = !matches!(step, Some(Ok(_)));
        step
    }
}

/// The batch at `place` in `bytes`, which start at offset `base` of the segment, up to `limit`.
/// Moves past a valid batch. Pure: mapped and other memory give the same result.
pub(crate) fn walk<'a>(place: &mut Place, base: u64, bytes: &'a [u8], limit: Lsn) -> Found<'a> {
    let from = place.offset_of(place.at()).saturating_sub(base) as usize;
    let to = place.offset_of(limit).saturating_sub(base) as usize;
    let rest = bytes.get(from..to.min(bytes.len())).unwrap_or_default();
    match place.head(&rest[..rest.len().min(BATCH_HEADER_BYTES)], limit) {
        Ok(header) => place.pass(header, rest),
        Err(fault) => Found::Fault(fault),
    }
}

#[cfg(test)]
mod tests {
    //! The tests use no files, so that miri can run them.

    use super::*;
    use crate::error::Damage;
    use crate::read::place::Fault;
    use pitr_format::log::{BatchHeader, Follows, Frame, Part};
    use pitr_format::{Incarnation, PartitionId, SegmentNo, SegmentSize, TimelineId, Timestamp, TxId};

    /// A segment of two batches with one record each, and their end.
    fn segment() -> (SegmentHeader, Vec<u8>, Lsn) {
        let segment_size = SegmentSize::new(SegmentSize::MIN_BYTES).unwrap();
        let header = SegmentHeader {
            timeline: TimelineId::FIRST,
            segment: SegmentNo::FIRST,
            incarnation: Incarnation::FIRST,
            segment_size,
            log_id: [1; 16],
            follows: Follows { end: Lsn::ORIGIN, segment: None, last_batch: Lsn::ORIGIN, gap: false },
            time: Timestamp::MIN,
            checkpoint: None,
            recycled: false,
        };
        let (mut bytes, mut lsn, mut prev) = (vec![0; 4096], header.first_batch().unwrap(), Lsn::ORIGIN);
        for payload in [&b"first"[..], b""] {
            let (partition, tx) = (PartitionId::FIRST, TxId::FIRST);
            let total_len = payload.len() as u32;
            let mut body = Vec::new();
            Frame { lsn, kind: 3, part: Part::Full, partition, tx, total_len, bytes: payload }
                .encode(&mut body);
            let (seed, body_len) = (header.seed(), body.len() as u32);
            let (durable, time, body_crc) = (lsn, Timestamp::MIN, seed.crc(&body));
            let batch = BatchHeader { lsn, prev, durable, time, body_len, frames: 1, body_crc };
            bytes.extend(batch.encode(seed));
            bytes.extend(body);
            bytes.resize(bytes.len().next_multiple_of(8), 0);
            (prev, lsn) = (lsn, batch.end().unwrap());
        }
        (header, bytes, lsn)
    }

    /// The payloads of all valid batches, and what ended the walk.
    fn walked(header: SegmentHeader, base: u64, bytes: &[u8], limit: Lsn) -> (Vec<Vec<u8>>, Option<Fault>) {
        let (mut place, mut payloads) = (Place::first(header).unwrap(), Vec::new());
        while place.at() < limit {
            match walk(&mut place, base, bytes, limit) {
                Found::Batch(batch) => {
                    payloads.extend(batch.frames().map(|frame| frame.unwrap().bytes.to_vec()));
                }
                Found::Fault(fault) => return (payloads, Some(fault)),
            }
        }
        (payloads, None)
    }

    #[test]
    fn a_walk_ends_where_the_bytes_or_the_limit_do() {
        // FAILURES 12, 17
        let (header, bytes, end) = segment();
        let both = vec![b"first".to_vec(), Vec::new()];
        assert!(matches!(walked(header, 0, &bytes, end), (all, None) if all == both));
        // The same without the segment header.
        assert!(matches!(walked(header, 4096, &bytes[4096..], end), (all, None) if all == both));
        for len in 0..bytes.len() {
            let (payloads, fault) = walked(header, 0, &bytes[..len], end);
            assert!(both.starts_with(&payloads) && payloads.len() < 2 && fault.is_some(), "{len} bytes");
        }
        for limit in header.first_batch().unwrap().get()..end.get() {
            let (payloads, fault) = walked(header, 0, &bytes, Lsn::new(limit));
            let whole = payloads.len() < 2 && fault.is_none_or(|fault| matches!(fault, Fault::Crossing));
            assert!(whole, "limit {limit}: {fault:?}");
        }
    }

    #[test]
    fn any_flipped_byte_of_a_batch_is_found() {
        // FAILURES 29
        let (header, bytes, end) = segment();
        for at in 4096..4096 + 64 + 24 + 5 {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            let (payloads, fault) = walked(header, 0, &bad, end);
            assert!(payloads.is_empty() && matches!(fault, Some(Fault::Damage(Damage::Bytes))), "byte {at}");
        }
    }
}
