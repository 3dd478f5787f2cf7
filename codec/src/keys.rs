//! The keys of an encrypted repository, and the wrapping of the master key.
//!
//! A random master key encrypts the key ring. The ring holds the data keys, of which the newest
//! encrypts new objects, and the key of names, which never changes. Chunk ids are HMACs under the
//! key of names, so that a reader of the repository without keys cannot test whether it contains a
//! known file. Each slot holds the master key, wrapped by one passphrase or key file.

use crate::cipher::ObjectCipher;
use crate::{CodecError, Digest, ObjectKind, Seal};
use pitr_format::DecodeError;
use pitr_format::bytes::{Put, Reader};
use pitr_vfs::Random;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use std::fmt;
use zeroize::Zeroizing;

/// Maximum number of data keys in a ring.
const RING_KEYS_MAX: usize = 4096;

/// 32 secret bytes, wiped on drop.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<[u8; 32]>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// Wraps these bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Secret(Zeroizing::new(bytes))
    }

    /// Creates a secret from random bytes, which must be fit for keys.
    ///
    /// # Errors
    /// [`CodecError::Crypto`].
    pub fn generate(random: &dyn Random) -> Result<Self, CodecError> {
        draw(random).map(Secret::new)
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

fn draw<const N: usize>(random: &dyn Random) -> Result<[u8; N], CodecError> {
    let mut bytes = [0; N];
    let filled = random.fill(&mut bytes);
    filled.map_err(|_| CodecError::Crypto { what: "the system returned no random bytes" })?;
    Ok(bytes)
}

/// The keys that encrypt and decrypt the objects of one repository.
#[derive(Debug, Clone)]
pub struct Keys {
    repository: [u8; 16],
    names: Secret,
    /// Indexed by number - 1. New objects use the last one.
    data: Vec<Secret>,
}

impl Keys {
    /// Generates new keys for this repository.
    ///
    /// # Errors
    /// [`CodecError::Crypto`].
    pub fn generate(repository: [u8; 16], random: &dyn Random) -> Result<Self, CodecError> {
        let (names, data) = (Secret::generate(random)?, vec![Secret::generate(random)?]);
        Ok(Keys { repository, names, data })
    }

    /// The keys that encrypt and decrypt the key ring itself.
    #[must_use]
    pub fn from_master(repository: [u8; 16], master: &Secret) -> Self {
        Keys { repository, names: master.clone(), data: vec![master.clone()] }
    }

    /// Adds a data key. The earlier keys cannot decrypt objects written from now on.
    ///
    /// # Errors
    /// [`CodecError::TooLarge`] if the ring is full; [`CodecError::Crypto`].
    pub fn rotate(&mut self, random: &dyn Random) -> Result<(), CodecError> {
        let bytes = self.data.len() as u64 + 1;
        if bytes > RING_KEYS_MAX as u64 {
            return Err(CodecError::TooLarge { what: "key ring", bytes, most: RING_KEYS_MAX as u64 });
        }
        self.data.push(Secret::generate(random)?);
        Ok(())
    }

    /// Number of data keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Always false: a ring has at least one data key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// Encodes the payload of a ring object. The buffer is wiped on drop.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(32 + 4 + 32 * self.data.len()));
        out.put(self.names.bytes());
        out.put_u32(self.data.len() as u32); // at most RING_KEYS_MAX
        self.data.iter().for_each(|key| out.put(key.bytes()));
        out
    }

    /// Decodes the payload of a ring object.
    ///
    /// # Errors
    /// [`CodecError::Malformed`].
    pub fn decode(repository: [u8; 16], bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::new(bytes);
        let names = Secret::new(reader.array("key of names")?);
        let count = reader.u32("data keys")?;
        if count == 0 || count as usize > RING_KEYS_MAX {
            return Err(DecodeError::Range { what: "data keys", value: u64::from(count) }.into());
        }
        let data = (0..count).map(|_| reader.array("data key").map(Secret::new)).collect::<Result<_, _>>()?;
        reader.finish("key ring")?;
        Ok(Keys { repository, names, data })
    }

    /// Creates the cipher of a new object, with a random salt.
    ///
    /// # Errors
    /// [`CodecError::Crypto`].
    pub fn seal(
        &self,
        kind: ObjectKind,
        name: &str,
        random: &dyn Random,
    ) -> Result<ObjectCipher, CodecError> {
        let key = self.data.len() as u32; // at most RING_KEYS_MAX
        self.open(kind, name, Seal { key, salt: draw(random)? })
    }

    /// Creates the cipher of an existing object. `name` is its path, or empty if it is named by its
    /// content.
    ///
    /// # Errors
    /// [`CodecError::NoSuchKey`]; [`CodecError::Crypto`].
    pub fn open(&self, kind: ObjectKind, name: &str, seal: Seal) -> Result<ObjectCipher, CodecError> {
        let missing = CodecError::NoSuchKey { kind, key: seal.key };
        let key = (seal.key as usize).checked_sub(1).and_then(|at| self.data.get(at)).ok_or(missing)?;
        ObjectCipher::new(&self.repository, key, kind, name, seal)
    }

    /// The id of a chunk.
    #[must_use]
    pub fn content_id(&self, content: &[u8]) -> Digest {
        self.hmac(&[b"chunk", content])
    }

    /// The name of a source's folder, which hides the name of the source.
    #[must_use]
    pub fn folder_of(&self, name: &str) -> [u8; 16] {
        let hash = self.hmac(&[b"source", name.as_bytes()]);
        let (halves, _) = hash.as_chunks();
        halves[0] // of 32 bytes
    }

    /// The path segment of a restored state, which hides its digest.
    #[must_use]
    pub fn restored_mark(&self, digest: &Digest) -> Digest {
        self.hmac(&[b"restored", digest])
    }

    /// The path segment of a named recovery point, which hides the name.
    #[must_use]
    pub fn point_mark(&self, digest: &Digest) -> Digest {
        self.hmac(&[b"point", digest])
    }

    fn hmac(&self, parts: &[&[u8]]) -> Digest {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, self.names.bytes()));
        parts.iter().for_each(|part| context.update(part));
        let mut digest = [0; 32];
        digest.copy_from_slice(context.sign().as_ref());
        digest
    }
}

