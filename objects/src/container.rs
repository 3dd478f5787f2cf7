//! Reading containers: the index by ranges, frames by their entries, everything checked.

use crate::{Error, Objects, Result};
use bytes::Bytes;
use pitr_codec::{
    Access, Codec, CodecError, FromTail, HEADER_BYTES, ObjectBuilder, ObjectCipher, ObjectIndex, ObjectKind,
    Seal, TAIL_BYTES_HINT,
};
use pitr_format::OwnerToken;

impl Objects {
    /// Begins an object: encrypted, if the repository is and the kind is not one that must be read without a key.
    /// `path` is empty for one that is named by its content.
    ///
    /// # Errors
    /// [`Error::Locked`] when nobody has given a key.
    pub fn builder(&self, path: &str, kind: ObjectKind, codec: Codec) -> Result<ObjectBuilder> {
        self.builder_of(self.owner(), path, kind, codec)
    }

    /// As [`builder`](Self::builder), for an object that bears this token. One that is named by its content then has a
    /// name that nobody else comes upon: so a writer never takes an earlier one's, which may be condemned, for his own.
    ///
    /// # Errors
    /// As [`builder`](Self::builder).
    pub fn builder_of(
        &self,
        owner: OwnerToken,
        path: &str,
        kind: ObjectKind,
        codec: Codec,
    ) -> Result<ObjectBuilder> {
        let builder = ObjectBuilder::new(kind, owner, codec);
        match self.keys() {
            _ if kind.is_always_plaintext() => Ok(builder),
            None if self.is_encrypted() => Err(Error::Locked { place: self.place().to_owned() }),
            None => Ok(builder),
            Some(keys) => {
                let bad = |source| Error::Object { path: path.to_owned(), source };
                Ok(builder.encrypted(keys.seal(kind, path).map_err(bad)?))
            }
        }
    }

    /// Has `read` done with the keys; once more, if it meets a key that another process has made since.
    fn with_access<T>(
        &self,
        path: &str,
        kind: ObjectKind,
        read: impl Fn(Access<'_>) -> Result<T, CodecError>,
    ) -> Result<T> {
        let name = if is_named_by_content(kind) { "" } else { path };
        let bad = |source| Error::Object { path: path.to_owned(), source };
        let keys = self.keys();
        match read(Access { keys: keys.as_deref(), name }) {
            Err(CodecError::NoSuchKey { .. }) => {
                let keys = self.reload_keys()?;
                read(Access { keys: keys.as_deref(), name }).map_err(bad)
            }
            other => other.map_err(bad),
        }
    }

    /// What reads the frames of an object that was sealed so.
    ///
    /// # Errors
    /// [`Error::Object`] when there is no key for it, or it should have been sealed.
    pub fn cipher(&self, path: &str, kind: ObjectKind, seal: Option<Seal>) -> Result<Option<ObjectCipher>> {
        self.with_access(path, kind, |access| access.cipher(kind, seal))
    }

    /// The index of an object that is wholly at hand.
    ///
    /// # Errors
    /// [`Error::Object`].
    pub fn index_of(&self, path: &str, kind: ObjectKind, whole: &[u8]) -> Result<ObjectIndex> {
        self.with_access(path, kind, |access| ObjectIndex::from_whole(whole, kind, access))
    }

    /// Header, frame table and footer of an object, read from its ends: one request for a small object, two or three
    /// for others.
    ///
    /// # Errors
    /// [`Error::Object`] naming the object and what is wrong with it; those of the store.
    pub fn index(&self, path: &str, kind: ObjectKind) -> Result<ObjectIndex> {
        let bad = |source: CodecError| Error::Object { path: path.to_owned(), source };
        let mut tail = self.get_tail(path, TAIL_BYTES_HINT)?;
        if tail.object_len == tail.bytes.len() as u64 {
            return self.index_of(path, kind, &tail.bytes);
        }
        let head = self.get_range(path, 0..HEADER_BYTES as u64)?;
        for _ in 0..2 {
            let read = |access: Access<'_>| {
                ObjectIndex::from_tail(kind, tail.object_len, &head, &tail.bytes, access)
            };
            match self.with_access(path, kind, read)? {
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

    /// Puts a container after a last look at it: its index is read back and each frame checked by its CRC-32, so
    /// that what was damaged in memory since it was encoded is not stored.
    ///
    /// # Errors
    /// [`Error::Object`] when the bytes are not a sound container of this kind; those of
    /// [`put_new`](Self::put_new).
    pub fn put_container(
        &self,
        path: &str,
        kind: ObjectKind,
        bytes: impl Into<Bytes>,
    ) -> Result<ObjectIndex> {
        let bytes = bytes.into();
        let bad = |source: CodecError| Error::Object { path: path.to_owned(), source };
        let index = self.index_of(path, kind, &bytes)?;
        index.check_unchanged(&bytes).map_err(bad)?;
        self.put_new(path, bytes)?;
        Ok(index)
    }
}

/// These are found by a hash of their bytes, which is checked against their name by whoever looks for them.
fn is_named_by_content(kind: ObjectKind) -> bool {
    matches!(kind, ObjectKind::Pack | ObjectKind::PackIndex)
}
