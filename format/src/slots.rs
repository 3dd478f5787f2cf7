//! The slot file of a log: for each slot, the position from which its holder needs the log. See
//! `docs/format/wal.md` for the layout.
//!
//! The file holds two copies of one table, each of [`SLOTS_COPY_BYTES`]. A change is written to the
//! first copy and synced, then to the second. At any interruption one copy is intact. The copy with
//! the higher generation is the newer one.

use crate::Lsn;
use crate::bytes::{DecodeError, Put, Reader};

/// Size of each of the two copies, bytes.
pub const SLOTS_COPY_BYTES: usize = 32 << 10;
/// Maximum number of slots of a log.
pub const SLOTS_MAX: usize = 100;
/// Longest name of a slot, bytes.
pub const SLOT_NAME_BYTES_MAX: usize = 255;

const MAGIC: u64 = u64::from_le_bytes(*b"PITRSLOT");
const VERSION: u16 = 1;
const WHAT: &str = "slots";
const CRC_BYTES: usize = 4;
const HEAD_BYTES: usize = CRC_BYTES + 8 + 2 + 2 + 8 + 16;
const _: () = assert!(HEAD_BYTES + SLOTS_MAX * (8 + 2 + SLOT_NAME_BYTES_MAX) <= SLOTS_COPY_BYTES);

/// A slot, as stored in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotEntry {
    /// Name of the slot, 1 to [`SLOT_NAME_BYTES_MAX`] bytes.
    pub name: String,
    /// The holder needs the log from this position on.
    pub position: Lsn,
    /// True if the log no longer keeps what the holder needs. The slot stays listed until it is
    /// removed.
    pub is_dropped: bool,
}

/// All slots of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotTable {
    /// Increases with each change.
    pub generation: u64,
    /// Identity of the log.
    pub log_id: [u8; 16],
    /// Sorted by name, at most [`SLOTS_MAX`].
    pub slots: Vec<SlotEntry>,
}

impl SlotTable {
    /// Encodes one copy, padded with zeros. The table must keep the bounds that its fields state.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SLOTS_COPY_BYTES);
        out.put_u32(0);
        out.put_u64(MAGIC);
        out.put_u16(VERSION);
        out.put_u16(self.slots.len() as u16);
        out.put_u64(self.generation);
        out.put(&self.log_id);
        for slot in &self.slots {
            out.put_u64(slot.position.get());
            out.put_u8(u8::from(slot.is_dropped));
            out.put_u8(slot.name.len() as u8);
            out.put(slot.name.as_bytes());
        }
        out.resize(SLOTS_COPY_BYTES, 0);
        let crc = crc32fast::hash(&out[CRC_BYTES..]);
        out[..CRC_BYTES].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Decodes one copy.
    ///
    /// # Errors
    /// Returns [`DecodeError`] if the copy is damaged or has another version.
    pub fn decode(copy: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(copy.get(..SLOTS_COPY_BYTES).unwrap_or(copy));
        let found = r.u32(WHAT)?;
        let magic = r.u64(WHAT)?;
        if magic != MAGIC {
            return Err(DecodeError::Magic { what: WHAT, found: magic });
        }
        r.check_version_u16(VERSION, WHAT)?;
        let computed = crc32fast::hash(&copy[CRC_BYTES..copy.len().min(SLOTS_COPY_BYTES)]);
        if found != computed {
            return Err(DecodeError::Checksum { what: WHAT, found, computed });
        }
        let count = usize::from(r.u16(WHAT)?);
        if count > SLOTS_MAX {
            return Err(DecodeError::Range { what: "number of slots", value: count as u64 });
        }
        let (generation, log_id) = (r.u64(WHAT)?, r.array(WHAT)?);
        let slots = (0..count).map(|_| slot(&mut r)).collect::<Result<_, _>>()?;
        Ok(SlotTable { generation, log_id, slots })
    }
}

fn slot(r: &mut Reader<'_>) -> Result<SlotEntry, DecodeError> {
    let position = Lsn::new(r.u64("slot")?);
    let flags = r.u8("slot")?;
    let len = usize::from(r.u8("slot")?);
    if flags > 1 || len == 0 {
        return Err(DecodeError::Range { what: "slot", value: flags.into() });
    }
    let name = str::from_utf8(r.take(len, "slot")?).map_err(|_| DecodeError::Utf8 { what: "slot" })?;
    Ok(SlotEntry { name: name.to_owned(), position, is_dropped: flags == 1 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table(slots: Vec<SlotEntry>) -> SlotTable {
        SlotTable { generation: 0x0102, log_id: [7; 16], slots }
    }

    #[test]
    fn the_bytes_match_the_format_page() {
        let slot = SlotEntry { name: "replica".to_owned(), position: Lsn::new(0x0a0b), is_dropped: true };
        let bytes = table(vec![slot]).encode();
        assert_eq!(bytes.len(), SLOTS_COPY_BYTES);
        assert_eq!(bytes[..4], crc32fast::hash(&bytes[4..]).to_le_bytes());
        assert_eq!((&bytes[4..12], &bytes[12..16]), (&b"PITRSLOT"[..], &[1, 0, 1, 0][..]));
        assert_eq!((&bytes[16..24], &bytes[24..40]), (&[2, 1, 0, 0, 0, 0, 0, 0][..], &[7; 16][..]));
        assert_eq!((&bytes[40..48], &bytes[48..50]), (&[0xb, 0xa, 0, 0, 0, 0, 0, 0][..], &[1, 7][..]));
        assert_eq!(&bytes[50..57], b"replica");
        assert!(bytes[57..].iter().all(|byte| *byte == 0));
    }

    proptest! {
        #[test]
        fn tables_round_trip(raw in prop::collection::vec(("\\PC{1,63}", any::<u64>(), any::<bool>()), 0..=SLOTS_MAX)) {
            let entry = |(name, position, is_dropped)| SlotEntry { name, position: Lsn::new(position), is_dropped };
            let table = table(raw.into_iter().map(entry).collect());
            prop_assert_eq!(SlotTable::decode(&table.encode()).unwrap(), table);
        }

        #[test]
        fn damaged_copies_are_refused(at in 0usize..200, value: u8, len in 0usize..SLOTS_COPY_BYTES + 9) {
            // FAILURES 29
            let mut bytes = table(vec![SlotEntry { name: "a".to_owned(), position: Lsn::MAX, is_dropped: false }]).encode();
            let changed = bytes[at] != value;
            bytes[at] = value;
            bytes.resize(len, 0);
            let whole = len >= SLOTS_COPY_BYTES && !changed;
            prop_assert_eq!(SlotTable::decode(&bytes).is_ok(), whole);
        }
    }
}
