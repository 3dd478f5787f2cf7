//! The keys of an encrypted repository.
//!
//! ```text
//! keys/<repository>/slots/<slot>    the wrapped master key; not encrypted
//! keys/<repository>/rings/<number>  the data keys, encrypted by the master key; the highest counts
//! ```
//!
//! The paths of both contain the repository's identity. So keys that an interrupted `init` left
//! behind belong to no repository.

use crate::layout::{ObjectName, ShortId, rings, slots};
use crate::store::Encryption;
use crate::{Entry, Error, Objects, Repository, Result};
use pitr_codec::{Access, Codec, CodecError, KeyWrap, Keys, ObjectBuilder, ObjectIndex, ObjectKind, Secret};
use pitr_format::bytes::{Put, Reader};
use pitr_format::{DecodeError, Timestamp};
use std::sync::{Arc, PoisonError};

/// Maximum length of a wrapped key, bytes.
const WRAPPED_BYTES_MAX: usize = 4096;
/// Maximum length of the name of a wrapping method, bytes.
const METHOD_BYTES_MAX: usize = 64;
/// Number of attempts to write a ring while other processes rotate keys too.
const ROTATE_ATTEMPTS: u32 = 16;

/// A slot with the wrapped master key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySlot {
    /// Identity of the slot.
    pub id: ShortId,
    /// Wrapping method: `argon2id` for a passphrase, `raw` for a key file.
    pub method: String,
    /// Time of creation.
    pub created: Timestamp,
    wrapped: Vec<u8>,
}

impl KeySlot {
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_i64(self.created.micros());
        out.put_u8(self.method.len() as u8); // checked when the slot was made
        out.put(self.method.as_bytes());
        out.put(&self.wrapped);
        out
    }

    fn read(id: ShortId, bytes: &[u8]) -> std::result::Result<Self, DecodeError> {
        const WHAT: &str = "key slot";
        let mut reader = Reader::new(bytes);
        let created = Timestamp::from_micros(reader.i64(WHAT)?);
        let len = reader.u8(WHAT)?;
        let method = std::str::from_utf8(reader.take(len.into(), WHAT)?);
        let method =
            method.map_err(|_| DecodeError::Range { what: "name of a key slot's method", value: 0 })?;
        let wrapped = reader.take(reader.left(), WHAT)?;
        if wrapped.len() > WRAPPED_BYTES_MAX {
            return Err(DecodeError::Range { what: "wrapped key", value: wrapped.len() as u64 });
        }
        Ok(KeySlot { id, method: method.to_owned(), created, wrapped: wrapped.to_vec() })
    }
}

impl Objects {
    /// Creates a repository with encrypted objects. `by` is its first passphrase or key.
    ///
    /// # Errors
    /// Those of [`init_repository`](Self::init_repository); [`Error::Keys`].
    pub fn init_encrypted(&self, created: Timestamp, by: &dyn KeyWrap) -> Result<Repository> {
        let repository = Repository { id: self.random_bytes()?, created, encrypted: true };
        let random = &*self.env().random;
        let (master, keys) = (Secret::generate(random), Keys::generate(repository.id, random));
        let master = master.map_err(|source| self.keys_error(source))?;
        let keys = keys.map_err(|source| self.keys_error(source))?;
        let encryption = Encryption { repository: repository.id, master, keys: Arc::new(keys), ring: 0 };
        self.put_slot(&encryption, created, by)?;
        self.put_ring(&encryption)?;
        self.put_repository(&repository)?;
        self.set(encryption);
        Ok(repository)
    }

    /// Opens an encrypted repository with the first of these keys that fits one of its slots.
    ///
    /// # Errors
    /// [`Error::Keys`] with [`CodecError::WrongKey`] if none fits; [`Error::NotEncrypted`]; errors
    /// of the store.
    pub fn unlock(&self, repository: &Repository, with: &[&dyn KeyWrap]) -> Result<()> {
        if !repository.encrypted {
            return Err(Error::NotEncrypted { place: self.place().to_owned() });
        }
        let slots = self.slots_of(&repository.id)?;
        for slot in &slots {
            for by in with.iter().filter(|by| by.method() == slot.method) {
                let context = context(&repository.id, slot.id);
                let opened = by.unwrap(&slot.wrapped, &context).map_err(|source| self.keys_error(source))?;
                if let Some(master) = opened {
                    let (ring, keys) = self.newest_ring(&repository.id, &master)?;
                    self.set(Encryption { repository: repository.id, master, keys: Arc::new(keys), ring });
                    return Ok(());
                }
            }
        }
        Err(self.keys_error(CodecError::WrongKey { slots: slots.len() }))
    }

