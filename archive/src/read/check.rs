//! Verifies whole log objects, down to their records, and the index of each against its records.

use crate::archive::{Archive, LogObject, log_object};
use crate::error::{Error, Result};
use crate::history::Piece;
use crate::stored::Footer;
use crate::write::{Carry, Indexer, LogIdentity};
use pitr_codec::ObjectIndex;
use pitr_format::log::{Batch, Frame, Part};
use pitr_format::record::Record;
use pitr_format::{DecodeError, Lsn};
use pitr_objects::layout::{LogName, SourceObject};
use pitr_objects::parallel;

impl Archive {
    /// Verifies a log object that was read whole: its bytes against their hashes, its footer
    /// against its name. With `deep` it decodes all contents: frames, batches, and the records that
    /// are not fragmented.
    ///
    /// # Errors
    /// The first fault found.
    pub fn check_log(&self, name: &LogName, whole: &[u8], deep: bool) -> Result<()> {
        let (object, index) = self.check_bytes(name, whole)?;
        let bad = |source| self.in_object(name, source);
        for number in (0..index.frames.len()).filter(|_| deep) {
            check_frame(&object, number, &index.decode_frame(whole, number).map_err(bad)?, |_| Ok(()))?;
        }
        Ok(())
    }

    /// Verifies every log object that a restore from `after` to `upto` reads, whole: bytes against
    /// hashes, frames, batches, records, and the index against the records. `pieces` are those of
    /// the history, ascending. Holds one object for each thread and two more. Calls `each` after
    /// every object.
    ///
    /// It does not look for missing log: [`Merged::new`](crate::Merged::new) does.
    ///
    /// # Errors
    /// The first fault found: [`Error::Objects`], [`Error::Malformed`], [`Error::Swapped`];
    /// [`Error::Index`] if the index and the records differ.
    pub fn check_range(
        &self,
        pieces: &[Piece],
        after: Lsn,
        upto: Lsn,
        each: &(dyn Fn() + Sync),
    ) -> Result<()> {
        let before = std::iter::once(None).chain(pieces.iter().map(Some));
        let wanted: Vec<(Option<&Piece>, &Piece)> =
            before.zip(pieces).filter(|(_, piece)| piece.to > after && piece.from() < upto).collect();
        let fetch = |(_, piece): &(Option<&Piece>, &Piece)| {
            let (path, _) = self.path_and_kind(&SourceObject::Log(piece.name));
            Ok(self.objects().get(&path)?)
        };
        parallel::ahead(self.spawn(), 1, &wanted, fetch, |(before, piece), whole| {
            self.check_object(*before, &piece.name, &whole)?;
            each();
            Ok(())
        })
    }

    fn check_object(&self, before: Option<&Piece>, name: &LogName, whole: &[u8]) -> Result<()> {
        let (object, index) = self.check_bytes(name, whole)?;
        let footer = &object.footer;
        let follows = |before: &&Piece| {
            before.name.to == name.from && before.name.timeline == name.timeline && !footer.gap
        };
        let carry = match before.filter(follows).map(|before| self.footer(&before.name)) {
            None => None,
            Some(Ok(footer)) => Some(Carry::after(&footer)),
            // If a restore needs that object too, its own check finds the damage.
            Some(Err(error)) if error.is_damage() => None,
            Some(Err(error)) => return Err(error),
        };
        let is_known = carry.is_some();
        let Footer { timeline, epoch, segment_size, log_id, .. } = *footer;
        let identity = LogIdentity { timeline, epoch, segment_size, log_id };
        let carry = carry.unwrap_or_else(|| Carry::nothing().after_loss());
        let mut indexer = Indexer::new(identity, footer.from, footer.gap, carry);
        for (number, start) in footer.frames.iter().enumerate() {
            let bytes = index.decode_frame(whole, number).map_err(|source| self.in_object(name, source))?;
            indexer.begin_frame(start.lsn, start.incarnation);
            check_frame(&object, number, &bytes, |batch| indexer.push(batch))?;
        }
        let (rebuilt, _) = indexer.finish(footer.to);
        let differs = if is_known { differs(footer, rebuilt) } else { differs_within(footer, &rebuilt) };
        differs.map_or(Ok(()), |lsn| Err(Error::Index { object: *name, lsn }))
    }

