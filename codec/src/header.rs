//! Header and trailer of an object.

use crate::{CodecError, Digest, OBJECT_BYTES_LIMIT, sha256};
use pitr_format::bytes::{Put, Reader};
use pitr_format::{DecodeError, OwnerToken};
use std::fmt;

/// Size of an object's header, bytes.
pub const HEADER_BYTES: usize = 64;
/// Size of an object's trailer, bytes.
pub const TRAILER_BYTES: usize = 64;
/// Version of the container that this program writes, and the newest one it reads.
pub const OBJECT_VERSION: u16 = 1;

const HEADER_MAGIC: u64 = u64::from_le_bytes(*b"PITROBJ1");
const TRAILER_MAGIC: u64 = u64::from_le_bytes(*b"PITREND1");
const HEADER_CRC_OFFSET: usize = 60;
const TRAILER_FIELDS_BYTES: usize = 24;

/// The kinds of objects, with their numbers on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum ObjectKind {
    /// The object that makes a folder a repository.
    Repository = 1,
    /// Chunks.
    Pack = 2,
    /// The positions of chunks in packs.
    PackIndex = 3,
    /// The root of a snapshot.
    Manifest = 4,
    /// A range of a timeline's log.
    Log = 5,
    /// A writer's claim of an epoch.
    Claim = 6,
    /// The end of an epoch.
    Fence = 7,
    /// How a timeline began.
    Timeline = 8,
    /// The repository's master key, wrapped.
    KeySlot = 9,
    /// The keys that encrypt objects.
    KeyRing = 10,
    /// The name of a source.
    Source = 11,
    /// A process is using the repository.
    Lease = 12,
    /// A list of objects that are to be deleted.
    Condemned = 13,
    /// A range of a timeline's log that retention removed.
    Pruned = 14,
    /// Where a source is located.
    Origin = 15,
    /// A state that was restored.
    Restored = 16,
    /// A named recovery point.
    Point = 17,
    /// The measured rates of a restore.
    Rates = 18,
    /// Tests whether a store enforces create-only puts.
    Probe = 19,
    /// The history of verifications.
    Verifications = 20,
}

impl ObjectKind {
    const fn from_u8(raw: u8) -> Option<Self> {
        Some(match raw {
            1 => ObjectKind::Repository,
            2 => ObjectKind::Pack,
            3 => ObjectKind::PackIndex,
            4 => ObjectKind::Manifest,
            5 => ObjectKind::Log,
            6 => ObjectKind::Claim,
            7 => ObjectKind::Fence,
            8 => ObjectKind::Timeline,
            9 => ObjectKind::KeySlot,
            10 => ObjectKind::KeyRing,
            11 => ObjectKind::Source,
            12 => ObjectKind::Lease,
            13 => ObjectKind::Condemned,
            14 => ObjectKind::Pruned,
            15 => ObjectKind::Origin,
            16 => ObjectKind::Restored,
            17 => ObjectKind::Point,
            18 => ObjectKind::Rates,
            19 => ObjectKind::Probe,
            20 => ObjectKind::Verifications,
            _ => return None,
        })
    }
}

impl ObjectKind {
    /// True for the kinds that a reader needs before it has the keys, and for probes, which come
    /// before the keys of a new repository.
    #[must_use]
    pub const fn is_always_plaintext(self) -> bool {
        matches!(self, ObjectKind::Repository | ObjectKind::KeySlot | ObjectKind::Probe)
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ObjectKind::Repository => "repository object",
            ObjectKind::Pack => "pack",
            ObjectKind::PackIndex => "pack index",
            ObjectKind::Manifest => "manifest",
            ObjectKind::Log => "log object",
            ObjectKind::Claim => "claim",
            ObjectKind::Fence => "fence",
            ObjectKind::Timeline => "timeline object",
            ObjectKind::KeySlot => "key slot",
            ObjectKind::KeyRing => "key ring",
            ObjectKind::Source => "source's name",
            ObjectKind::Lease => "lease",
            ObjectKind::Condemned => "list of condemned objects",
            ObjectKind::Pruned => "pruned range",
            ObjectKind::Origin => "source's origin",
            ObjectKind::Restored => "restored state",
            ObjectKind::Point => "recovery point",
            ObjectKind::Rates => "measured rates",
            ObjectKind::Probe => "probe",
            ObjectKind::Verifications => "history of verifications",
        })
    }
}

/// The header of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectHeader {
    /// Kind of the object.
    pub kind: ObjectKind,
    /// Number of the codec that the writer was configured with. Each frame names its own codec.
    pub codec: u8,
    /// The process that wrote the object.
    pub owner: OwnerToken,
    /// How the object is encrypted, or `None` if it is not.
    pub seal: Option<Seal>,
}

/// How an object is encrypted: AES-256-GCM under a key that only this object uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Seal {
    /// Number of the data key from which the object's key is derived; not 0.
    pub key: u32,
    /// Random salt of the derivation, different for each object.
    pub salt: [u8; 16],
}

pub(crate) const CIPHER_NONE: u8 = 0;
pub(crate) const CIPHER_AES_256_GCM: u8 = 1;

