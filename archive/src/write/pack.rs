//! Packs batches of the log into the bytes of one object.

use super::index::{Carry, Indexer, LogIdentity};
use crate::archive::Archive;
use crate::error::{Error, Result};
use crate::stored::Footer;
use pitr_codec::{Codec, CodecError, ObjectIndex, encode_frame};
use pitr_format::log::{Batch, Seed};
use pitr_format::{DecodeError, Incarnation, Lsn, SegmentNo};
use pitr_objects::layout::{LogName, SourceObject};
use pitr_objects::parallel;
use pitr_vfs::Spawn;
use pitr_wal::LogBatch;

/// Collects batches for one object.
#[derive(Debug)]
pub(crate) struct Packer {
    identity: LogIdentity,
    indexer: Indexer,
    from: Lsn,
    end: Lsn,
    frames: Vec<Vec<u8>>,
    frame_bytes: usize,
    /// Segment and incarnation of the last batch.
    life: Option<(SegmentNo, Incarnation)>,
    raw_bytes: usize,
    level: u8,
}

/// A finished object that has not been put yet.
#[derive(Debug, Clone)]
pub(crate) struct Built {
    pub(crate) name: LogName,
    pub(crate) bytes: pitr_objects::Bytes,
    pub(crate) raw_bytes: u64,
    pub(crate) carry: Carry,
}

impl Packer {
    /// A packer for the range that starts at `from`, with frames of about `frame_bytes`.
    pub(crate) fn new(identity: LogIdentity, from: Lsn, gap: bool, carry: Carry, frame_bytes: usize) -> Self {
        let indexer = Indexer::new(identity, from, gap, carry);
        let (frames, life) = (Vec::new(), None);
        Packer { identity, indexer, from, end: from, frames, frame_bytes, life, raw_bytes: 0, level: 0 }
    }

    /// Makes the object one of this level, which replaces others.
    pub(crate) fn level(self, level: u8) -> Self {
        Packer { level, ..self }
    }

    /// End of the last batch.
    pub(crate) fn end(&self) -> Lsn {
        self.end
    }

    /// True if the object with this footer goes on with the same log, without a gap.
    pub(crate) fn goes_on_with(&self, footer: &Footer) -> bool {
        let LogIdentity { timeline, segment_size, log_id, .. } = self.identity;
        let is_same =
            (timeline, segment_size, log_id) == (footer.timeline, footer.segment_size, footer.log_id);
        is_same && footer.from == self.end && !footer.gap
    }

    /// Takes the next batch.
    ///
    /// # Errors
    /// [`Error::NotDurable`] if the batch does not lie below `durable`: unsynced bytes may differ
    /// after a power loss, and then one position would have two contents (FAILURES 42).
    /// [`Error::Batch`].
    pub(crate) fn push(&mut self, batch: &LogBatch, durable: Lsn) -> Result<()> {
        if batch.end() > durable {
            return Err(Error::NotDurable { end: batch.end(), durable });
        }
        let lsn = batch.header.lsn;
        let seed = Seed::new(batch.timeline, batch.segment, batch.incarnation);
        let checked = Batch::decode(&batch.bytes, seed).map_err(|source| Error::Batch { lsn, source })?;
        self.add(&checked, batch.segment, batch.incarnation).map_err(|source| Error::Batch { lsn, source })
    }

    /// Takes the next batch, which is archived.
    ///
    /// # Errors
    /// If its records don't follow those before it.
    pub(crate) fn add(
        &mut self,
        batch: &Batch<'_>,
        segment: SegmentNo,
        incarnation: Incarnation,
    ) -> Result<(), DecodeError> {
        let span = batch.header.span() as usize;
        let life = Some((segment, incarnation));
        let fits = self.frames.last().is_some_and(|frame| frame.len() + span <= self.frame_bytes);
        if life != self.life || !fits {
            self.indexer.begin_frame(batch.header.lsn, incarnation);
            self.frames.push(Vec::with_capacity(span));
            self.life = life;
        }
        self.indexer.push(batch)?;
        if let Some(frame) = self.frames.last_mut() {
            let end = frame.len() + span;
            frame.extend_from_slice(batch.bytes());
            frame.resize(end, 0);
        }
        self.raw_bytes += span;
        self.end = Lsn::new(batch.header.lsn.get() + span as u64);
        Ok(())
    }

    /// Builds the object and decodes it once (FAILURES 30).
    pub(crate) fn build(self, archive: &Archive, codec: Codec) -> Result<Built> {
        let LogIdentity { timeline, epoch, .. } = self.identity;
        let name = LogName { timeline, epoch, from: self.from, to: self.end, level: self.level };
        let (path, kind) = archive.path_and_kind(&SourceObject::Log(name));
        let (footer, carry) = self.indexer.finish(self.end);
        let build = |source| Error::Build { object: name.to_string(), source };
        let encoded: Result<Vec<_>, CodecError> =
            parallel::map(archive.spawn(), &self.frames, |raw| encode_frame(codec, raw));
        let mut builder = archive.objects().builder(&path, kind, codec)?;
        for frame in encoded.map_err(build)? {
            builder.push(&frame).map_err(build)?;
        }
        let bytes = builder.finish(&footer.encode()).map_err(build)?;
        let index = archive.objects().index_of(&path, kind, &bytes)?;
        verify(archive.spawn(), &index, &bytes, &self.frames, &footer, name)?;
        Ok(Built { name, bytes: bytes.into(), raw_bytes: self.raw_bytes as u64, carry })
    }
}

/// Fails unless the object decodes into exactly its source log.
fn verify(
    spawn: Spawn,
    index: &ObjectIndex,
    bytes: &[u8],
    raw: &[Vec<u8>],
    footer: &Footer,
    name: LogName,
) -> Result<()> {
    let same = || -> Result<bool, CodecError> {
        let frames: Vec<_> = (0..index.frames.len()).zip(raw).collect();
        let wrong = |(no, raw): (usize, &Vec<u8>)| Ok(index.decode_frame(bytes, no)? != *raw);
        let wrong: Result<Vec<bool>, CodecError> = parallel::map(spawn, frames, wrong);
        Ok(!wrong?.contains(&true)
            && index.frames.len() == raw.len()
            && Footer::decode(&index.footer)? == *footer)
    };
    match same() {
        Ok(true) => Ok(()),
        _ => Err(Error::EncodingMismatch { object: name }),
    }
}

#[cfg(test)]
mod tests;
