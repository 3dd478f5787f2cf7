//! The file `CONTROL`: the position at which the next opening begins to replay the log.
//!
//! It has two slots in sectors of their own, written alternately. A write that a power loss tears
//! leaves the other slot (`docs/format/reference.md`).

use crate::error::{Error, Result};
use pitr_format::{Lsn, Timestamp, TxId};
use pitr_vfs::{Access, File, FileSystem};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) const NAME: &str = "CONTROL";
const TEMPORARY: &str = "CONTROL.new";
const MAGIC: &[u8; 8] = b"PITRREF1";
const VERSION: u16 = 1;
/// Flag: the folder was restored, and has no log of its own yet.
const RESTORED: u16 = 1;
const SLOT_BYTES: usize = 64;
/// Distance of the slots: a sector.
const SLOT_STEP: u64 = 512;

/// The last transaction of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Last {
    pub(crate) tx: TxId,
    /// End of its commit; where the log began if there is none.
    pub(crate) lsn: Lsn,
    pub(crate) time: Timestamp,
}

/// A checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Control {
    /// The files hold everything that was committed below it.
    pub(crate) redo_from: Lsn,
    /// The last transaction when the checkpoint was made.
    pub(crate) last: Last,
    /// The highest number that a transaction had then.
    pub(crate) newest: TxId,
    pub(crate) is_restored: bool,
}

impl Control {
    /// The state that a restore reached.
    pub(crate) fn restored(last: Last) -> Self {
        Control { redo_from: last.lsn, last, newest: last.tx, is_restored: true }
    }

    fn encode(&self, sequence: u64) -> [u8; SLOT_BYTES] {
        let mut slot = [0; SLOT_BYTES];
        let flags = if self.is_restored { RESTORED } else { 0 };
        let Last { tx, lsn, time } = self.last;
        slot[..8].copy_from_slice(MAGIC);
        slot[8..10].copy_from_slice(&VERSION.to_le_bytes());
        slot[10..12].copy_from_slice(&flags.to_le_bytes());
        let fields = [sequence, self.redo_from.get(), tx.get(), lsn.get(), time.micros() as u64];
        for (field, at) in fields.into_iter().zip((16..).step_by(8)) {
            slot[at..at + 8].copy_from_slice(&field.to_le_bytes());
        }
        // As many as there are open transactions: far fewer than 2^32.
        let ahead = self.newest.get().saturating_sub(tx.get()) as u32;
        slot[56..60].copy_from_slice(&ahead.to_le_bytes());
        let crc = crc32fast::hash(&slot[..60]);
        slot[60..].copy_from_slice(&crc.to_le_bytes());
        slot
    }

    /// The slot and its sequence number; `None` if it is damaged or of another version.
    fn decode(slot: &[u8; SLOT_BYTES]) -> Option<(u64, Self)> {
        let flags = u16::from_le_bytes([slot[10], slot[11]]);
        let is_known = slot[..8] == MAGIC[..] && slot[8..10] == VERSION.to_le_bytes() && flags <= RESTORED;
        if !is_known || slot[60..] != crc32fast::hash(&slot[..60]).to_le_bytes() {
            return None;
        }
        let field = |nth: usize| {
            let at = 16 + 8 * nth;
            slot[at..at + 8].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
        };
        let time = Timestamp::from_micros(field(4) as i64);
        let last = Last { tx: TxId::new(field(2)), lsn: Lsn::new(field(3)), time };
        let ahead = u32::from_le_bytes([slot[56], slot[57], slot[58], slot[59]]);
        let newest = TxId::new(field(2).saturating_add(ahead.into()));
        Some((
            field(0),
            Control { redo_from: Lsn::new(field(1)), last, newest, is_restored: flags == RESTORED },
        ))
    }
}

/// The open file.
#[derive(Debug)]
pub(crate) struct ControlFile {
    file: Arc<dyn File>,
    path: PathBuf,
    sequence: u64,
}

impl ControlFile {
    /// Opens the file and reads its newest valid slot. `None` if there is no file.
    pub(crate) fn open(fs: &dyn FileSystem, dir: &Path) -> Result<Option<(Self, Control)>> {
        let path = dir.join(NAME);
        let file = match fs.open(&path, Access::ReadWrite) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(Error::io("open", &path))?,
        };
        let mut newest: Option<(u64, Control)> = None;
        for offset in [0, SLOT_STEP] {
            let mut slot = [0; SLOT_BYTES];
            file.read_up_to_at(&mut slot, offset).map_err(Error::io("read", &path))?;
            newest = newest.into_iter().chain(Control::decode(&slot)).max_by_key(|(sequence, _)| *sequence);
        }
        let (sequence, control) = newest.ok_or_else(|| Error::Control { path: path.clone() })?;
        Ok(Some((ControlFile { file, path, sequence }, control)))
    }

    /// Creates the file under another name, and publishes it when it is durable.
    pub(crate) fn create(fs: &dyn FileSystem, dir: &Path, control: &Control) -> Result<Self> {
        let (temporary, path) = (dir.join(TEMPORARY), dir.join(NAME));
        if fs.exists(&temporary).map_err(Error::io("look for", &temporary))? {
            fs.remove_file(&temporary).map_err(Error::io("remove", &temporary))?;
        }
        let file = fs.create_new(&temporary).map_err(Error::io("create", &temporary))?;
        let mut file = ControlFile { file, path: temporary.clone(), sequence: 0 };
        file.write(control)?;
        fs.publish(&temporary, &path).map_err(Error::io("publish", &path))?;
        fs.sync_dir(dir).map_err(Error::io("sync", dir))?;
        Ok(ControlFile { path, ..file })
    }

    /// Writes the older slot. Durable on return.
    pub(crate) fn write(&mut self, control: &Control) -> Result<()> {
        let sequence = self.sequence + 1;
        let slot = control.encode(sequence);
        self.file
            .write_all_at(&slot, sequence % 2 * SLOT_STEP)
            .and_then(|()| self.file.sync_all())
            .map_err(Error::io("write", &self.path))?;
        self.sequence = sequence;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_a_slot_are_those_of_the_format_page() {
        let last = Last { tx: TxId::new(5), lsn: Lsn::new(6), time: Timestamp::from_micros(-1) };
        let control = Control { redo_from: Lsn::new(7), last, newest: TxId::new(8), is_restored: true };
        let slot = control.encode(9);
        assert_eq!(&slot[..16], b"PITRREF1\x01\0\x01\0\0\0\0\0");
        assert_eq!((slot[16], slot[24], slot[32], slot[40], slot[48], slot[56]), (9, 7, 5, 6, 255, 3));
        assert_eq!(Control::decode(&slot), Some((9, control)));
        for at in 0..SLOT_BYTES {
            let mut damaged = slot;
            damaged[at] ^= 1;
            assert_eq!(Control::decode(&damaged), None, "byte {at}");
        }
    }
}
