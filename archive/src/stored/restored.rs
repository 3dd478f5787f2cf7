//! Restored states. They identify a restored database when it is protected again (FAILURES 8).
//!
//! A restore stores the position in the history and a fingerprint of the content that it built. The
//! object's path starts with a mark derived from the fingerprint. So one listing tells whether a
//! content is known, however many states were restored.

use super::{CommitPoint, state};
use crate::archive::Archive;
use crate::error::Result;
use pitr_format::bytes::{DecodeError, Put, Reader};
use pitr_format::{Lsn, TimelineId, Timestamp, TxId};
use pitr_objects::layout::{MARK_BYTES, RestoredName, SourceObject};
use sha2::{Digest, Sha256};

const VERSION: u16 = 1;
const WHAT: &str = "restored state";
/// Maximum number of blocks that a fingerprint hashes.
const SAMPLES: u64 = 64;

/// A fingerprint of a content: its size, and a hash of its first block, its last one and 62 in
/// between, evenly spread. Hashes all blocks if there are at most 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    /// Size of a block, bytes.
    pub block_bytes: u32,
    /// Number of blocks.
    pub blocks: u64,
    /// SHA-256 of the sampled blocks.
    pub hash: [u8; 32],
}

impl Fingerprint {
    /// The fingerprint of a content. `read` fills its second argument with the block of that
    /// number.
    ///
    /// # Errors
    /// Errors of `read`.
    pub fn of<E>(
        block_bytes: u32,
        blocks: u64,
        mut read: impl FnMut(u64, &mut [u8]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut hasher = Sha256::new();
        let mut block = vec![0; block_bytes as usize];
        for number in samples(blocks) {
            read(number, &mut block)?;
            hasher.update(number.to_le_bytes());
            hasher.update(&block);
        }
        Ok(Fingerprint { block_bytes, blocks, hash: hasher.finalize().into() })
    }

    /// True if the fingerprint hashes every block. Then two contents with the same fingerprint are
    /// equal.
    #[must_use]
    pub fn is_of_all(&self) -> bool {
        self.blocks <= SAMPLES
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.put_u32(self.block_bytes);
        out.put_u64(self.blocks);
        out.put(&self.hash);
    }

    fn digest(&self) -> [u8; 32] {
        let mut bytes = Vec::new();
        self.encode(&mut bytes);
        Sha256::digest(&bytes).into()
    }
}

/// Numbers of the blocks that a fingerprint hashes, ascending.
fn samples(blocks: u64) -> impl Iterator<Item = u64> {
    let last = u128::from(blocks.saturating_sub(1));
    // The result is at most `last`, so it fits.
    let spread = move |nth: u64| (u128::from(nth) * last / u128::from(SAMPLES - 1)) as u64;
    (0..blocks.min(SAMPLES)).map(move |nth| if blocks <= SAMPLES { nth } else { spread(nth) })
}

/// A restored state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestoredState {
    /// The timeline of the state.
    pub timeline: TimelineId,
    /// LSN of the state's last commit. For a snapshot restored without log, the LSN at which the
    /// snapshot is consistent.
    pub lsn: Lsn,
    /// The state's last transaction.
    pub tx: TxId,
    /// Time of that transaction.
    pub time: Timestamp,
    /// Fingerprint of the state's content.
    pub fingerprint: Fingerprint,
}

impl RestoredState {
    /// The bytes of the object's payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let Self { tx, lsn, time, .. } = *self;
        state::put(&mut out, VERSION, self.timeline, CommitPoint { tx, lsn, time });
        self.fingerprint.encode(&mut out);
        out
    }

    /// Reads the object.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let (timeline, CommitPoint { tx, lsn, time }) = state::read(&mut r, VERSION, WHAT)?;
        let (block_bytes, blocks, hash) = (r.u32(WHAT)?, r.u64(WHAT)?, r.array(WHAT)?);
        r.finish(WHAT)?;
        let fingerprint = Fingerprint { block_bytes, blocks, hash };
        Ok(RestoredState { timeline, lsn, tx, time, fingerprint })
    }
}

