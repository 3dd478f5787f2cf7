//! Reading containers: the index by ranges, frames by their entries, everything checked.

use crate::{Error, Objects, Result};
use pitr_codec::{CodecError, FrameEntry, FromTail, HEADER_BYTES, ObjectIndex, ObjectKind, TAIL_BYTES_HINT};

impl Objects {
    /// Header, frame table and footer of an object, read from its ends: one request for a small object, two or three
    /// for others.
    ///
    /// # Errors
    /// [`Error::Object`] naming the object and what is wrong with it; those of the store.
    pub fn index(&self, path: &str, kind: ObjectKind) -> Result<ObjectIndex> {
        let bad = |source: CodecError| Error::Object { path: path.to_owned(), source };
        let mut tail = self.get_tail(path, TAIL_BYTES_HINT)?;
        if tail.object_len == tail.bytes.len() as u64 {
            return ObjectIndex::from_whole(&tail.bytes, kind).map_err(bad);
        }
        let head = self.get_range(path, 0..HEADER_BYTES as u64)?;
        for _ in 0..2 {
            match ObjectIndex::from_tail(kind, tail.object_len, &head, &tail.bytes).map_err(bad)? {
                FromTail::Ready(index) => return Ok(index),
                FromTail::Needs(len) => tail = self.get_tail(path, len)?,
            }
        }
        // The second tail held all that the first asked for, unless another object was put in its place meanwhile.
        Err(bad(CodecError::Layout { what: "footer", offset: tail.object_len }))
    }

    /// What the object's kind keeps in its footer.
    ///
    /// # Errors
    /// As [`index`](Self::index).
    pub fn get_footer(&self, path: &str, kind: ObjectKind) -> Result<Vec<u8>> {
        Ok(self.index(path, kind)?.footer)
    }

    /// One frame of an object, checked and decoded.
    ///
    /// # Errors
    /// As [`index`](Self::index).
    pub fn frame(&self, path: &str, frame: &FrameEntry) -> Result<Vec<u8>> {
        let stored = self.get_range(path, frame.range())?;
        frame.decode(&stored).map_err(|source| Error::Object { path: path.to_owned(), source })
    }

    /// Puts a container after a last look at it: its index is read back and each frame checked by its CRC-32, so
    /// that what was damaged in memory since it was encoded is not stored.
    ///
    /// # Errors
    /// [`Error::Object`] when the bytes are not a sound container of this kind; those of
    /// [`put_new`](Self::put_new).
    pub fn put_container(&self, path: &str, kind: ObjectKind, bytes: Vec<u8>) -> Result<ObjectIndex> {
        let bad = |source: CodecError| Error::Object { path: path.to_owned(), source };
        let index = ObjectIndex::from_whole(&bytes, kind).map_err(bad)?;
        index.check_unchanged(&bytes).map_err(bad)?;
        self.put_new(path, bytes)?;
        Ok(index)
    }
}
