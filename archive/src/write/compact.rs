//! Compaction: many small log objects become one, batch for batch.
//!
//! A log that is shipped once a second makes 86,400 objects a day. A merged object holds the same
//! batches as the objects that it replaces, so no commit, time or position is lost, and its footer
//! lets a restore skip images that later ones replace. Merged objects are merged again when there
//! are many: a byte is rewritten once for each level.
//!
//! # Promises
//! - Only objects that count for good are merged: those of this writer after the check for a higher
//!   claim, and those of writers before it, which are fenced.
//! - An object is built from its parts as they are stored: the newest ones are still in memory, the
//!   others are read back. Each part is checked, and the object is decoded and compared before its
//!   put (FAILURES 30).
//! - It replaces others by its name alone (`history/cover.rs`): before its put nothing changes, and
//!   after it nothing is missing. Nothing is deleted: `prune` does that.
//! - A merged object bears the epoch of its parts, which are of one writer.
//! - A gap stays where it is: an object that begins with one, or follows one, is not merged with
//!   what comes before it.

use super::claim::Writer;
use super::index::{Carry, LogIdentity};
use super::pack::{Built, Packer};
use crate::archive::{Archive, LogObject};
use crate::error::{Error, Result};
use crate::history::Catalog;
use crate::stored::{Footer, Timeline};
use pitr_codec::{Codec, ObjectIndex};
use pitr_format::{Lsn, TimelineId};
use pitr_objects::layout::{LogName, SourceObject};
use pitr_objects::{Bytes, parallel};
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The objects that are merged into one have at most this size together, bytes.
const STORED_BYTES_MAX: u64 = 12 << 20;
/// The newest small objects are kept in memory up to this size together, bytes: usually all of the
/// next merge.
const FRESH_BYTES_MAX: usize = 4 << 20;
/// Number of parts that are fetched at the same time and held.
const PARTS_AT_ONCE: usize = 16;
/// An object is merged if it has less than one part in this many of the largest span.
const SMALL_PART: u64 = 4;

/// Settings of a [`Compactor`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactOptions {
    /// Compression of frames.
    pub codec: Codec,
    /// Number of adjacent objects of a level that become one of the next; at least 2.
    pub count: usize,
    /// Maximum positions of log in a merged object, bytes. An object with a quarter of it or more
    /// is not merged again.
    pub span_bytes: u64,
    /// Approximate bytes of log in a frame.
    pub frame_bytes: u32,
}

impl Default for CompactOptions {
    fn default() -> Self {
        CompactOptions { codec: Codec::default(), count: 64, span_bytes: 7 << 20, frame_bytes: 1 << 20 }
    }
}

/// A merge that was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compacted {
    /// The merged object.
    pub name: LogName,
    /// Number of objects that it replaces.
    pub objects: usize,
    /// Their size, bytes.
    pub bytes_before: u64,
    /// Its size, bytes.
    pub bytes_after: u64,
}

/// Merges the objects of a timeline while its log is shipped. One thread merges at a time; another
/// may [`note`](Self::note) what was shipped.
#[derive(Debug)]
pub struct Compactor {
    writer: Writer,
    options: CompactOptions,
    timeline: TimelineId,
    /// Start of the timeline.
    begin: Lsn,
    line: Mutex<Line>,
    merging: Mutex<Merging>,
}

/// What the last call left.
#[derive(Debug, Default)]
struct Merging {
    /// A built object whose put is not confirmed.
    built: Option<Built>,
    /// A merge of which a part was damaged, in the store or on its way.
    failed: Option<LogName>,
}

/// The objects that count, ascending.
#[derive(Debug)]
struct Line {
    objects: Vec<(LogName, u64)>,
    /// Number of objects that came since nothing was due.
    news: usize,
    /// Objects that can't be merged: one of a merge was damaged, or of another log.
    left_alone: HashSet<LogName>,
    fresh: Fresh,
}

/// The newest small objects as they are stored.
#[derive(Debug, Default)]
struct Fresh {
    objects: BTreeMap<LogName, Bytes>,
    bytes: usize,
}

impl Fresh {
    fn keep(&mut self, name: LogName, bytes: Bytes) {
        self.bytes += bytes.len();
        self.objects.insert(name, bytes);
        while self.bytes > FRESH_BYTES_MAX
            && let Some((_, oldest)) = self.objects.pop_first()
        {
            self.bytes -= oldest.len();
        }
    }

    /// Forgets the parts of this object.
    fn forget(&mut self, whole: &LogName) {
        self.objects.retain(|name, _| !whole.covers(name));
        self.bytes = self.objects.values().map(Bytes::len).sum();
    }
}

