//! Containers: building, checking, and reading the index by ranges.

use crate::{Error, Objects, Result};
use bytes::Bytes;
use pitr_codec::{
    Access, Codec, CodecError, FromTail, HEADER_BYTES, ObjectBuilder, ObjectCipher, ObjectIndex, ObjectKind,
    Seal, TAIL_BYTES_HINT,
};
use pitr_format::OwnerToken;

impl Objects {
    /// Starts an object. It is encrypted if the repository is, except for kinds that must be
    /// readable without a key. `path` is empty for an object that is named by its content.
    ///
    /// # Errors
    /// [`Error::Locked`] if the repository is encrypted and not unlocked.
    pub fn builder(&self, path: &str, kind: ObjectKind, codec: Codec) -> Result<ObjectBuilder> {
        self.builder_of(self.owner(), path, kind, codec)
    }

    /// Like [`builder`](Self::builder), with this owner token. The token gives an object that is
    /// named by its content a unique name. So a writer never takes another writer's object, which
    /// may be condemned, for its own.
    ///
    /// # Errors
    /// Those of [`builder`](Self::builder).
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
                Ok(builder.encrypted(keys.seal(kind, path, &*self.env().random).map_err(bad)?))
            }
        }
    }

    /// Calls `read` with the keys. If `read` needs a key that another process has added since,
    /// `read` is called again.
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

    /// The cipher for the frames of an object with this seal.
    ///
    /// # Errors
    /// [`Error::Object`] if there is no key for it, or if it should have been encrypted.
    pub fn cipher(&self, path: &str, kind: ObjectKind, seal: Option<Seal>) -> Result<Option<ObjectCipher>> {
        self.with_access(path, kind, |access| access.cipher(kind, seal))
    }

    /// The index of an object in memory.
    ///
    /// # Errors
    /// [`Error::Object`].
    pub fn index_of(&self, path: &str, kind: ObjectKind, whole: &[u8]) -> Result<ObjectIndex> {
        self.with_access(path, kind, |access| ObjectIndex::from_whole(whole, kind, access))
    }

    /// Header, frame table and footer of an object, read from its ends. A small object takes one
    /// request, others two or three.
    ///
    /// # Errors
    /// [`Error::Object`] with the object and its fault; errors of the store.
    pub fn index(&self, path: &str, kind: ObjectKind) -> Result<ObjectIndex> {
        match self.kept_index(path) {
            // Its name tells the kind of an object in a view.
            Some(index) => Ok(index),
            None => self.read_index(path, kind).inspect(|index| self.keep_index(path, index)),
        }
    }

    fn read_index(&self, path: &str, kind: ObjectKind) -> Result<ObjectIndex> {
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
        // The second tail has the bytes that the first one asked for, unless the object was
        // replaced.
        Err(bad(CodecError::Layout { what: "footer", offset: tail.object_len }))
    }

    /// The payload of the object's footer.
    ///
    /// # Errors
    /// Those of [`index`](Self::index).
    pub fn get_footer(&self, path: &str, kind: ObjectKind) -> Result<Vec<u8>> {
        Ok(self.index(path, kind)?.footer)
    }

    /// Checks and puts a container. Its index is read back and each frame is checked by its CRC-32,
    /// so that bytes that were damaged in memory after encoding are not stored.
    ///
    /// # Errors
    /// [`Error::Object`] if the bytes are not a sound container of this kind; errors of
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

/// True for kinds whose name is a hash of their bytes. Readers check the name against the bytes.
fn is_named_by_content(kind: ObjectKind) -> bool {
    matches!(kind, ObjectKind::Pack | ObjectKind::PackIndex)
}
