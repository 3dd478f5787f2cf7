//! The folder of a rehearsal.
//!
//! ```text
//! pitr-sandbox-<16 digits>        the folder, removed at the end
//! pitr-sandbox-<16 digits>.lock   locked while the rehearsal runs
//! ```
//! The lock is taken before the folder is created. So a folder whose lock is free was left by a
//! process that has died, and the next rehearsal removes it.

use crate::{Error, Result};
use pitr_vfs::{Env, FileSystem, Lock};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

const PREFIX: &str = "pitr-sandbox-";
const LOCK: &str = ".lock";

pub(super) struct Sandbox<'a> {
    fs: &'a dyn FileSystem,
    path: PathBuf,
    lock: Option<Lock>,
}

impl<'a> Sandbox<'a> {
    /// Creates a sandbox that only this user can enter, and removes those of dead processes.
    pub(super) fn create(fs: &'a dyn FileSystem, env: &Env, folder: &Path) -> Result<Self> {
        remove_leftovers(fs, folder).map_err(Error::io("read", folder))?;
        let number = u64::from_le_bytes(env.random_bytes().map_err(Error::io("create", folder))?);
        let path = folder.join(format!("{PREFIX}{number:016x}"));
        let lock = fs.lock(&lock_of(&path)).map_err(Error::io("create a sandbox in", folder))?;
        let sandbox = Sandbox { fs, path, lock };
        let created = fs.create_dir(&sandbox.path).and_then(|()| fs.set_folder_mode(&sandbox.path, 0o700));
        created.map_err(Error::io("create", &sandbox.path))?;
        Ok(sandbox)
    }

    /// Path of the copy.
    pub(super) fn copy(&self) -> PathBuf {
        self.path.join("copy")
    }
}

impl Drop for Sandbox<'_> {
    fn drop(&mut self) {
        // The lock's file goes last: a folder is never without it.
        let removed = self.fs.remove_all(&self.path).and_then(|()| self.fs.remove_file(&lock_of(&self.path)));
        if let Err(error) = removed {
            let path = self.path.display();
            tracing::warn!("{path}: the sandbox can't be removed: {error}; the next rehearsal tries again");
        }
        self.lock = None;
    }
}

fn lock_of(sandbox: &Path) -> PathBuf {
    let mut path = OsString::from(sandbox);
    path.push(LOCK);
    path.into()
}

fn remove_leftovers(fs: &dyn FileSystem, folder: &Path) -> std::io::Result<()> {
    for name in fs.list(folder)? {
        let path = folder.join(&name);
        let is_sandbox = name.to_str().is_some_and(|name| name.starts_with(PREFIX) && !name.ends_with(LOCK));
        // Folders of other users can't be locked.
        if is_sandbox && let Ok(Some(_lock)) = fs.lock(&lock_of(&path)) {
            fs.remove_all(&path)?;
            fs.remove_file(&lock_of(&path))?;
        }
    }
    Ok(())
}
