//! The archive of one source: lists it and reads its objects.

use crate::error::{Error, Result};
use crate::history::{Catalog, Cause, Found, Gap, Lineage, Piece};
use crate::stored::{Fence, Footer, MarkKind, Timeline};
use pitr_codec::{Codec, FrameEntry, ObjectIndex, ObjectKind};
use pitr_format::log::{Batch, Frame, Seed};
use pitr_format::{DecodeError, Epoch, Lsn, SourceName, TimelineId};
use pitr_objects::layout::{LogName, SourceFolder, SourceObject};
use pitr_objects::{Bytes, Objects, parallel};
use pitr_vfs::Spawn;
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

/// Random bytes before the payload of small objects, so that two claims of one process always
/// differ.
const NONCE_BYTES: usize = 16;
const CLAIM_ATTEMPTS: u32 = 64;

/// The archive of one source. Clones are cheap.
#[derive(Debug, Clone)]
pub struct Archive {
    objects: Objects,
    source: SourceName,
    folder: SourceFolder,
}

/// A log object whose footer has been read.
#[derive(Debug, Clone)]
pub(crate) struct LogObject {
    /// Name of the object.
    pub(crate) name: LogName,
    /// The index of the object's range.
    pub(crate) footer: Footer,
    index: ObjectIndex,
}

impl Archive {
    /// The archive of `source` in this repository. Reads nothing yet.
    #[must_use]
    pub fn new(objects: Objects, source: SourceName) -> Self {
        let folder = objects.source_folder(&source);
        Archive { objects, source, folder }
    }

    /// The repository.
    #[must_use]
    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    pub(crate) fn spawn(&self) -> Spawn {
        self.objects.env().spawn
    }

    /// The source.
    #[must_use]
    pub fn source(&self) -> &SourceName {
        &self.source
    }

    /// The paths of the source's objects.
    #[must_use]
    pub fn folder(&self) -> &SourceFolder {
        &self.folder
    }

    /// The current contents of the archive.
    ///
    /// # Errors
    /// [`Error::Overlap`] and [`Error::Conflict`] if two writers used one timeline;
    /// [`Error::Objects`].
    pub fn catalog(&self) -> Result<Catalog> {
        let mut found = Found::default();
        // The log is listed before the fences: then the listing contains the fence of any object
        // that came too late.
        found.logs = self.log_names(self.folder.logs(), &mut found.foreign)?;
        let logged: HashSet<Epoch> = found.logs.iter().map(|(name, _)| name.epoch).collect();
        let epochs: Vec<(Epoch, bool)> = self.epoch_names(&mut found.foreign)?.into_iter().collect();
        let read = |&(epoch, is_fenced): &(Epoch, bool)| {
            // Each backup of a folder claims an epoch and writes no log. The fence of such an epoch
            // need not be read.
            let fence = match is_fenced {
                false => None,
                true if !logged.contains(&epoch) => Some(Fence::default()),
                true => Some(self.read(&SourceObject::Fence(epoch), Fence::decode)?),
            };
            Ok::<_, Error>((epoch, fence))
        };
        found.epochs = parallel::requests(self.spawn(), &epochs, read)?.into_iter().collect();
        found.timelines = self.timelines(&mut found.foreign)?;
        for entry in self.objects.list(&self.folder.pruned())? {
            match self.folder.object_at(&entry.path) {
                Some(SourceObject::Pruned(range)) => found.pruned.push(range),
                _ => found.foreign.push(entry.path),
            }
        }
        let catalog = Catalog::new(found)?;
        for (a, b) in catalog.twins() {
            self.compare(a, b)?;
        }
        Ok(catalog)
    }

    /// The footer of a log object.
    ///
    /// # Errors
    /// [`Error::Objects`], [`Error::Malformed`], [`Error::Swapped`].
    pub fn footer(&self, name: &LogName) -> Result<Footer> {
        Ok(self.open(name)?.footer)
    }

    /// A log object, to read frames of it.
    ///
    /// # Errors
    /// Those of [`footer`](Self::footer).
    pub(crate) fn open(&self, name: &LogName) -> Result<LogObject> {
        let (path, kind) = self.path_and_kind(&SourceObject::Log(*name));
        log_object(name, self.objects.index(&path, kind)?)
    }

