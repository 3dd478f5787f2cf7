//! Finds the end of a log in its newest segment.

use super::tail::{Rest, Tail};
use crate::append::End;
use crate::error::{Damage, Witness};
use crate::read::{Cursor, Fault, Found};
use crate::{Error, Result};
use pitr_format::Lsn;
use pitr_format::index::SegmentIndex;
use pitr_format::log::{BATCH_ALIGN, BATCH_HEADER_BYTES, Batch, Frame, Part};
use pitr_format::record::RecordKind;

/// Bytes examined in one step after the valid batches.
const STEP_BYTES: usize = 64 << 10;

/// The result of a scan.
#[derive(Debug)]
pub(crate) struct Scanned {
    pub(crate) end: End,
    pub(crate) tail: Tail,
    /// The highest durable point that a valid batch states; the first batch's position if none
    /// does.
    pub(crate) durable: Lsn,
    /// Index of the segment up to the end.
    pub(crate) index: SegmentIndex,
}

/// Reads the newest segment to the end of its batches, and examines the bytes after them.
/// `unfinished` is true if the segment should start with the rest of a record.
pub(crate) fn scan(cursor: &mut Cursor, unfinished: bool) -> Result<Scanned> {
    let empty = End::of_empty(cursor.header());
    let mut end = empty.ok_or(Error::Exhausted { end: cursor.at(), bytes: 0 })?;
    let (mut durable, mut unfinished, mut index) = (cursor.at(), unfinished, SegmentIndex::default());
    let (limit, segment) = (cursor.place().segment_end(), cursor.header().segment);
    let damage = loop {
        match cursor.next(limit)? {
            // No writer writes a batch that crosses the end of its segment.
            Found::Fault(Fault::Crossing) => break Damage::Bytes,
            Found::Fault(Fault::Damage(damage)) => break damage,
            Found::Batch(batch) => {
                end.time = end.time.max(batch.header.time);
                durable = durable.max(batch.header.durable);
                let added = index.add(&batch, end.size);
                end.checkpoint = begun_checkpoint(&batch).or(end.checkpoint);
                unfinished = added
                    .and_then(|()| ends_unfinished(&batch, unfinished))
                    .map_err(|source| Error::Frames { lsn: batch.header.lsn, segment, source })?;
            }
        }
    };
    end.next = cursor.at();
    end.last_batch = cursor.place().last_batch().unwrap_or(end.last_batch);
    let stated = Some((durable, Witness::Batch(end.last_batch)));
    let mut tail = Tail { at: end.next, rest: Rest::None, unfinished, stated };
    examine_rest(cursor, damage, &mut tail)?;
    Ok(Scanned { end, tail, durable, index })
}

/// The last checkpoint record that begins in the batch.
fn begun_checkpoint(batch: &Batch<'_>) -> Option<Lsn> {
    let frames = batch.frames().flatten();
    let begun = |frame: &Frame<'_>| {
        frame.kind == RecordKind::Checkpoint as u8 && matches!(frame.part, Part::Full | Part::First)
    };
    frames.filter(begun).last().map(|frame| frame.lsn)
}

/// True if the last record of the batch continues in the next one.
pub(crate) fn ends_unfinished(
    batch: &Batch<'_>,
    before: bool,
) -> std::result::Result<bool, pitr_format::DecodeError> {
    match batch.frames().last() {
        Some(frame) => Ok(matches!(frame?.part, Part::First | Part::Middle)),
        None => Ok(before),
    }
}

/// Reads the rest of the segment: finds its last byte that is not zero, and the durable points that
/// batches in it state.
fn examine_rest(cursor: &mut Cursor, damage: Damage, tail: &mut Tail) -> Result<()> {
    let begin = u64::from(cursor.offset());
    let size = u64::from(cursor.header().segment_size.bytes());
    if begin < size {
        tail.rest = Rest::Zeros;
    }
    let mut offset = begin;
    while offset < size {
        let bytes = cursor.raw(offset, STEP_BYTES + BATCH_HEADER_BYTES)?.to_vec();
        if bytes.is_empty() {
            break;
        }
        for (place, word) in (offset..).step_by(BATCH_ALIGN as usize).zip(bytes.chunks(BATCH_ALIGN as usize))
        {
            let Some(last) = word.iter().rposition(|byte| *byte != 0) else { continue };
            tail.rest = Rest::Bytes { reach: place + last as u64 + 1 - begin, damage };
            let Some(header) = cursor.header_in(place, &bytes[(place - offset) as usize..]) else { continue };
            if tail.stated.is_none_or(|(durable, _)| durable < header.durable) {
                tail.stated = Some((header.durable, Witness::Batch(header.lsn)));
            }
        }
        offset += STEP_BYTES.min(bytes.len()) as u64;
    }
    Ok(())
}