impl ObjectHeader {
    pub(crate) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.put_u64(HEADER_MAGIC);
        out.put_u16(OBJECT_VERSION);
        out.put_u8(self.kind as u8);
        out.put_u8(self.codec);
        out.put_u8(if self.seal.is_some() { CIPHER_AES_256_GCM } else { CIPHER_NONE });
        out.put(&[0; 3]);
        out.put_u32(self.seal.map_or(0, |seal| seal.key));
        out.put(&self.owner.0);
        out.put(&self.seal.map_or([0; 16], |seal| seal.salt));
        out.resize(HEADER_CRC_OFFSET, 0);
        let crc = crc32fast::hash(&out);
        out.put_u32(crc);
        let mut bytes = [0; HEADER_BYTES];
        bytes.copy_from_slice(&out);
        bytes
    }

    /// Reads a header of any kind.
    ///
    /// Magic, checksum and version keep their place in every later version. A newer object is
    /// therefore distinguishable from a damaged one.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::new(bytes);
        let magic = reader.u64("object header")?;
        if magic != HEADER_MAGIC {
            return Err(DecodeError::Magic { what: "object header", found: magic }.into());
        }
        let version = reader.u16("object version")?;
        let kind = reader.u8("object kind")?;
        let codec = reader.u8("object codec")?;
        let cipher = reader.u8("object cipher")?;
        let mut reserved = reader.take(3, "object reserved")?.to_vec();
        let key = reader.u32("object key id")?;
        let owner = OwnerToken(reader.array("object owner")?);
        let salt = reader.array("object salt")?;
        reserved.extend(reader.take(HEADER_CRC_OFFSET - reader.offset(), "object reserved")?);
        let found = reader.u32("object header checksum")?;
        let computed = crc32fast::hash(&bytes[..HEADER_CRC_OFFSET]);
        if computed != found {
            return Err(DecodeError::Checksum { what: "object header", found, computed }.into());
        }
        if version == 0 || version > OBJECT_VERSION {
            let (found, known) = (u32::from(version), u32::from(OBJECT_VERSION));
            return Err(DecodeError::Version { what: "object", found, known }.into());
        }
        let seal = match (cipher, key) {
            (CIPHER_NONE, 0) if salt == [0; 16] => None,
            (CIPHER_AES_256_GCM, 1..) => Some(Seal { key, salt }),
            (CIPHER_NONE | CIPHER_AES_256_GCM, _) => {
                return Err(DecodeError::Range { what: "object key id", value: u64::from(key) }.into());
            }
            (id, _) => return Err(CodecError::Unknown { what: "cipher", id }),
        };
        if let Some(value) = reserved.iter().copied().find(|byte| *byte != 0) {
            return Err(DecodeError::Range { what: "object reserved", value: u64::from(value) }.into());
        }
        let kind = ObjectKind::from_u8(kind).ok_or(CodecError::Unknown { what: "object kind", id: kind })?;
        Ok(ObjectHeader { kind, codec, owner, seal })
    }
}

/// The trailer of an object: the place of the footer, and the hash that binds header and footer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trailer {
    pub(crate) footer_offset: u64,
    /// Size of the footer frame, header included, bytes.
    pub(crate) footer_len: u32,
    /// Size of the decoded footer, bytes.
    pub(crate) footer_raw_len: u32,
    pub(crate) frames: u32,
    /// SHA-256 of the header, the stored footer frame, and the trailer's fields before this one.
    pub(crate) digest: Digest,
}

impl Trailer {
    fn fields(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(TRAILER_FIELDS_BYTES);
        out.put_u64(self.footer_offset);
        out.put_u32(self.footer_len);
        out.put_u32(self.footer_raw_len);
        out.put_u32(self.frames);
        out.put_u32(0);
        out
    }

    pub(crate) fn sign(&mut self, header: &[u8], footer: &[u8]) {
        self.digest = self.computed(header, footer);
    }

    pub(crate) fn check(&self, header: &[u8], footer: &[u8]) -> Result<(), CodecError> {
        if self.computed(header, footer) == self.digest { Ok(()) } else { Err(CodecError::ObjectDigest) }
    }

    fn computed(&self, header: &[u8], footer: &[u8]) -> Digest {
        sha256(&[header, footer, &self.fields()])
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.put(&self.fields());
        out.put(&self.digest);
        out.put_u64(TRAILER_MAGIC);
    }

    /// Reads the trailer of an object of `object_len` bytes.
    pub(crate) fn read(bytes: &[u8], object_len: u64) -> Result<Self, CodecError> {
        let mut reader = Reader::new(bytes);
        let footer_offset = reader.u64("footer offset")?;
        let footer_len = reader.u32("footer length")?;
        let footer_raw_len = reader.u32("footer raw length")?;
        let frames = reader.u32("frame count")?;
        let reserved = reader.u32("trailer reserved")?;
        let digest = reader.array("object digest")?;
        let magic = reader.u64("object trailer")?;
        if magic != TRAILER_MAGIC {
            return Err(DecodeError::Magic { what: "object trailer", found: magic }.into());
        }
        if reserved != 0 {
            return Err(DecodeError::Range { what: "trailer reserved", value: u64::from(reserved) }.into());
        }
        if object_len > OBJECT_BYTES_LIMIT as u64 {
            return Err(DecodeError::Range { what: "object length", value: object_len }.into());
        }
        let end = footer_offset.checked_add(u64::from(footer_len) + TRAILER_BYTES as u64);
        if footer_offset < HEADER_BYTES as u64 || end != Some(object_len) {
            return Err(CodecError::Layout { what: "footer", offset: footer_offset });
        }
        Ok(Trailer { footer_offset, footer_len, footer_raw_len, frames, digest })
    }
}
