//! The sparse index of a segment, stored in the header of the next segment. See
//! `docs/format/wal.md` for the layout.
//!
//! A segment is divided into [`STRETCHES_MAX`] stretches of equal length. For each stretch in which
//! a batch begins, the index holds the offset of the first batch, the latest time up to the last
//! batch, and the range of committed transactions. A search for a position, a time or a transaction
//! therefore reads the headers and one stretch instead of the log. The index is only a hint:
//! readers check what it points to like any other data.

use crate::bytes::{DecodeError, Put, Reader};
use crate::log::Batch;
use crate::log::Part;
use crate::record::RecordKind;
use crate::{SegmentSize, Timestamp, TxId};

/// Maximum number of stretches in a segment.
pub const STRETCHES_MAX: u32 = 128;
/// Size of an index with [`STRETCHES_MAX`] stretches, bytes.
pub const INDEX_BYTES_MAX: usize = INDEX_HEAD_BYTES + STRETCHES_MAX as usize * STRETCH_BYTES;

const INDEX_HEAD_BYTES: usize = 8;
const STRETCH_BYTES: usize = 28;

/// A stretch of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// Offset within the segment of the first batch that begins in the stretch, bytes.
    pub offset: u32,
    /// The latest commit or watermark time in or before the stretch.
    pub time: Timestamp,
    /// The lowest and highest transaction whose commit record begins in the stretch.
    pub committed: Option<(TxId, TxId)>,
}

impl Stretch {
    /// True if the commit of this transaction may begin in the stretch.
    #[must_use]
    pub fn may_commit(&self, tx: TxId) -> bool {
        self.committed.is_some_and(|(lowest, highest)| lowest <= tx && tx <= highest)
    }
}

/// The stretches of a segment, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SegmentIndex {
    stretches: Vec<Stretch>,
}

impl SegmentIndex {
    /// The stretches, in order.
    #[must_use]
    pub fn stretches(&self) -> &[Stretch] {
        &self.stretches
    }

    /// Records that a batch begins at `offset`. Calls must come in the order of the batches.
    pub fn begin_batch(&mut self, offset: u32, size: SegmentSize) {
        let nth = |offset: u32| offset / (size.bytes() / STRETCHES_MAX);
        let before = self.stretches.last();
        if before.is_none_or(|before| nth(before.offset) < nth(offset)) {
            let time = before.map_or(Timestamp::MIN, |before| before.time);
            self.stretches.push(Stretch { offset, time, committed: None });
        }
    }

    /// Records that the commit record of `tx` begins in the last batch.
    pub fn commit(&mut self, tx: TxId) {
        if let Some(last) = self.stretches.last_mut() {
            let (lowest, highest) = last.committed.unwrap_or((tx, tx));
            last.committed = Some((lowest.min(tx), highest.max(tx)));
        }
    }

    /// Records the latest time in or before the last batch.
    pub fn set_time(&mut self, time: Timestamp) {
        if let Some(last) = self.stretches.last_mut() {
            last.time = last.time.max(time);
        }
    }

    /// Adds the next batch of a segment that is read back.
    pub fn add(&mut self, batch: &Batch<'_>, size: SegmentSize) -> Result<(), DecodeError> {
        self.begin_batch(size.offset_of(batch.header.lsn), size);
        for frame in batch.frames() {
            let frame = frame?;
            if frame.kind == RecordKind::Commit as u8 && matches!(frame.part, Part::Full | Part::First) {
                self.commit(frame.tx);
            }
        }
        self.set_time(batch.header.time);
        Ok(())
    }

    /// Appends the index. Its checksum continues from `seed`, the checksum of the bytes before it.
    pub fn encode(&self, seed: u32, out: &mut Vec<u8>) {
        let mut rest = Vec::with_capacity(self.stretches.len() * STRETCH_BYTES);
        for stretch in &self.stretches {
            // An empty range (lowest > highest) means that no transaction committed in the stretch.
            let (lowest, highest) = stretch.committed.map_or((u64::MAX, 0), |(l, h)| (l.get(), h.get()));
            rest.put_u32(stretch.offset);
            rest.put_i64(stretch.time.micros());
            rest.put_u64(lowest);
            rest.put_u64(highest);
        }
        let count = self.stretches.len() as u32; // at most STRETCHES_MAX
        out.put_u32(crc(seed, count, &rest));
        out.put_u32(count);
        out.put(&rest);
    }

