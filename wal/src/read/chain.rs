//! Finds the segments of a log in its folder, in order, for every kind of reader.

use super::cursor::Cursor;
use super::place::Place;
use crate::error::Witness;
use crate::segments::{segment, sequence};
use crate::{Error, Result};
use pitr_format::index::Stretch;
use pitr_format::log::SegmentHeader;
use pitr_format::{Lsn, SegmentNo};
use pitr_vfs::{Access, File, FileSystem};
use std::path::Path;
use std::sync::Arc;

type Opened = (Arc<dyn File>, SegmentHeader);

/// A cursor at the batch that contains or starts at `from`; at the end of the log, where the next
/// batch would start.
pub(crate) fn enter(fs: &dyn FileSystem, dir: &Path, from: Lsn, limit: Lsn) -> Result<Cursor> {
    let (file, header) = find_first(fs, dir, from)?;
    let mut cursor = Cursor::new(file, segment::path_of(dir, header.segment), header)?;
    let limit = limit.min(cursor.place().segment_end());
    if !cursor.seek_batch(from, limit)? {
        seek_stretch(fs, dir, &mut cursor, from, limit)?;
        cursor.seek(from, limit)?;
    }
    Ok(cursor)
}

/// Moves to the stretch that contains `from`, by the segment's index if it has one.
fn seek_stretch(fs: &dyn FileSystem, dir: &Path, cursor: &mut Cursor, from: Lsn, limit: Lsn) -> Result<()> {
    let place = *cursor.place();
    let later = |number: &SegmentNo| *number > place.header().segment;
    let Some(next) = segment::list(fs, dir)?.into_iter().find(later) else { return Ok(()) };
    let index = segment::index_of(fs, dir, place.header(), next)?;
    let before = |stretch: &&Stretch| u64::from(stretch.offset) <= place.offset_of(from);
    let stretch = index.stretches().iter().take_while(before).last();
    if let Some(lsn) = stretch.and_then(|stretch| place.position(stretch.offset)) {
        cursor.seek_batch(lsn, limit)?;
    }
    Ok(())
}

/// The last segment whose predecessor ends at or before `from`.
fn find_first(fs: &dyn FileSystem, dir: &Path, from: Lsn) -> Result<Opened> {
    let numbers = segment::list(fs, dir)?;
    let open = |number| segment::open(fs, dir, number, Access::Read);
    let oldest = numbers.first().copied().map(open).transpose()?.flatten();
    let Some((_, oldest)) = oldest else { return Err(Error::NoLog { dir: dir.to_owned() }) };
    let holder = oldest.segment_size.segment_of(from);
    let begin = numbers.partition_point(|number| *number <= holder).saturating_sub(1);
    let mut found = None;
    for number in &numbers[begin..] {
        match open(*number)? {
            Some((_, header)) if header.follows.end > from => break,
            opened => found = opened.or(found),
        }
    }
    let first = oldest.first_batch().unwrap_or(Lsn::MAX);
    found.ok_or(Error::Removed { lsn: from, first })
}

/// The segment after `previous`. It must exist, because the limit lies after `previous`. `numbers`
/// are the segments in the folder.
pub(crate) fn find_next(
    fs: &dyn FileSystem,
    dir: &Path,
    numbers: &[SegmentNo],
    previous: &SegmentHeader,
    limit: Lsn,
) -> Result<SegmentHeader> {
    let later = numbers.partition_point(|number| *number <= previous.segment);
    for number in &numbers[later..] {
        if let Some((_, next)) = segment::open(fs, dir, *number, Access::Read)? {
            let found = sequence::check_next(dir, previous, &next).map(|()| next);
            return found.map_err(|hole| hole_or_removed(fs, dir, previous, hole));
        }
    }
    let missing = previous.segment.checked_add(1).unwrap_or(previous.segment);
    Err(hole_or_removed(
        fs,
        dir,
        previous,
        sequence::missing_segment(previous, missing, limit, Witness::Caller),
    ))
}

/// Fails if the last batch before `place`, the end of its segment, is not the batch that `next`
/// names.
pub(crate) fn check_joins(dir: &Path, place: &Place, next: &SegmentHeader) -> Result<()> {
    if place.last_batch().is_none_or(|last| last == next.follows.last_batch) {
        return Ok(());
    }
    let path = segment::path_of(dir, next.segment);
    Err(Error::Foreign { path, segment: next.segment, what: "predecessor's last batch" })
}

/// Turns a hole after `previous` into [`Error::Removed`] if `previous` is missing too: segments are
/// removed oldest first, so a removal overtook the reader.
pub(crate) fn hole_or_removed(
    fs: &dyn FileSystem,
    dir: &Path,
    previous: &SegmentHeader,
    hole: Error,
) -> Error {
    match fs.exists(&segment::path_of(dir, previous.segment)) {
        Ok(false) => {}
        _ => return hole,
    }
    let oldest = segment::list(fs, dir).ok().and_then(|numbers| numbers.first().copied());
    let first = oldest.and_then(|number| {
        let (_, header) = segment::open(fs, dir, number, Access::Read).ok()??;
        header.first_batch()
    });
    match (first, &hole) {
        (Some(first), Error::Hole { lsn, .. }) => Error::Removed { lsn: *lsn, first },
        _ => hole,
    }
}
