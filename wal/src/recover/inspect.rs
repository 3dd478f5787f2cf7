//! Inspects a log's folder without changing it.
//!
//! # What it promises
//! Changes nothing in the folder and takes no lock, so a writer may be active. The result is a
//! snapshot of a moving log:
//! - A segment that is removed or recycled in the meantime is reported as [`Finding::Gone`], which
//!   is no damage.
//! - Bytes above the highest stated durable point ([`TailEnd::stated`]) are not known to be
//!   durable.
//! - The segments are those that existed at the start, so a fast writer can't prolong the
//!   inspection forever.
//!
//! # What it relies on
//! [`Cursor`] verifies batches, and [`super::open`] makes the tail decision: the same code that
//! opening uses.

use super::open::{self, Examined};
use crate::error::{Damage, Witness};
use crate::read::{Cursor, Fault, Found, LogBatch, Records};
use crate::segments::{segment, sequence};
use crate::{Error, Result};
use pitr_format::log::{BATCH_ALIGN, BATCH_HEADER_BYTES, SegmentHeader, WholeRecord};
use pitr_format::record::Record;
use pitr_format::{Lsn, SegmentNo, Timestamp};
use pitr_vfs::{Access, FileSystem};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes searched at once for the next batch after damage.
const STEP_BYTES: usize = 64 << 10;
/// Maximum number of attempts to examine the tail while a writer moves it.
const LOOKS_MAX: u32 = 8;

/// The folder of a log, as it was when listed.
#[derive(Debug)]
pub struct Inspection {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    segments: Vec<SegmentHeader>,
    findings: Vec<Finding>,
    tail: Tail,
}

/// The decision that opening the log would make about its end.
#[derive(Debug)]
pub enum Tail {
    /// The log would continue at its end.
    Clean(TailEnd),
    /// The log would be cut at `end` and continue in the next segment.
    Cut {
        /// The end of the log after the cut.
        end: TailEnd,
        /// Size of the dropped tail, bytes.
        bytes: u64,
    },
    /// Opening would fail with this error.
    Refused(Error),
    /// Unknown: at each attempt a writer began another segment.
    Moving,
}

/// End of the valid batches of the newest segment.
#[derive(Debug, Clone, Copy)]
pub struct TailEnd {
    /// The position.
    pub at: Lsn,
    /// The segment.
    pub segment: SegmentNo,
    /// Offset in the segment, bytes.
    pub offset: u64,
    /// The highest stated durable point. Bytes between it and the end are not known to be durable.
    pub stated: Lsn,
    /// The witness of `stated`; `None` if no batch of the segment states it.
    pub witness: Option<Witness>,
    /// The latest commit or watermark time before the end.
    pub time: Timestamp,
}

/// A fault in the log, or a segment that was removed.
#[derive(Debug)]
#[non_exhaustive]
pub enum Finding {
    /// A batch is missing or damaged.
    Damaged {
        /// Segment that should contain the damaged bytes.
        segment: SegmentNo,
        /// Offset in the segment, bytes.
        offset: u64,
        /// Position of the batch.
        lsn: Lsn,
        /// The bytes that were found instead.
        damage: Damage,
        /// The witness that the log is durable beyond the damage.
        witness: Witness,
    },
    /// A batch is valid, but a record in it can't be decoded or assembled.
    Record {
        /// Segment that contains the batch.
        segment: SegmentNo,
        /// Offset of the batch in the segment, bytes.
        offset: u64,
        /// Position of the batch.
        lsn: Lsn,
        /// The fault.
        error: Error,
    },
    /// A segment's header can't be decoded, belongs to another log, or a segment before it is
    /// missing.
    Segment {
        /// The segment.
        segment: SegmentNo,
        /// The fault.
        error: Error,
    },
    /// A segment was removed or recycled after the folder was listed. This is no damage.
    Gone(SegmentNo),
}

impl Finding {
    /// True for damage; false for a segment that was removed after the folder was listed.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        !matches!(self, Finding::Gone(_))
    }
}

/// The contents of a segment.
#[derive(Debug, Clone, Copy)]
pub struct Contents {
    /// Number of valid batches.
    pub batches: u64,
    /// Number of record frames in these batches: whole records and fragments.
    pub frames: u64,
    /// Bytes of these batches, headers included.
    pub batch_bytes: u64,
    /// Bytes from the start of the segment to the end of the last batch.
    pub used_bytes: u64,
    /// The latest time at its first batch and at its last batch.
    pub times: Option<(Timestamp, Timestamp)>,
    /// The highest durable point that one of its batches states.
    pub stated: Lsn,
}