    /// Checks the footer of a log object, without its frames.
    ///
    /// # Errors
    /// [`Error::Malformed`], [`Error::Swapped`].
    pub fn check_log_footer(&self, name: &LogName, index: ObjectIndex) -> Result<()> {
        log_object(name, index).map(drop)
    }

    /// The object and its index, after a check of all its bytes.
    pub(crate) fn check_bytes(&self, name: &LogName, whole: &[u8]) -> Result<(LogObject, ObjectIndex)> {
        let (path, kind) = self.path_and_kind(&SourceObject::Log(*name));
        let index = self.objects().index_of(&path, kind, whole)?;
        index.check_frames(whole).map_err(|source| self.in_object(name, source))?;
        Ok((log_object(name, index.clone())?, index))
    }

    pub(crate) fn in_object(&self, name: &LogName, source: pitr_codec::CodecError) -> Error {
        let (path, _) = self.path_and_kind(&SourceObject::Log(*name));
        pitr_objects::Error::Object { path, source }.into()
    }
}

/// Checks the batches and records of a decoded frame, and passes each batch to `take`.
fn check_frame(
    object: &LogObject,
    number: usize,
    bytes: &[u8],
    mut take: impl FnMut(&Batch<'_>) -> Result<(), DecodeError>,
) -> Result<()> {
    let malformed = |source| Error::Malformed { object: object.name, source };
    let end = object.each_batch(number, bytes, |batch| {
        let whole = |frame: Frame<'_>| match frame.part {
            Part::Full => Record::decode(frame.kind, frame.bytes).map(drop),
            _ => Ok(()),
        };
        batch.frames().try_for_each(|frame| frame.and_then(whole)).map_err(malformed)?;
        take(batch).map_err(malformed)
    })?;
    if object.footer.ends_frame(number, end) {
        Ok(())
    } else {
        Err(malformed(DecodeError::Range { what: "end of a frame's last batch", value: end.get() }))
    }
}

/// The place at which the index differs from the one that the records give.
fn differs(footer: &Footer, mut rebuilt: Footer) -> Option<Lsn> {
    if footer.logical.is_empty() {
        // Earlier versions did not list logical records.
        rebuilt.logical.clear();
    }
    (*footer != rebuilt).then(|| differs_within(footer, &rebuilt).unwrap_or(footer.from))
}

/// Like [`differs`], where the log before the object is not known: records and transactions that
/// began before it are left out.
fn differs_within(footer: &Footer, rebuilt: &Footer) -> Option<Lsn> {
    let commits = |of: &Footer| -> Vec<Lsn> { of.commits.iter().map(|commit| commit.lsn).collect() };
    if commits(footer) != commits(rebuilt) {
        return Some(first_difference(&commits(footer), &commits(rebuilt), footer.from));
    }
    let within = |of: &Footer| -> Vec<Lsn> {
        let images = of.files.iter().flat_map(|file| file.images.iter().map(|image| image.lsn));
        let lengths = of.set_lengths.iter().map(|entry| entry.lsn);
        let marks = of.marks.iter().map(|mark| mark.lsn);
        let all = images.chain(lengths).chain(marks).filter(|lsn| *lsn >= footer.from);
        let mut all: Vec<Lsn> = all.collect();
        all.sort_unstable();
        all
    };
    let (stated, found) = (within(footer), within(rebuilt));
    if stated != found {
        return Some(first_difference(&stated, &found, footer.from));
    }
    let images = |of: &Footer| {
        let images = of.files.iter().flat_map(|of| of.images.iter().map(move |image| (of.file, *image)));
        images.filter(|(_, image)| image.lsn >= footer.from).collect::<Vec<_>>()
    };
    let (stated, found) = (images(footer), images(rebuilt));
    let differing = stated.iter().zip(&found).find(|(a, b)| a != b);
    differing.map(|((_, image), _)| image.lsn)
}

/// The first position that only one of two lists of positions has.
fn first_difference(a: &[Lsn], b: &[Lsn], otherwise: Lsn) -> Lsn {
    let pair = a.iter().zip(b).find(|(a, b)| a != b).map(|(a, b)| *a.min(b));
    let rest = || a.get(b.len()).or_else(|| b.get(a.len())).copied();
    pair.or_else(rest).unwrap_or(otherwise)
}