    /// The slots of the opened repository.
    ///
    /// # Errors
    /// [`Error::NotEncrypted`]; errors of the store.
    pub fn key_slots(&self) -> Result<Vec<KeySlot>> {
        self.slots_of(&self.encryption()?.repository)
    }

    /// Adds a slot, and returns its identity.
    ///
    /// # Errors
    /// [`Error::NotEncrypted`], [`Error::Keys`]; errors of the store.
    pub fn add_key_slot(&self, created: Timestamp, by: &dyn KeyWrap) -> Result<ShortId> {
        self.put_slot(&*self.encryption()?, created, by)
    }

    /// Removes a slot. A user who knows the slot's key may have kept a copy of the master key. A
    /// new data key ([`rotate_keys`](Self::rotate_keys)) does not hide later objects from that
    /// user. Only a new repository does.
    ///
    /// # Errors
    /// [`Error::LastSlot`], [`Error::NoSlot`], [`Error::NotEncrypted`]; errors of the store.
    pub fn remove_key_slot(&self, slot: &str) -> Result<()> {
        let slots = self.key_slots()?;
        let found = slots.iter().find(|one| one.id.to_string() == slot);
        let slot = found.ok_or(Error::NoSlot { slot: slot.to_owned() })?;
        if slots.len() == 1 {
            return Err(Error::LastSlot { slot: slot.id.to_string() });
        }
        let repository = self.encryption()?.repository;
        self.delete(&ObjectName::KeySlot { repository, slot: slot.id }.path())
    }