impl Inspection {
    /// Lists the folder, reads the headers, and makes the tail decision of [`crate::Wal::open`]
    /// with this `archived_to`. [`Error::NoLog`] if there is no segment.
    pub fn new(fs: Arc<dyn FileSystem>, dir: &Path, archived_to: Lsn) -> Result<Self> {
        if !fs.exists(dir).map_err(Error::io("look for", dir))? {
            return Err(Error::NoLog { dir: dir.to_owned() });
        }
        let (mut segments, mut findings) = (Vec::<SegmentHeader>::new(), Vec::new());
        for number in segment::list(fs.as_ref(), dir)? {
            match segment::open(fs.as_ref(), dir, number, Access::Read) {
                Ok(Some((_, header))) => {
                    if let Some(Err(error)) =
                        segments.last().map(|last| sequence::check_next(dir, last, &header))
                    {
                        findings.push(Finding::Segment { segment: number, error });
                    }
                    segments.push(header);
                }
                Ok(None) => findings.push(Finding::Gone(number)),
                Err(error @ Error::Io { .. }) => return Err(error),
                Err(error) => findings.push(Finding::Segment { segment: number, error }),
            }
        }
        if segments.is_empty() && findings.is_empty() {
            return Err(Error::NoLog { dir: dir.to_owned() });
        }
        let tail = decide(fs.as_ref(), dir, archived_to)?;
        Ok(Inspection { fs, dir: dir.to_owned(), segments, findings, tail })
    }

    /// The headers that can be decoded, in order.
    #[must_use]
    pub fn segments(&self) -> &[SegmentHeader] {
        &self.segments
    }

    /// Faults in headers and in the order of segments.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The decision that opening would make.
    #[must_use]
    pub fn tail(&self) -> &Tail {
        &self.tail
    }

    /// Files that are not segments: spare files, and leftovers of interrupted creations. With their
    /// sizes in bytes.
    pub fn leftovers(&self) -> Result<Vec<(PathBuf, u64)>> {
        let mut leftovers = Vec::new();
        for path in segment::leftovers(self.fs.as_ref(), &self.dir)? {
            match self.fs.open(&path, Access::Read).and_then(|file| file.len()) {
                Ok(bytes) => leftovers.push((path, bytes)),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(Error::io("measure", &path)(e)),
            }
        }
        Ok(leftovers)
    }

    /// Passes every valid batch of a segment of [`Inspection::segments`] to `each`, in order.
    /// Returns the totals and the faults. After damage it continues with the next valid batch.
    pub fn read<E: From<Error>>(
        &self,
        header: &SegmentHeader,
        mut each: impl FnMut(&LogBatch) -> std::result::Result<(), E>,
    ) -> std::result::Result<(Contents, Vec<Finding>), E> {
        let mut findings = Vec::new();
        let mut contents = Contents {
            batches: 0,
            frames: 0,
            batch_bytes: 0,
            used_bytes: 0,
            times: None,
            stated: header.follows.end,
        };
        let path = segment::path_of(&self.dir, header.segment);
        let Some((file, _)) = self.opened(header)? else {
            return Ok((contents, vec![Finding::Gone(header.segment)]));
        };
        let mut cursor = Cursor::new(file, path, *header)?;
        let (end, witness) = self.end_of(header, cursor.place().segment_end());
        let mut follows = Some(header.follows);
        while cursor.at() < end {
            let (lsn, offset) = (cursor.at(), u64::from(cursor.offset()));
            let damage = match cursor.next(end)? {
                Found::Batch(batch) => {
                    let batch = LogBatch {
                        header: batch.header,
                        timeline: header.timeline,
                        segment: header.segment,
                        incarnation: header.incarnation,
                        bytes: batch.bytes().to_vec(),
                        follows: follows.take(),
                    };
                    contents.add(&batch);
                    contents.used_bytes = cursor.place().offset_of(cursor.at());
                    each(&batch)?;
                    continue;
                }
                Found::Fault(Fault::Crossing) => Damage::Bytes,
                Found::Fault(Fault::Damage(damage)) => damage,
            };
            if self.opened(header)?.is_none() {
                findings.push(Finding::Gone(header.segment));
                break;
            }
            let next = next_batch(&mut cursor, offset + u64::from(BATCH_ALIGN), end)?;
            // After the last batch of a segment without a stated end, no bytes can be missing.
            if next.is_some() || lsn < self.durable(header, witness, end) {
                findings.push(Finding::Damaged { segment: header.segment, offset, lsn, damage, witness });
            }
            let Some(next) = next else { break };
            cursor.seek(next, end)?;
            if cursor.at() <= lsn {
                break;
            }
        }
        Ok((contents, findings))
    }