impl Archive {
    /// Stores a restored state, unless it is already stored.
    ///
    /// # Errors
    /// [`Error::Objects`](crate::Error::Objects).
    pub fn state_restored(&self, state: &RestoredState) -> Result<()> {
        let mark = self.mark(&state.fingerprint);
        let name = SourceObject::Restored(RestoredName { mark, timeline: state.timeline, lsn: state.lsn });
        if !self.objects().exists(&self.folder().path(&name))? {
            self.create(&name, &state.encode())?;
        }
        Ok(())
    }

    /// The restored state with this fingerprint; of several, the one with the highest LSN on the
    /// newest timeline.
    ///
    /// # Errors
    /// [`Error::Objects`](crate::Error::Objects); [`Error::Payload`](crate::Error::Payload) about a
    /// later version.
    pub fn restored_as(&self, fingerprint: &Fingerprint) -> Result<Option<RestoredState>> {
        let folder = self.folder().restored(&self.mark(fingerprint));
        let mut found = Vec::new();
        for entry in self.objects().list(&folder)? {
            let Some(name @ SourceObject::Restored(at)) = self.folder().object_at(&entry.path) else {
                continue;
            };
            match self.read(&name, RestoredState::decode) {
                Ok(state) if (state.timeline, state.lsn) == (at.timeline, at.lsn) => found.push(state),
                Ok(_) => {}
                Err(error) if error.is_damage() => tracing::warn!("{error}; run `pitr verify` for details"),
                Err(error) => return Err(error),
            }
        }
        found.retain(|state| state.fingerprint == *fingerprint);
        Ok(found.into_iter().max_by_key(|state| (state.timeline, state.lsn)))
    }

    fn mark(&self, fingerprint: &Fingerprint) -> [u8; MARK_BYTES] {
        let digest = fingerprint.digest();
        let keyed = self.objects().keys().map_or(digest, |keys| keys.restored_mark(&digest));
        let mut mark = [0; MARK_BYTES];
        mark.copy_from_slice(&keyed[..MARK_BYTES]);
        mark
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn digits(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    proptest! {
        #[test]
        fn states_come_back(t: u32, lsn: u64, tx: u64, at: i64, block_bytes: u32, blocks: u64, hash: [u8; 32]) {
            let fingerprint = Fingerprint { block_bytes, blocks, hash };
            let (timeline, lsn, tx) = (TimelineId::new(t), Lsn::new(lsn), TxId::new(tx));
            let state = RestoredState { timeline, lsn, tx, time: Timestamp::from_micros(at), fingerprint };
            let bytes = state.encode();
            prop_assert_eq!(RestoredState::decode(&bytes).unwrap(), state);
            prop_assert!(RestoredState::decode(&bytes[..bytes.len() - 1]).is_err());
        }

        #[test]
        fn samples_of_any_content_include_its_first_and_last_block(blocks in 1u64..) {
            let samples: Vec<u64> = samples(blocks).collect();
            prop_assert_eq!(samples.len() as u64, blocks.min(64));
            prop_assert_eq!((samples[0], samples[samples.len() - 1]), (0, blocks - 1));
            prop_assert!(samples.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }

    #[test]
    fn all_blocks_of_a_small_content_are_hashed() {
        let of = |blocks: u64, changed: u64| {
            let read = |number: u64, out: &mut [u8]| -> Result<(), std::convert::Infallible> {
                out.fill(u8::from(number == changed));
                Ok(())
            };
            Fingerprint::of(512, blocks, read).unwrap()
        };
        assert!(of(64, 70).is_of_all() && !of(65, 70).is_of_all());
        for changed in 0..64 {
            assert_ne!(of(64, changed), of(64, 70), "block {changed}");
        }
        assert_eq!(of(0, 0).blocks, 0);
    }

    #[test]
    fn the_bytes_are_those_of_the_format_page() {
        let fingerprint = Fingerprint { block_bytes: 4096, blocks: 2, hash: [9; 32] };
        let (timeline, lsn, tx) = (TimelineId::new(3), Lsn::new(258), TxId::new(4));
        let state = RestoredState { timeline, lsn, tx, time: Timestamp::from_micros(-2), fingerprint };
        let fixed = "010003000000020100000000000004000000 00000000feffffffffffffff00100000".replace(' ', "");
        assert_eq!(digits(&state.encode()), format!("{fixed}0200000000000000{}", "09".repeat(32)));
    }
}