/// Wraps the master key: a passphrase, a key file, or a key management service.
pub trait KeyWrap: Send + Sync {
    /// Name of the method on disk, at most 64 bytes. A slot names the method that can open it.
    fn method(&self) -> &str;

    /// Wraps the master key, and authenticates `context` with it.
    ///
    /// # Errors
    /// [`CodecError::Crypto`].
    fn wrap(&self, master: &Secret, context: &[u8], random: &dyn Random) -> Result<Vec<u8>, CodecError>;

    /// Unwraps the master key. Returns `None` if the key was wrapped by another passphrase or key
    /// file.
    ///
    /// # Errors
    /// [`CodecError::Crypto`], [`CodecError::Malformed`].
    fn unwrap(&self, wrapped: &[u8], context: &[u8]) -> Result<Option<Secret>, CodecError>;
}

/// A key of 32 bytes that is kept elsewhere.
#[derive(Debug, Clone)]
pub struct RawKey(pub Secret);

impl KeyWrap for RawKey {
    fn method(&self) -> &str {
        "raw"
    }

    fn wrap(&self, master: &Secret, context: &[u8], random: &dyn Random) -> Result<Vec<u8>, CodecError> {
        wrap(&self.0, master, context, random)
    }

    fn unwrap(&self, wrapped: &[u8], context: &[u8]) -> Result<Option<Secret>, CodecError> {
        unwrap(&self.0, wrapped, context)
    }
}

/// A passphrase. Argon2id (RFC 9106) makes it expensive to guess.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<String>);

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

/// Memory in KiB, passes and lanes of Argon2id: the second recommendation of RFC 9106, with one
/// lane.
const ARGON: [u32; 3] = [64 << 10, 3, 1];
/// Largest costs that a slot may state.
const ARGON_MAX: [u32; 3] = [256 << 10, 16, 4];

impl Passphrase {
    /// Wraps this passphrase.
    #[must_use]
    pub fn new(passphrase: impl Into<String>) -> Self {
        Passphrase(Zeroizing::new(passphrase.into()))
    }

    fn key(&self, [memory, passes, lanes]: [u32; 3], salt: &[u8; 16]) -> Result<Secret, CodecError> {
        let failed = |_| CodecError::Crypto { what: "no key could be derived from the passphrase" };
        let params = argon2::Params::new(memory, passes, lanes, Some(32)).map_err(failed)?;
        let argon = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
        let mut key = Secret::new([0; 32]);
        argon.hash_password_into(self.0.as_bytes(), salt, &mut *key.0).map_err(failed)?;
        Ok(key)
    }
}

impl KeyWrap for Passphrase {
    fn method(&self) -> &str {
        "argon2id"
    }

    fn wrap(&self, master: &Secret, context: &[u8], random: &dyn Random) -> Result<Vec<u8>, CodecError> {
        let salt = draw(random)?;
        let mut out = Vec::new();
        ARGON.iter().for_each(|cost| out.put_u32(*cost));
        out.put(&salt);
        out.put(&wrap(&self.key(ARGON, &salt)?, master, context, random)?);
        Ok(out)
    }

