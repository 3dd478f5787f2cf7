//! What a repository in a local folder needs beyond the object store's trait.

use crate::{Error, Result};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// The folder of a repository on this machine.
#[derive(Debug)]
pub(crate) struct LocalFolder {
    root: PathBuf,
}

impl LocalFolder {
    pub(crate) fn new(root: &Path) -> Self {
        LocalFolder { root: root.to_owned() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// True if the object is there.
    pub(crate) fn holds(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }

    /// Syncs an object that is already there, and the folders that lead to it. One that an earlier, failed put of
    /// ours left behind may be visible without being durable (FAILURES 26).
    pub(crate) fn sync(&self, path: &str) -> Result<()> {
        let file = self.root.join(path);
        sync(&file)?;
        let below_root = |folder: &&Path| folder.starts_with(&self.root);
        file.ancestors().skip(1).take_while(below_root).try_for_each(sync)
    }
}

/// Makes a folder and those above it, durably.
pub(crate) fn create_folder(path: &Path) -> Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|folder| !exists(folder)).collect();
    fs::create_dir_all(path).map_err(|source| Error::Folder { path: path.to_owned(), source })?;
    // A new folder's entry is in the folder above it.
    missing.into_iter().filter_map(Path::parent).try_for_each(|above| match above.as_os_str().is_empty() {
        true => sync(Path::new(".")),
        false => sync(above),
    })
}

fn exists(folder: &Path) -> bool {
    folder.as_os_str().is_empty() || folder.exists()
}

fn sync(path: &Path) -> Result<()> {
    let synced: io::Result<()> = File::open(path).and_then(|file| file.sync_all());
    synced.map_err(|source| Error::Folder { path: path.to_owned(), source })
}
