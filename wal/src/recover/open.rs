//! Creates a log, and opens one after a clean end or a crash.
//!
//! # Steps of opening
//! 1. Take the lock. Sync the folder: the last writer may have published a name without syncing it,
//!    and that name must not vanish after commits in it are acknowledged. Remove leftovers of
//!    interrupted creations.
//! 2. Read every segment's header. Each must follow its predecessor, otherwise a file is missing: a
//!    hole.
//! 3. Scan the newest segment. Older ones were synced before their successor was created; readers
//!    verify them.
//! 4. Decide by the table of [`super::tail`]. Read the slots and the newest checkpoints.
//! 5. Rewrite and sync everything above the last stated durable point: after a failed sync the page
//!    cache may show bytes that the disk doesn't have.
//! 6. At a torn tail create the next segment, under a higher incarnation; its header states where
//!    the torn one ends. On a full disk this waits for the first append: the log opens, so that a
//!    checkpoint can remove segments. Nothing is appended before it, so another opening would
//!    decide the same.
//!
//! Apart from step 1 nothing changes before step 5: a refused log stays unchanged.

use super::scan::{self, Scanned};
use super::tail::{self, Decision};
use crate::append::{End, Layout, Queue, Writer};
use crate::checkpoints;
use crate::error::Witness;
use crate::options::{Start, WalOptions};
use crate::read::{Cursor, Found, LogReader, Reach};
use crate::segments::{DirLock, Room, Segments, SlotFile, Slots, segment, sequence};
use crate::shared::{Opened, Shared};
use crate::{Error, Result};
use pitr_format::index::SegmentIndex;
use pitr_format::log::{Follows, SegmentHeader};
use pitr_format::{Incarnation, Lsn, TimelineId, Timestamp};
use pitr_vfs::{Access, Env, File, FileSystem};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes rewritten at once.
const REWRITE_BYTES: usize = 1 << 20;

/// What opening found in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// Timeline of the log.
    pub timeline: TimelineId,
    /// Identity of the log.
    pub log_id: [u8; 16],
    /// Where the log continues; everything below is durable.
    pub end: Lsn,
    /// The latest commit or watermark time in the log.
    pub time: Timestamp,
    /// Set if a torn tail was cut off. Not set for bytes after the end of a recycled segment: they
    /// are usually from its earlier incarnation. The log then continues in the next segment, and
    /// whether a write was torn is unknown.
    pub cut: Option<Cut>,
    /// Position of the oldest batch of the local log, whether or not it is written.
    pub first: Lsn,
}

/// A torn tail that was cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Where the log was cut.
    pub at: Lsn,
    /// Dropped bytes after the cut; zero if the write with the end of a record left no trace.
    pub bytes: u64,
}

/// Creates a log in `dir`.
pub(crate) fn create(env: &Env, dir: &Path, start: &Start, options: &WalOptions) -> Result<Shared> {
    options.validate()?;
    let fs = env.fs.as_ref();
    fs.create_dir_all(dir).map_err(Error::io("create", dir))?;
    let lock = DirLock::take(fs, dir)?;
    if !segment::list(fs, dir)?.is_empty() {
        return Err(Error::Exists { dir: dir.to_owned() });
    }
    segment::remove_leftovers(fs, dir)?;
    let slot_file = SlotFile::create(fs, dir, start.log_id)?;
    let header = first_header(start).ok_or(Error::Exhausted { end: start.follows, bytes: 0 })?;
    let file = segment::create(fs, dir, &header, &SegmentIndex::default(), Room::Written)?;
    let end = End::of_empty(&header).ok_or(Error::Exhausted { end: start.follows, bytes: 0 })?;
    let writer = Writer::new(file, segment::path_of(dir, header.segment), &header);
    let queue = Queue::new(Layout::new(end, SegmentIndex::default()));
    let slots = Slots::new(slot_file, Vec::new(), options.segments_max);
    let (segments, checkpoints) = (Segments::new([&header], slots), Vec::new());
    let opened = Opened { queue, segments, writer, checkpoints, lock };
    Ok(Shared::new(env, dir, options, opened))
}