    /// Adds a data key, which encrypts all later objects. Returns the number of data keys. Earlier
    /// objects stay readable.
    ///
    /// # Errors
    /// [`Error::NotEncrypted`], [`Error::Keys`]; errors of the store.
    pub fn rotate_keys(&self) -> Result<usize> {
        let mut last = None;
        for _ in 0..ROTATE_ATTEMPTS {
            let old = self.encryption()?;
            let (ring, mut keys) = self.newest_ring(&old.repository, &old.master)?;
            keys.rotate(&*self.env().random).map_err(|source| self.keys_error(source))?;
            let count = keys.len();
            let next =
                Encryption { ring: ring + 1, keys: Arc::new(keys), master: old.master.clone(), ..*old };
            match self.put_ring(&next) {
                Ok(()) => {
                    self.set(next);
                    return Ok(count);
                }
                // Another process rotated at the same time: the key is added to the ring of that
                // process.
                Err(error @ Error::Foreign { .. }) => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        last.map_or(Ok(0), Err)
    }

    /// The keys of an encrypted repository that was unlocked.
    #[must_use]
    pub fn keys(&self) -> Option<Arc<Keys>> {
        let encryption = self.inner.encryption.read().unwrap_or_else(PoisonError::into_inner);
        encryption.as_ref().map(|encryption| Arc::clone(&encryption.keys))
    }

    /// Reads the newest ring, because another process may have added a key.
    pub(crate) fn reload_keys(&self) -> Result<Option<Arc<Keys>>> {
        let Ok(old) = self.encryption() else { return Ok(None) };
        let (ring, keys) = self.newest_ring(&old.repository, &old.master)?;
        self.set(Encryption { ring, keys: Arc::new(keys), master: old.master.clone(), ..*old });
        Ok(self.keys())
    }

    fn encryption(&self) -> Result<Arc<Encryption>> {
        let encryption = self.inner.encryption.read().unwrap_or_else(PoisonError::into_inner);
        encryption.clone().ok_or_else(|| Error::NotEncrypted { place: self.place().to_owned() })
    }

    fn set(&self, encryption: Encryption) {
        let mut place = self.inner.encryption.write().unwrap_or_else(PoisonError::into_inner);
        *place = Some(Arc::new(encryption));
    }

    fn put_slot(&self, encryption: &Encryption, created: Timestamp, by: &dyn KeyWrap) -> Result<ShortId> {
        let id = self.random_id()?;
        let context = context(&encryption.repository, id);
        let wrapped = by.wrap(&encryption.master, &context, &*self.env().random);
        let wrapped = wrapped.map_err(|source| self.keys_error(source))?;
        // A wrapped key that can't be unwrapped again would lock everybody out.
        let opened = by.unwrap(&wrapped, &context).map_err(|source| self.keys_error(source))?;
        let fits = by.method().len() <= METHOD_BYTES_MAX && wrapped.len() <= WRAPPED_BYTES_MAX;
        if opened.as_ref() != Some(&encryption.master) || !fits {
            return Err(self.keys_error(CodecError::Crypto { what: "a wrapped key could not be unwrapped" }));
        }
        let slot = KeySlot { id, method: by.method().to_owned(), created, wrapped };
        let path = ObjectName::KeySlot { repository: encryption.repository, slot: id }.path();
        let builder = ObjectBuilder::new(ObjectKind::KeySlot, self.owner(), Codec::None);
        let bytes = builder.finish(&slot.to_bytes()).map_err(|source| self.keys_error(source))?;
        self.put_container(&path, ObjectKind::KeySlot, bytes)?;
        Ok(slot.id)
    }

    fn put_ring(&self, encryption: &Encryption) -> Result<()> {
        let master = Keys::from_master(encryption.repository, &encryption.master);
        let path = ring_path(&encryption.repository, encryption.ring);
        let build = || {
            let cipher = master.seal(ObjectKind::KeyRing, &path, &*self.env().random)?;
            let builder = ObjectBuilder::new(ObjectKind::KeyRing, self.owner(), Codec::None);
            let bytes = builder.encrypted(cipher).finish(&encryption.keys.encode())?;
            let access = Access { keys: Some(&master), name: &path };
            let read = ObjectIndex::from_whole(&bytes, ObjectKind::KeyRing, access)?;
            if read.footer == *encryption.keys.encode() {
                Ok(bytes)
            } else {
                Err(CodecError::VerificationFailed)
            }
        };
        self.put_new(&path, build().map_err(|source| self.keys_error(source))?)
    }

    fn newest_ring(&self, repository: &[u8; 16], master: &Secret) -> Result<(u64, Keys)> {
        let folder = rings(repository);
        let number = |path: &str| match ObjectName::parse(path)? {
            ObjectName::KeyRing { number, .. } => Some(number),
            _ => None,
        };
        let listed = self.list(&folder)?;
        let newest = listed.iter().filter_map(|entry| number(&entry.path)).max();
        let newest = newest.ok_or(Error::Missing { path: folder.clone() })?;
        let path = ring_path(repository, newest);
        let bad = |source| Error::Object { path: path.clone(), source };
        let bytes = self.get(&path)?;
        let access = Access { keys: Some(&Keys::from_master(*repository, master)), name: &path };
        let index = ObjectIndex::from_whole(&bytes, ObjectKind::KeyRing, access).map_err(bad)?;
        Ok((newest, Keys::decode(*repository, &index.footer).map_err(bad)?))
    }

    fn slots_of(&self, repository: &[u8; 16]) -> Result<Vec<KeySlot>> {
        let read = |path: &str, id: ShortId| {
            let footer = self.get_footer(path, ObjectKind::KeySlot)?;
            let bad = |source| Error::Object { path: path.to_owned(), source: CodecError::Malformed(source) };
            KeySlot::read(id, &footer).map_err(bad)
        };
        let mut found = Vec::new();
        for Entry { path, .. } in self.list(&slots(repository))? {
            // A foreign file is not a slot and opens nothing (FAILURES 59).
            if let Some(ObjectName::KeySlot { slot, .. }) = ObjectName::parse(&path) {
                found.push(read(&path, slot)?);
            }
        }
        Ok(found)
    }

    fn keys_error(&self, source: CodecError) -> Error {
        Error::Keys { place: self.place().to_owned(), source }
    }
}

fn context(repository: &[u8; 16], slot: ShortId) -> Vec<u8> {
    [repository.as_slice(), slot.to_string().as_bytes()].concat()
}

fn ring_path(repository: &[u8; 16], number: u64) -> String {
    ObjectName::KeyRing { repository: *repository, number }.path()
}