    /// Decodes the index of a segment of this size. `bytes` may extend past the index.
    pub fn decode(bytes: &[u8], seed: u32, size: SegmentSize) -> Result<Self, DecodeError> {
        const WHAT: &str = "segment index";
        let mut r = Reader::new(bytes);
        let (found, count) = (r.u32(WHAT)?, r.u32(WHAT)?);
        if count > STRETCHES_MAX {
            return Err(DecodeError::Range { what: WHAT, value: count.into() });
        }
        let rest = r.take(count as usize * STRETCH_BYTES, WHAT)?;
        let computed = crc(seed, count, rest);
        if found != computed {
            return Err(DecodeError::Checksum { what: WHAT, found, computed });
        }
        let mut r = Reader::new(rest);
        let mut stretches: Vec<Stretch> = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let offset = r.u32(WHAT)?;
            let time = Timestamp::from_micros(r.i64(WHAT)?);
            let (lowest, highest) = (r.u64(WHAT)?, r.u64(WHAT)?);
            let committed = (lowest <= highest).then_some((TxId::new(lowest), TxId::new(highest)));
            if offset >= size.bytes() || stretches.last().is_some_and(|before| before.offset >= offset) {
                return Err(DecodeError::Range { what: WHAT, value: offset.into() });
            }
            stretches.push(Stretch { offset, time, committed });
        }
        Ok(SegmentIndex { stretches })
    }
}

fn crc(seed: u32, count: u32, rest: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(&count.to_le_bytes());
    hasher.update(rest);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIZE: SegmentSize = SegmentSize::DEFAULT;

    fn index(batches: &[(u32, i64, Option<u64>)]) -> SegmentIndex {
        let (mut index, mut offset) = (SegmentIndex::default(), 4096);
        for (step, time, tx) in batches {
            index.begin_batch(offset, SIZE);
            tx.iter().for_each(|tx| index.commit(TxId::new(*tx)));
            index.set_time(Timestamp::from_micros(*time));
            offset = (offset + step).min(SIZE.bytes() - 1);
        }
        index
    }

    proptest! {
        #[test]
        fn an_index_round_trips_fits_and_detects_any_flipped_bit(
            batches in prop::collection::vec((1u32..200_000, any::<i64>(), any::<Option<u64>>()), 0..400),
            flip: prop::sample::Index,
        ) {
            let index = index(&batches);
            let mut bytes = Vec::new();
            index.encode(9, &mut bytes);
            prop_assert!(bytes.len() <= INDEX_BYTES_MAX && index.stretches().len() <= STRETCHES_MAX as usize);
            prop_assert_eq!(&SegmentIndex::decode(&bytes, 9, SIZE).unwrap(), &index);
            prop_assert!(SegmentIndex::decode(&bytes, 8, SIZE).is_err());
            let bit = flip.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(SegmentIndex::decode(&bytes, 9, SIZE).is_err());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = SegmentIndex::decode(&bytes, 0, SIZE);
        }
    }

    #[test]
    fn a_stretch_records_its_first_batch_and_its_commit_range() {
        let step = SIZE.bytes() / STRETCHES_MAX;
        let index = index(&[(100, 5, Some(7)), (step, 6, Some(3)), (1, 9, None), (1, 8, Some(4))]);
        let at = |offset, time, committed: Option<(u64, u64)>| Stretch {
            offset,
            time: Timestamp::from_micros(time),
            committed: committed.map(|(l, h)| (TxId::new(l), TxId::new(h))),
        };
        assert_eq!(index.stretches(), [at(4096, 6, Some((3, 7))), at(4196 + step, 9, Some((4, 4)))]);
        assert!(
            index.stretches()[0].may_commit(TxId::new(5)) && !index.stretches()[1].may_commit(TxId::new(5))
        );
    }
}
