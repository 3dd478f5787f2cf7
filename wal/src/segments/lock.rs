//! The lock of a log's folder.

use super::segment;
use crate::{Error, Result};
use pitr_vfs::{FileSystem, Lock};
use std::fmt;
use std::path::Path;

/// Keeps other processes from opening the log of a folder as long as it lives.
pub(crate) struct DirLock {
    _lock: Lock,
}

impl DirLock {
    /// [`Error::Locked`] if the log is open elsewhere.
    pub(crate) fn take(fs: &dyn FileSystem, dir: &Path) -> Result<Self> {
        let path = dir.join(segment::LOCK_NAME);
        let lock = fs.lock(&path).map_err(Error::io("lock", &path))?;
        lock.map(|lock| DirLock { _lock: lock }).ok_or_else(|| Error::Locked { dir: dir.to_owned() })
    }
}

impl fmt::Debug for DirLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DirLock")
    }
}