fn first_header(start: &Start) -> Option<SegmentHeader> {
    let size = start.segment_size;
    let segment = size.segment_of(start.follows).checked_add(1)?;
    size.start_of(segment.checked_add(1)?)?;
    Some(SegmentHeader {
        timeline: start.timeline,
        segment,
        incarnation: Incarnation::FIRST,
        segment_size: size,
        log_id: start.log_id,
        follows: Follows { end: start.follows, segment: None, last_batch: Lsn::ORIGIN, gap: start.gap },
        time: start.time,
        checkpoint: None,
        recycled: false,
    })
}

/// Opens the log in `dir`.
pub(crate) fn open(
    env: &Env,
    dir: &Path,
    archived_to: Lsn,
    options: &WalOptions,
) -> Result<(Shared, Recovered)> {
    options.validate()?;
    let fs = env.fs.as_ref();
    let exists = fs.exists(dir).map_err(Error::io("look for", dir))?;
    if !exists {
        return Err(Error::NoLog { dir: dir.to_owned() });
    }
    let lock = DirLock::take(fs, dir)?;
    fs.sync_dir(dir).map_err(Error::io("sync", dir))?;
    segment::remove_leftovers(fs, dir)?;

    let examined = examine(fs, dir, archived_to, Access::ReadWrite)?;
    let newest = examined.newest;
    let (slot_file, entries) = SlotFile::open(fs, dir, newest.log_id)?;
    let (newest_checkpoint, end) = (examined.scanned.end.checkpoint, examined.scanned.end.next);
    let reader = |from| LogReader::open(Arc::clone(&env.fs), dir, from, end);
    let checkpoints = checkpoints::find(reader, newest_checkpoint, examined.first(), options)?;
    let cut = examined.cut.filter(|cut| !newest.recycled || cut.bytes == 0);
    let Mended { headers, layout, writer } = mend(fs, dir, examined)?;
    let segments = Segments::new(&headers, Slots::new(slot_file, entries, options.segments_max));
    let recovered = Recovered {
        timeline: newest.timeline,
        log_id: newest.log_id,
        end: layout.end(),
        time: layout.time(),
        cut,
        first: segments.first(),
    };
    let opened = Opened { queue: Queue::new(layout), segments, writer, checkpoints, lock };
    let shared = Shared::new(env, dir, options, opened);
    Ok((shared, recovered))
}

/// The state found on disk, and the decision.
pub(crate) struct Examined {
    /// Headers of all local segments, in order; never empty.
    headers: Vec<SegmentHeader>,
    pub(crate) newest: SegmentHeader,
    file: Arc<dyn File>,
    path: PathBuf,
    cursor: Cursor,
    pub(crate) scanned: Scanned,
    pub(crate) cut: Option<Cut>,
}

impl Examined {
    /// Position of the oldest batch, whether or not it is written.
    fn first(&self) -> Lsn {
        self.headers.first().and_then(SegmentHeader::first_batch).unwrap_or(Lsn::MAX)
    }
}

/// Steps 2 to 4 of the module's head; only reads. `access` is that of the newest segment's file.
pub(crate) fn examine(fs: &dyn FileSystem, dir: &Path, archived_to: Lsn, access: Access) -> Result<Examined> {
    let headers = read_headers(fs, dir)?;
    let newest = *headers.last().ok_or_else(|| Error::NoLog { dir: dir.to_owned() })?;
    let path = segment::path_of(dir, newest.segment);
    let file = fs.open(&path, access).map_err(Error::io("open", &path))?;
    let unfinished = begins_unfinished(fs, dir, &headers)?;
    let mut cursor = Cursor::new(Arc::clone(&file), path.clone(), newest)?;
    let mut scanned = scan::scan(&mut cursor, unfinished)?;
    if scanned.tail.stated.is_none_or(|(durable, _)| durable < archived_to) {
        scanned.tail.stated = Some((archived_to, Witness::Archive));
    }
    let cut = match tail::decide(&scanned.tail) {
        Decision::Hole { durable, witness, damage } => {
            let (lsn, offset) = (scanned.tail.at, cursor.offset());
            return Err(Error::Hole { lsn, segment: newest.segment, offset, damage, durable, witness });
        }
        Decision::Cut { bytes } => Some(Cut { at: scanned.tail.at, bytes }),
        Decision::Append => None,
    };
    Ok(Examined { headers, newest, file, path, cursor, scanned, cut })
}

/// A log that is ready for appends.
struct Mended {
    /// Headers of all local segments, in order.
    headers: Vec<SegmentHeader>,
    layout: Layout,
    writer: Writer,
}