impl Line {
    fn insert(&mut self, name: LogName, bytes: u64) {
        let at = self.objects.partition_point(|(known, _)| known.from < name.from);
        self.objects.insert(at, (name, bytes));
    }
}

/// Objects to merge.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Job {
    /// The object before them; `None` if they begin the timeline.
    before: Option<LogName>,
    /// The objects and their sizes in bytes; never empty.
    parts: Vec<(LogName, u64)>,
    /// Level of the merged object.
    level: u8,
}

impl Job {
    fn new(line: &[(LogName, u64)], range: Range<usize>, level: u8) -> Self {
        let before = range.start.checked_sub(1).map(|before| line[before].0);
        Job { before, parts: line[range].to_vec(), level: level + 1 }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The line is always whole, and a built object is put again.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Compactor {
    /// A compactor for a timeline of this writer. `catalog` was loaded after the writer's claim.
    #[must_use]
    pub fn new(writer: Writer, catalog: &Catalog, timeline: TimelineId, options: CompactOptions) -> Self {
        Compactor {
            writer,
            options,
            timeline,
            begin: catalog.timelines().get(&timeline).map_or(Lsn::ORIGIN, Timeline::begin),
            line: Mutex::new(Line {
                objects: catalog.logs(timeline).to_vec(),
                news: options.count,
                left_alone: HashSet::new(),
                fresh: Fresh::default(),
            }),
            merging: Mutex::default(),
        }
    }

    /// Takes note of an object that was shipped and counts, as it is stored.
    pub fn note(&self, name: LogName, bytes: Bytes) {
        debug_assert_eq!(name.timeline, self.timeline, "a compactor has one timeline");
        let mut line = lock(&self.line);
        line.insert(name, bytes.len() as u64);
        if name.to.since(name.from) < self.options.span_bytes / SMALL_PART {
            line.fresh.keep(name, bytes);
        }
        line.news += 1;
    }

    /// True if there may be objects to merge.
    #[must_use]
    pub fn is_due(&self) -> bool {
        lock(&self.line).news >= self.options.count
    }

    /// Merges the next run of objects. `None` if none is due. Calls of several threads take turns.
    ///
    /// # Errors
    /// [`Error::Fenced`] if another writer took over; [`Error::Objects`], [`Error::Malformed`],
    /// [`Error::Swapped`] if an object can't be read. Nothing is then merged; another call tries
    /// again.
    pub fn compact(&self) -> Result<Option<Compacted>> {
        let mut merging = lock(&self.merging);
        self.writer.check_memory()?;
        let Some(job) = self.next() else { return Ok(None) };
        let (Some((first, _)), Some((last, _))) = (job.parts.first(), job.parts.last()) else {
            return Ok(None);
        };
        // If the last put got no answer, the same bytes are put again.
        let whole = LogName { to: last.to, level: job.level, ..*first };
        if merging.built.as_ref().is_none_or(|built| built.name != whole) {
            let built = self.build(&job);
            let is_faulty = |error: &Error| error.is_damage() || matches!(error, Error::Diverged { .. });
            if built.as_ref().is_err_and(is_faulty) && merging.failed.replace(whole) == Some(whole) {
                lock(&self.line).left_alone.extend(job.parts.iter().map(|(name, _)| *name));
            }
            merging.built = Some(built?);
        }
        let Some(built) = merging.built.as_ref() else { return Ok(None) };
        let archive = self.writer.archive();
        let path = archive.folder().path(&SourceObject::Log(built.name));
        match archive.objects().put_new(&path, built.bytes.clone()) {
            // Another writer has merged the same objects.
            Ok(()) | Err(pitr_objects::Error::Foreign { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let (name, bytes_after) = (built.name, built.bytes.len() as u64);
        merging.built = None;
        let mut line = lock(&self.line);
        line.objects.retain(|(one, _)| !name.covers(one));
        line.insert(name, bytes_after);
        line.fresh.forget(&name);
        drop(line);
        let bytes_before = job.parts.iter().map(|(_, bytes)| bytes).sum();
        Ok(Some(Compacted { name, objects: job.parts.len(), bytes_before, bytes_after }))
    }

    fn next(&self) -> Option<Job> {
        let mut line = lock(&self.line);
        let job = job(&line, self.begin, &self.options);
        if job.is_none() {
            line.news = 0;
        }
        job
    }

    /// Builds the merged object. Holds its log, and some of the stored parts.
    fn build(&self, Job { before, parts, level }: &Job) -> Result<Built> {
        let archive = self.writer.archive();
        let fetch = |(name, _): &(LogName, u64)| -> Result<Bytes> {
            let fresh = lock(&self.line).fresh.objects.get(name).cloned();
            if let Some(fresh) = fresh {
                return Ok(fresh);
            }
            Ok(archive.objects().get(&archive.folder().path(&SourceObject::Log(*name)))?)
        };
        let mut packer: Option<Packer> = None;
        for some in parts.chunks(PARTS_AT_ONCE) {
            let fetched: Result<Vec<Bytes>> = parallel::map(archive.spawn(), some, fetch);
            for ((name, _), whole) in some.iter().zip(&fetched?) {
                let part = Part::of(archive, name, whole)?;
                let into = match &mut packer {
                    Some(packer) => packer,
                    None => packer.insert(self.begin(&part, before.as_ref(), *level)?),
                };
                part.add_to(archive, into)?;
            }
        }
        let packer = packer.ok_or(Error::Diverged { lsn: self.begin })?; // a job has parts
        packer.build(archive, self.options.codec)
    }

    /// The packer of the merged object, whose first part this is.
    fn begin(&self, part: &Part<'_>, before: Option<&LogName>, level: u8) -> Result<Packer> {
        let carry = match before {
            Some(before) => Carry::after(&self.writer.archive().footer(before)?),
            None => Carry::nothing(),
        };
        let Footer { timeline, epoch, segment_size, log_id, from, .. } = part.object.footer;
        let identity = LogIdentity { timeline, epoch, segment_size, log_id };
        let frame_bytes = self.options.frame_bytes as usize;
        Ok(Packer::new(identity, from, false, carry, frame_bytes).level(level))
    }
}

/// An object to merge, read whole and checked.
struct Part<'a> {
    object: LogObject,
    index: ObjectIndex,
    whole: &'a [u8],
}

impl<'a> Part<'a> {
    fn of(archive: &Archive, name: &LogName, whole: &'a [u8]) -> Result<Self> {
        let (object, index) = archive.check_bytes(name, whole)?;
        Ok(Part { object, index, whole })
    }

    fn add_to(&self, archive: &Archive, packer: &mut Packer) -> Result<()> {
        let (object, name) = (&self.object, self.object.name);
        if !packer.goes_on_with(&object.footer) {
            return Err(Error::Diverged { lsn: name.from });
        }
        for (number, start) in object.footer.frames.iter().enumerate() {
            let frame = self.index.decode_frame(self.whole, number);
            let frame = frame.map_err(|source| archive.in_object(&name, source))?;
            let segment = object.footer.segment_size.segment_of(start.lsn);
            object.each_batch(number, &frame, |batch| {
                let added = packer.add(batch, segment, start.incarnation);
                added.map_err(|source| Error::Malformed { object: name, source })
            })?;
        }
        Ok(())
    }
}

/// The next objects of a line to merge: of the lowest level with enough small objects that only
/// objects of lower levels separate, the first ones with what is between them. Before a large
/// object, a gap or another writer's object, two are enough: no others will join them.
fn job(line: &Line, begin: Lsn, options: &CompactOptions) -> Option<Job> {
    let Line { objects: line, left_alone, .. } = line;
    let span = |run: &[(LogName, u64)]| match (run.first(), run.last()) {
        (Some((first, _)), Some((last, _))) => last.to.since(first.from),
        _ => 0,
    };
    let fits = |run: &[(LogName, u64)]| {
        let stored: u64 = run.iter().map(|(_, bytes)| bytes).sum();
        span(run) <= options.span_bytes && stored <= STORED_BYTES_MAX
    };
    (0..LogName::LEVEL_MAX).find_map(|level| {
        let (mut first, mut of_level) = (0, 0);
        for (at, one) in line.iter().enumerate() {
            // The state before the first object is known from the one before it.
            let before = at.checked_sub(1).map_or(begin, |before| line[before].0.to);
            let is_small = span(&[*one]) < options.span_bytes / SMALL_PART;
            let may_merge = one.0.from == before && is_small && !left_alone.contains(&one.0);
            // What a writer has stored stays under its epoch: it shows which copy of a source was
            // written when.
            let joins = may_merge && line[first].0.epoch == one.0.epoch && fits(&line[first..=at]);
            if !joins {
                if at - first >= 2 {
                    return Some(Job::new(line, first..at, level));
                }
                (first, of_level) = (at, 0);
            }
            if !may_merge || one.0.level > level {
                (first, of_level) = (at + 1, 0);
                continue;
            }
            of_level += usize::from(one.0.level == level);
            if of_level >= options.count.max(2) {
                return Some(Job::new(line, first..at + 1, level));
            }
        }
        None
    })
}