    /// The segment's file, if it still contains that segment.
    fn opened(&self, header: &SegmentHeader) -> Result<Option<(Arc<dyn pitr_vfs::File>, SegmentHeader)>> {
        match segment::open(self.fs.as_ref(), &self.dir, header.segment, Access::Read) {
            Ok(opened) => Ok(opened.filter(|(_, now)| now == header)),
            Err(error @ Error::Io { .. }) => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// End of a segment, and its witness.
    fn end_of(&self, header: &SegmentHeader, segment_end: Lsn) -> (Lsn, Witness) {
        let next = self.segments.iter().find(|next| next.segment > header.segment);
        match (next, &self.tail) {
            (Some(next), _) if next.follows.segment == Some((header.segment, header.incarnation)) => {
                (next.follows.end, Witness::Segment(next.segment))
            }
            (Some(_), _) => (segment_end, Witness::Caller),
            (None, Tail::Clean(end) | Tail::Cut { end, .. }) => (end.at, Witness::Caller),
            // Valid batches may follow the hole: those that witness it.
            (None, Tail::Refused(Error::Hole { segment, witness, .. })) if *segment == header.segment => {
                (segment_end, *witness)
            }
            (None, Tail::Refused(_) | Tail::Moving) => (segment_end, Witness::Caller),
        }
    }

    /// The segment must be complete below this position.
    fn durable(&self, header: &SegmentHeader, witness: Witness, end: Lsn) -> Lsn {
        match (&self.tail, witness) {
            (_, Witness::Segment(_)) => end,
            (Tail::Refused(Error::Hole { segment, durable, .. }), _) if *segment == header.segment => {
                *durable
            }
            _ => header.follows.end,
        }
    }

    /// Verifies every batch and every record. Returns the contents of each segment and all faults.
    pub fn verify(&self) -> Result<(Vec<Contents>, Vec<Finding>)> {
        let (mut all, mut findings) = (Vec::new(), Vec::new());
        let mut records = Records::from_anywhere();
        for header in &self.segments {
            let offset =
                |lsn: Lsn| header.segment_size.start_of(header.segment).map_or(0, |begin| lsn.since(begin));
            let (contents, faults) = self.read::<Error>(header, |batch| {
                if let Err(error) = records.feed::<Error>(batch, |record| check(batch, record)) {
                    let (segment, lsn) = (header.segment, batch.header.lsn);
                    findings.push(Finding::Record { segment, offset: offset(lsn), lsn, error });
                    records = Records::from_anywhere();
                }
                Ok(())
            })?;
            if !faults.is_empty() {
                records = Records::from_anywhere();
            }
            all.push(contents);
            findings.extend(faults);
        }
        Ok((all, findings))
    }
}

/// Makes the tail decision for the newest segment, provided that it is still the newest afterwards.
fn decide(fs: &dyn FileSystem, dir: &Path, archived_to: Lsn) -> Result<Tail> {
    for _ in 0..LOOKS_MAX {
        let before = segment::list(fs, dir)?.pop();
        let tail = match open::examine(fs, dir, archived_to, Access::Read) {
            Ok(examined) => tail_of(&examined),
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error @ Error::Io { .. }) => return Err(error),
            Err(error) => Tail::Refused(error),
        };
        if segment::list(fs, dir)?.pop() == before {
            return Ok(tail);
        }
    }
    Ok(Tail::Moving)
}

fn tail_of(examined: &Examined) -> Tail {
    let (header, scanned) = (&examined.newest, &examined.scanned);
    let begin = header.segment_size.start_of(header.segment).unwrap_or(scanned.tail.at);
    let (stated, witness) =
        scanned.tail.stated.map_or((scanned.durable, None), |(lsn, who)| (lsn, Some(who)));
    let end = TailEnd {
        at: scanned.tail.at,
        segment: header.segment,
        offset: scanned.tail.at.since(begin),
        stated,
        witness,
        time: scanned.end.time,
    };
    match examined.cut {
        Some(cut) => Tail::Cut { end, bytes: cut.bytes },
        None => Tail::Clean(end),
    }
}

impl Contents {
    fn add(&mut self, batch: &LogBatch) {
        let time = batch.header.time;
        self.batches += 1;
        self.frames += u64::from(batch.header.frames);
        self.batch_bytes += batch.header.bytes_len() as u64;
        self.times = Some((self.times.map_or(time, |(first, _)| first), time));
        self.stated = self.stated.max(batch.header.durable);
    }
}

/// Fails unless the record can be decoded.
fn check(batch: &LogBatch, record: &WholeRecord<'_>) -> Result<()> {
    let decoded = Record::decode(record.kind, record.payload).map(drop);
    decoded.map_err(|source| Error::Frames { lsn: batch.header.lsn, segment: batch.segment, source })
}

/// The next position from `offset` on with a batch header of the segment's present incarnation.
fn next_batch(cursor: &mut Cursor, offset: u64, end: Lsn) -> Result<Option<Lsn>> {
    let (mut offset, end) = (offset, cursor.place().offset_of(end));
    while offset < end {
        let bytes = cursor.raw(offset, STEP_BYTES + BATCH_HEADER_BYTES)?.to_vec();
        let step = STEP_BYTES.min(bytes.len());
        for place in (0..step).step_by(BATCH_ALIGN as usize) {
            if let Some(header) = cursor.header_in(offset + place as u64, &bytes[place..]) {
                return Ok(Some(header.lsn));
            }
        }
        if step == 0 {
            break;
        }
        offset += step as u64;
    }
    Ok(None)
}