/// Steps 5 and 6.
fn mend(fs: &dyn FileSystem, dir: &Path, examined: Examined) -> Result<Mended> {
    let Examined { mut headers, newest, file, path, cursor, scanned, cut } = examined;
    rewrite(file.as_ref(), &cursor, &scanned).map_err(Error::io("rewrite", &path))?;
    if cut.is_none() {
        let (layout, writer) = (Layout::new(scanned.end, scanned.index), Writer::new(file, path, &newest));
        return Ok(Mended { headers, layout, writer });
    }
    let header = header_after_cut(&headers, &scanned.end)?;
    let end = End::of_empty(&header).ok_or(Error::Exhausted { end: scanned.end.next, bytes: 0 })?;
    match segment::create(fs, dir, &header, &scanned.index, Room::Written) {
        Ok(file) => {
            let writer = Writer::new(file, segment::path_of(dir, header.segment), &header);
            headers.push(header);
            Ok(Mended { headers, layout: Layout::new(end, SegmentIndex::default()), writer })
        }
        Err(full) if full.is_out_of_space() => {
            let layout = Layout::beginning(end, header, scanned.index);
            Ok(Mended { headers, layout, writer: Writer::new(file, path, &newest) })
        }
        Err(other) => Err(other),
    }
}

/// The headers of all local segments. Each must follow its predecessor.
fn read_headers(fs: &dyn FileSystem, dir: &Path) -> Result<Vec<SegmentHeader>> {
    let mut headers: Vec<SegmentHeader> = Vec::new();
    for number in segment::list(fs, dir)? {
        let Some((_, header)) = segment::open(fs, dir, number, Access::Read)? else { continue };
        if let Some(previous) = headers.last() {
            sequence::check_next(dir, previous, &header)?;
        }
        headers.push(header);
    }
    Ok(headers)
}

/// True if the newest segment should start with the rest of a record. The last batch before the
/// segment shows this. If that batch is no longer local, its whole round was durable, and a round
/// ends with a whole record.
fn begins_unfinished(fs: &dyn FileSystem, dir: &Path, headers: &[SegmentHeader]) -> Result<bool> {
    let Some(newest) = headers.last() else { return Ok(false) };
    let (last_batch, size) = (newest.follows.last_batch, newest.segment_size);
    let holder = headers.iter().rev().skip(1).find(|header| header.segment == size.segment_of(last_batch));
    let Some(holder) = holder.filter(|holder| holder.incarnation == newest.incarnation) else {
        return Ok(false);
    };
    let path = segment::path_of(dir, holder.segment);
    let file = fs.open(&path, Access::Read).map_err(Error::io("open", &path))?;
    let mut cursor = Cursor::new(file, path, *holder)?;
    let after = headers.iter().find(|header| header.segment > holder.segment).unwrap_or(newest);
    let (limit, segment) = (after.follows.end, holder.segment);
    cursor.seek(last_batch, limit)?;
    let (before, reach) = (*cursor.place(), Reach::sealed_by(newest));
    match cursor.next(limit)? {
        Found::Batch(batch) => scan::ends_unfinished(&batch, false).map_err(|source| Error::Frames {
            lsn: batch.header.lsn,
            segment,
            source,
        }),
        // The segment is sealed, so damage is a hole.
        Found::Fault(fault) => reach.hole(&before, fault).map_or(Ok(false), Err),
    }
}

/// The header of the segment that seals the newest one at its cut. Its incarnation is higher than
/// any before.
fn header_after_cut(headers: &[SegmentHeader], end: &End) -> Result<SegmentHeader> {
    let highest = headers.iter().map(|header| header.incarnation).max().unwrap_or(end.incarnation);
    highest
        .next()
        .and_then(|incarnation| end.next_segment(false, incarnation))
        .ok_or(Error::Exhausted { end: end.next, bytes: 0 })
}

/// Step 5 of the module's head. Rewrites the same bytes, so a crash in the middle changes nothing.
fn rewrite(file: &dyn File, cursor: &Cursor, scanned: &Scanned) -> std::io::Result<()> {
    let mut offset = cursor.place().offset_of(scanned.durable);
    let end = cursor.place().offset_of(scanned.end.next);
    while offset < end {
        let len = REWRITE_BYTES.min((end - offset) as usize);
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, offset)?;
        file.write_all_at(&bytes, offset)?;
        offset += len as u64;
    }
    file.sync_data()
}
