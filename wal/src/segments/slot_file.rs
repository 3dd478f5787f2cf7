//! The file that makes slots durable. [`pitr_format::slots`] has its layout.
//!
//! The first slot creates it: under a temporary name, synced, then published. Later changes
//! overwrite it in place, one copy after the other with a sync after each. So a change needs no new
//! space: slots can be dropped on a full disk. A table that can't be decoded is an error, since
//! then the removable segments are unknown.

use crate::{Error, Result};
use pitr_format::DecodeError;
use pitr_format::slots::{SLOTS_COPY_BYTES, SlotEntry, SlotTable};
use pitr_vfs::{Access, File, FileSystem};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const NAME: &str = "slots";
/// Temporary name of the file.
pub(crate) const ASIDE_NAME: &str = "slots.new";

/// The slot file, which the first slot creates.
#[derive(Debug)]
pub(crate) struct SlotFile {
    path: PathBuf,
    file: Option<Arc<dyn File>>,
    log_id: [u8; 16],
    /// Generation of the newest table that may be on the disk.
    generation: u64,
}

impl SlotFile {
    /// The slot file of a new log. Removes a file that another log left in the folder.
    pub(crate) fn create(fs: &dyn FileSystem, dir: &Path, log_id: [u8; 16]) -> Result<Self> {
        let path = dir.join(NAME);
        if fs.exists(&path).map_err(Error::io("look for", &path))? {
            fs.remove_file(&path).map_err(Error::io("remove", &path))?;
        }
        Ok(SlotFile { path, file: None, log_id, generation: 0 })
    }

    /// Reads the slots of the log; none if there is no file.
    pub(crate) fn open(fs: &dyn FileSystem, dir: &Path, log_id: [u8; 16]) -> Result<(Self, Vec<SlotEntry>)> {
        let path = dir.join(NAME);
        let file = match fs.open(&path, Access::ReadWrite) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Ok((SlotFile { path, file: None, log_id, generation: 0 }, Vec::new()));
            }
            other => other.map_err(Error::io("open", &path))?,
        };
        let mut copies = vec![0; 2 * SLOTS_COPY_BYTES];
        let read = file.read_up_to_at(&mut copies, 0).map_err(Error::io("read", &path))?;
        let table = newest(&copies[..read]).and_then(|table| match table.log_id == log_id {
            true => Ok(table),
            false => Err(DecodeError::Range { what: "log identity of the slots", value: 0 }),
        });
        let table = table.map_err(|source| Error::SlotFile { path: path.clone(), source })?;
        Ok((SlotFile { path, file: Some(file), log_id, generation: table.generation }, table.slots))
    }

    /// Makes these slots durable. After an error, reopening the log finds either these slots or the
    /// previous ones.
    pub(crate) fn store(&mut self, fs: &dyn FileSystem, slots: Vec<SlotEntry>) -> Result<()> {
        self.generation += 1;
        let copy = SlotTable { generation: self.generation, log_id: self.log_id, slots }.encode();
        let Some(file) = &self.file else { return self.publish(fs, &copy) };
        for offset in [0, SLOTS_COPY_BYTES as u64] {
            let written = file.write_all_at(&copy, offset).and_then(|()| file.sync_data());
            written.map_err(Error::io("write", &self.path))?;
        }
        Ok(())
    }

    fn publish(&mut self, fs: &dyn FileSystem, copy: &[u8]) -> Result<()> {
        let aside = self.path.with_file_name(ASIDE_NAME);
        let dir = self.path.parent().unwrap_or(Path::new(""));
        let file = match fs.create_new(&aside) {
            // An earlier attempt left the file.
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => fs.open(&aside, Access::ReadWrite),
            other => other,
        };
        let file = file.map_err(Error::io("create", &aside))?;
        let written = file
            .write_all_at(copy, 0)
            .and_then(|()| file.write_all_at(copy, SLOTS_COPY_BYTES as u64))
            .and_then(|()| file.sync_all());
        written.map_err(Error::io("write", &aside))?;
        fs.publish(&aside, &self.path).map_err(Error::io("publish", &self.path))?;
        self.file = Some(file);
        fs.sync_dir(dir).map_err(Error::io("sync", dir))
    }
}

/// The newer of the copies that pass their checksum.
fn newest(copies: &[u8]) -> Result<SlotTable, DecodeError> {
    let (first, second) = copies.split_at(copies.len().min(SLOTS_COPY_BYTES));
    match (SlotTable::decode(first), SlotTable::decode(second)) {
        (Ok(first), Ok(second)) if second.generation > first.generation => Ok(second),
        (Ok(table), _) | (Err(_), Ok(table)) => Ok(table),
        (Err(fault), Err(_)) => Err(fault),
    }
}