    /// Some frames of a log object, fetched as one range, verified and decoded. Each frame holds
    /// whole batches.
    ///
    /// # Errors
    /// [`Error::Objects`].
    pub(crate) fn frames(&self, object: &LogObject, frames: Range<usize>) -> Result<Vec<Vec<u8>>> {
        self.decode_frames(object, frames.clone(), &self.fetch_frames(object, frames)?)
    }

    /// Some frames of a log object as they are stored, by one request.
    ///
    /// # Errors
    /// [`Error::Objects`].
    pub(crate) fn fetch_frames(&self, object: &LogObject, frames: Range<usize>) -> Result<Bytes> {
        let entries = object.index.frames.get(frames).unwrap_or_default();
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return Ok(Bytes::new()) };
        let path = self.folder.path(&SourceObject::Log(object.name));
        Ok(self.objects.get_range(&path, first.range().start..last.range().end)?)
    }

    /// Verifies and decodes the bytes that [`fetch_frames`](Self::fetch_frames) returned.
    ///
    /// # Errors
    /// [`Error::Objects`].
    pub(crate) fn decode_frames(
        &self,
        object: &LogObject,
        frames: Range<usize>,
        stored: &[u8],
    ) -> Result<Vec<Vec<u8>>> {
        let entries = object.index.frames.get(frames.clone()).unwrap_or_default();
        let start = entries.first().map_or(0, |first| first.range().start);
        let decode = |(number, entry): (usize, &FrameEntry)| {
            let at = (entry.range().start - start) as usize..(entry.range().end - start) as usize;
            let missing = || pitr_codec::CodecError::Layout { what: "frame", offset: entry.range().start };
            stored.get(at).ok_or_else(missing).and_then(|bytes| object.index.decode(number, bytes))
        };
        let decoded: Result<Vec<_>, _> = frames.zip(entries).map(decode).collect();
        decoded.map_err(|source| {
            let path = self.folder.path(&SourceObject::Log(object.name));
            pitr_objects::Error::Object { path, source }.into()
        })
    }

    /// Several log objects, whose footers are read in parallel, in the order of the names.
    ///
    /// # Errors
    /// Those of [`footer`](Self::footer).
    pub(crate) fn open_all<'a>(
        &self,
        names: impl IntoIterator<Item = &'a LogName>,
    ) -> Result<Vec<LogObject>> {
        let names: Vec<&LogName> = names.into_iter().collect();
        parallel::requests(self.spawn(), &names, |name| self.open(name))
    }

    /// Bytes of log in these pieces from `after` to `upto`, after decoding. Reads the pieces'
    /// footers.
    ///
    /// # Errors
    /// Those of [`footer`](Self::footer).
    pub fn log_bytes(&self, pieces: &[Piece], after: Lsn, upto: Lsn) -> Result<u64> {
        let count = |piece: &Piece| Ok(self.open(&piece.name)?.bytes_between(after, upto.min(piece.to)));
        parallel::requests(self.spawn(), pieces, count).map(|bytes| bytes.iter().sum())
    }

    /// The cause of a gap on a path of this catalog. The object after the gap may name the cause.
    ///
    /// # Errors
    /// Those of [`footer`](Self::footer).
    pub fn cause(&self, catalog: &Catalog, lineage: &Lineage, gap: &Gap) -> Result<Cause> {
        let (from, to) = gap.hole();
        if catalog.is_pruned(lineage, from, to) {
            return Ok(Cause::Pruned);
        }
        let Some(behind) = gap.behind else { return Ok(gap.cause) };
        let footer = self.footer(&behind)?;
        if !footer.gap {
            return Ok(gap.cause);
        }
        let reason = footer.marks.iter().find_map(|mark| match mark.what {
            MarkKind::Gap { reason, .. } => Some(reason),
            MarkKind::ClockStep { .. } => None,
        });
        // The log of a timeline that forked after a gap has no record of the gap: the timeline's
        // history states the cause.
        let forked = || {
            let begins = !catalog.logs(behind.timeline).iter().any(|(name, _)| name.from < behind.from);
            let timeline = catalog.timelines().get(&behind.timeline).filter(|_| begins)?;
            timeline.parent.map(|_| Cause::Forked(timeline.reason))
        };
        Ok(match reason {
            None => forked().unwrap_or(Cause::NotLogged(None)),
            reason => Cause::NotLogged(reason),
        })
    }

    /// The fence of an epoch, also of an epoch without log objects; `None` if the epoch is not
    /// fenced.
    ///
    /// # Errors
    /// [`Error::Objects`], [`Error::Payload`].
    pub fn fence(&self, epoch: Epoch) -> Result<Option<Fence>> {
        match self.read(&SourceObject::Fence(epoch), Fence::decode) {
            Err(Error::Objects(error)) if error.kind() == pitr_objects::ErrorKind::Missing => Ok(None),
            other => other.map(Some),
        }
    }

    /// Claims the next timeline.
    ///
    /// # Errors
    /// [`Error::Contended`], [`Error::Objects`].
    pub fn claim_timeline(&self, timeline: &Timeline) -> Result<TimelineId> {
        for _ in 0..CLAIM_ATTEMPTS {
            let taken = self.timeline_names(&mut Vec::new())?;
            // Never reuse the number of a timeline whose history object was lost: its log still
            // exists.
            let listed = self.log_names(self.folder.logs(), &mut Vec::new())?;
            let logged = listed.iter().map(|(name, _)| name.timeline);
            let next = taken.into_iter().chain(logged).max();
            let next = next.map_or(Some(TimelineId::FIRST), TimelineId::next);
            let Some(next) = next else { break };
            if self.create(&SourceObject::Timeline(next), &timeline.encode())? {
                return Ok(next);
            }
        }
        Err(Error::Contended { path: self.folder.timelines(), attempts: CLAIM_ATTEMPTS })
    }

    /// Path and kind of the object with this name.
    pub(crate) fn path_and_kind(&self, name: &SourceObject) -> (String, ObjectKind) {
        (self.folder.path(name), name.kind())
    }

    /// Creates a small object; false if another writer's object exists at that path.
    pub(crate) fn create(&self, name: &SourceObject, payload: &[u8]) -> Result<bool> {
        let (path, kind) = self.path_and_kind(name);
        let mut bytes = self.objects.random_bytes::<NONCE_BYTES>()?.to_vec();
        bytes.extend_from_slice(payload);
        let builder = self.objects.builder(&path, kind, Codec::None)?;
        let object =
            builder.finish(&bytes).map_err(|source| Error::Build { object: path.clone(), source })?;
        match self.objects.put_container(&path, kind, object) {
            Ok(_) => Ok(true),
            Err(pitr_objects::Error::Foreign { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The log objects in these folders, with their sizes in bytes.
    pub(crate) fn log_names(
        &self,
        folders: [String; 2],
        foreign: &mut Vec<String>,
    ) -> Result<Vec<(LogName, u64)>> {
        let mut names = Vec::new();
        for folder in folders {
            for entry in self.objects.list(&folder)? {
                match self.folder.object_at(&entry.path) {
                    Some(SourceObject::Log(name)) => names.push((name, entry.size)),
                    _ => foreign.push(entry.path),
                }
            }
        }
        Ok(names)
    }

    /// The claimed epochs, each with true if it was fenced.
    pub(crate) fn epoch_names(&self, foreign: &mut Vec<String>) -> Result<BTreeMap<Epoch, bool>> {
        let mut epochs = BTreeMap::new();
        for entry in self.objects.list(&self.folder.epochs())? {
            match self.folder.object_at(&entry.path) {
                Some(SourceObject::Claim(epoch)) => drop(epochs.entry(epoch).or_insert(false)),
                Some(SourceObject::Fence(epoch)) => drop(epochs.insert(epoch, true)),
                _ => foreign.push(entry.path),
            }
        }
        Ok(epochs)
    }

    pub(crate) fn timeline_names(&self, foreign: &mut Vec<String>) -> Result<Vec<TimelineId>> {
        let mut names = Vec::new();
        for entry in self.objects.list(&self.folder.timelines())? {
            match self.folder.object_at(&entry.path) {
                Some(SourceObject::Timeline(id)) => names.push(id),
                _ => foreign.push(entry.path),
            }
        }
        Ok(names)
    }

    fn timelines(&self, foreign: &mut Vec<String>) -> Result<BTreeMap<TimelineId, Timeline>> {
        let names = self.timeline_names(foreign)?;
        let read = |id: TimelineId| {
            let history = |bytes: &[u8]| Timeline::decode(id, bytes);
            Ok((id, self.read(&SourceObject::Timeline(id), history)?))
        };
        names.into_iter().map(read).collect()
    }

    pub(crate) fn read<T>(
        &self,
        name: &SourceObject,
        decode: impl FnOnce(&[u8]) -> Result<T, DecodeError>,
    ) -> Result<T> {
        let (path, kind) = self.path_and_kind(name);
        let bytes = self.objects.get_footer(&path, kind)?;
        let short = DecodeError::Short { what: "nonce", offset: 0, needed: NONCE_BYTES, left: bytes.len() };
        let payload = bytes.get(NONCE_BYTES..).ok_or(short);
        payload.and_then(decode).map_err(|source| Error::Payload { path, source })
    }

    /// Fails unless two objects of the same range hold the same batches.
    fn compare(&self, a: &LogName, b: &LogName) -> Result<()> {
        let (left, right) = (self.open(a)?, self.open(b)?);
        let joined = |object: &LogObject| -> Result<Vec<u8>> {
            Ok(self.frames(object, 0..object.index.frames.len())?.concat())
        };
        let same_log = left.footer.log_id == right.footer.log_id && left.footer.gap == right.footer.gap;
        if same_log && joined(&left)? == joined(&right)? {
            Ok(())
        } else {
            Err(Error::Conflict { a: *a, b: *b })
        }
    }
}

/// The log object of this name, from its index.
pub(crate) fn log_object(name: &LogName, index: ObjectIndex) -> Result<LogObject> {
    let malformed = |source| Error::Malformed { object: *name, source };
    let footer = Footer::decode(&index.footer).map_err(malformed)?;
    let Footer { timeline, epoch, from, to, .. } = footer;
    let says = LogName { timeline, epoch, from, to, level: name.level };
    if says != *name {
        return Err(Error::Swapped { object: *name, from: footer.from, to: footer.to });
    }
    if footer.frames.len() != index.frames.len() {
        let value = index.frames.len() as u64;
        return Err(malformed(DecodeError::Range { what: "frame count", value }));
    }
    Ok(LogObject { name: *name, footer, index: index.without_footer() })
}

impl LogObject {
    /// Bytes of log in the object from `after` to `upto`, after decoding. There are fewer bytes
    /// than positions, because positions include unused ranges of segments and timelines.
    pub(crate) fn bytes_between(&self, after: Lsn, upto: Lsn) -> u64 {
        let frames = self.footer.frames.iter().zip(&self.index.frames);
        let within = frames.map(|(start, entry)| {
            let end = start.lsn.get().saturating_add(entry.raw_len.into()).min(upto.get());
            end.saturating_sub(start.lsn.max(after).get())
        });
        within.sum()
    }

    /// Decodes the batches of a frame and passes their record frames to `take`. The batches must
    /// follow each other from the start of the frame. Returns the end of the last batch.
    pub(crate) fn each_frame<E: From<Error>>(
        &self,
        number: usize,
        bytes: &[u8],
        mut take: impl FnMut(&Frame<'_>) -> Result<(), E>,
    ) -> Result<Lsn, E> {
        let malformed = |source| Error::Malformed { object: self.name, source };
        self.each_batch(number, bytes, |batch| {
            batch.frames().try_for_each(|frame| take(&frame.map_err(malformed)?))
        })
    }

    /// Like [`each_frame`](Self::each_frame), for whole batches.
    pub(crate) fn each_batch<E: From<Error>>(
        &self,
        number: usize,
        bytes: &[u8],
        mut take: impl FnMut(&Batch<'_>) -> Result<(), E>,
    ) -> Result<Lsn, E> {
        let malformed = |source| Error::Malformed { object: self.name, source };
        let start = self.footer.frames[number]; // as many as the object has
        let segment = self.footer.segment_size.segment_of(start.lsn);
        let seed = Seed::new(self.footer.timeline, segment, start.incarnation);
        let (mut lsn, mut at) = (start.lsn, 0);
        while at < bytes.len() {
            let batch = Batch::decode(&bytes[at..], seed).map_err(malformed)?;
            if batch.header.lsn != lsn {
                let (what, value) = ("position of a batch", batch.header.lsn.get());
                return Err(malformed(DecodeError::Range { what, value }).into());
            }
            take(&batch)?;
            let span = batch.header.span();
            lsn = Lsn::new(lsn.get().saturating_add(span));
            at += span as usize; // within a frame of the object
        }
        Ok(lsn)
    }
}