    fn unwrap(&self, wrapped: &[u8], context: &[u8]) -> Result<Option<Secret>, CodecError> {
        let mut reader = Reader::new(wrapped);
        let mut costs = [0; 3];
        for (cost, most) in costs.iter_mut().zip(ARGON_MAX) {
            *cost = reader.u32("cost of a passphrase")?;
            if *cost > most {
                // FAILURES 31: a slot must not decide how much memory and time is used.
                return Err(
                    DecodeError::Range { what: "cost of a passphrase", value: u64::from(*cost) }.into()
                );
            }
        }
        let salt = reader.array("salt of a passphrase")?;
        unwrap(&self.key(costs, &salt)?, reader.take(reader.left(), "wrapped key")?, context)
    }
}

fn aead(key: &Secret) -> Result<LessSafeKey, CodecError> {
    let unbound = UnboundKey::new(&AES_256_GCM, key.bytes());
    Ok(LessSafeKey::new(
        unbound.map_err(|_| CodecError::Crypto { what: "the key could not be initialised" })?,
    ))
}

/// Returns nonce, encrypted master key and tag.
fn wrap(key: &Secret, master: &Secret, context: &[u8], random: &dyn Random) -> Result<Vec<u8>, CodecError> {
    let nonce: [u8; NONCE_LEN] = draw(random)?;
    let mut bytes = master.bytes().to_vec();
    let sealed = aead(key)?.seal_in_place_append_tag(
        Nonce::assume_unique_for_key(nonce),
        Aad::from(context),
        &mut bytes,
    );
    sealed.map_err(|_| CodecError::Crypto { what: "the master key could not be wrapped" })?;
    Ok([nonce.as_slice(), &bytes].concat())
}

fn unwrap(key: &Secret, wrapped: &[u8], context: &[u8]) -> Result<Option<Secret>, CodecError> {
    let mut reader = Reader::new(wrapped);
    let nonce = Nonce::assume_unique_for_key(reader.array("nonce of a wrapped key")?);
    let mut bytes = Zeroizing::new(reader.take(reader.left(), "wrapped key")?.to_vec());
    let opened = aead(key)?.open_in_place(nonce, Aad::from(context), &mut bytes);
    Ok(opened.ok().and_then(|plain| <[u8; 32]>::try_from(&*plain).ok()).map(Secret::new))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitr_vfs::SystemRandom;

    #[test]
    fn only_the_wrapping_key_unwraps_a_master_key() {
        // FAILURES 35
        let master = Secret::generate(&SystemRandom).unwrap();
        let wraps: [Box<dyn KeyWrap>; 4] = [
            Box::new(Passphrase::new("correct")),
            Box::new(Passphrase::new("Correct")),
            Box::new(RawKey(Secret::new([1; 32]))),
            Box::new(RawKey(Secret::new([2; 32]))),
        ];
        for (no, by) in wraps.iter().enumerate() {
            let wrapped = by.wrap(&master, b"here", &SystemRandom).unwrap();
            assert!(!wrapped.windows(32).any(|bytes| bytes == master.bytes()));
            for (other_no, other) in wraps.iter().enumerate().filter(|(_, o)| o.method() == by.method()) {
                let opened = other.unwrap(&wrapped, b"here").unwrap();
                assert_eq!(opened, (no == other_no).then(|| master.clone()));
            }
            assert_eq!(by.unwrap(&wrapped, b"there").unwrap(), None);
            let mut damaged = wrapped.clone();
            *damaged.last_mut().unwrap() ^= 1;
            assert_eq!(by.unwrap(&damaged, b"here").unwrap(), None);
            assert!(by.unwrap(&wrapped[..8], b"here").is_err());
        }
    }

    #[test]
    fn the_memory_cost_in_a_slot_is_bounded() {
        // FAILURES 31
        let passphrase = Passphrase::new("p");
        let mut wrapped = passphrase.wrap(&Secret::new([3; 32]), b"", &SystemRandom).unwrap();
        wrapped[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(passphrase.unwrap(&wrapped, b""), Err(CodecError::Malformed(_))));
    }

    #[test]
    fn a_key_ring_round_trips_and_rotates() {
        // FAILURES 35
        let mut keys = Keys::generate([7; 16], &SystemRandom).unwrap();
        let before = keys.seal(ObjectKind::Pack, "", &SystemRandom).unwrap();
        keys.rotate(&SystemRandom).unwrap();
        let read = Keys::decode([7; 16], &keys.encode()).unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!(read.content_id(b"x"), keys.content_id(b"x"), "names survive a rotation");
        assert_ne!(read.content_id(b"x"), Keys::generate([7; 16], &SystemRandom).unwrap().content_id(b"x"));
        assert_eq!(read.seal(ObjectKind::Pack, "", &SystemRandom).unwrap().seal().key, 2);
        assert!(read.open(ObjectKind::Pack, "", before.seal()).is_ok());
        let later = Seal { key: 3, salt: [0; 16] };
        assert!(matches!(read.open(ObjectKind::Pack, "", later), Err(CodecError::NoSuchKey { key: 3, .. })));
        for len in 0..keys.encode().len() {
            assert!(Keys::decode([7; 16], &keys.encode()[..len]).is_err());
        }
    }
}
