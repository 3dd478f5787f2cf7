//! Packs batches of the log into the bytes of one object.

use super::index::{Carry, Indexer, LogIdentity};
use crate::archive::Archive;
use crate::error::{Error, Result};
use crate::stored::Footer;
use pitr_codec::{Codec, CodecError, ObjectIndex, encode_frame};
use pitr_format::log::{Batch, Seed};
use pitr_format::{Incarnation, Lsn, SegmentNo};
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
        Packer { identity, indexer, from, end: from, frames, frame_bytes, life, raw_bytes: 0 }
    }

    /// Bytes of log so far.
    pub(crate) fn raw_bytes(&self) -> usize {
        self.raw_bytes
    }

    /// End of the last batch.
    pub(crate) fn end(&self) -> Lsn {
        self.end
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
        let span = batch.header.span() as usize;
        let life = Some((batch.segment, batch.incarnation));
        let fits = self.frames.last().is_some_and(|frame| frame.len() + span <= self.frame_bytes);
        if life != self.life || !fits {
            self.indexer.begin_frame(lsn, batch.incarnation);
            self.frames.push(Vec::with_capacity(span));
            self.life = life;
        }
        self.indexer.push(&checked).map_err(|source| Error::Batch { lsn, source })?;
        if let Some(frame) = self.frames.last_mut() {
            let end = frame.len() + span;
            frame.extend_from_slice(&batch.bytes);
            frame.resize(end, 0);
        }
        self.raw_bytes += span;
        self.end = batch.end();
        Ok(())
    }

    /// Builds the object and decodes it once (FAILURES 30).
    pub(crate) fn build(self, archive: &Archive, codec: Codec) -> Result<Built> {
        let LogIdentity { timeline, epoch, .. } = self.identity;
        let name = LogName { timeline, epoch, from: self.from, to: self.end };
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
