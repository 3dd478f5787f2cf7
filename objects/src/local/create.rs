//! Creating a repository's folder, and its permissions.

use crate::{Error, Result};
use pitr_vfs::{FileSystem, OsFs};
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

/// Creates a folder and those above it, durably. `files` are the permissions of files created in it; by default only their owner has
/// access.
///
/// An existing empty folder of this user is made private: it will hold nothing but the repository. A folder that holds other files, or
/// a repository, keeps its permissions unless `files` are given.
pub(crate) fn create_folder(path: &Path, files: Option<u32>) -> Result<()> {
    let failed = |source| Error::Folder { path: path.to_owned(), source };
    let missing: Vec<&Path> = path.ancestors().take_while(|folder| !exists(folder)).collect();
    let mode = folder_mode(files.unwrap_or(0o600));
    if missing.is_empty() {
        let is_repository = path.join(crate::layout::REPOSITORY).exists();
        match files {
            Some(_) if !is_repository => set_mode(path, mode).map_err(failed)?,
            // If it can't be changed, `readers` reports it.
            None if is_empty(path).map_err(failed)? => {
                set_mode(path, mode).or_else(not_ours).map_err(failed)?
            }
            _ => {}
        }
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
    missing.iter().try_for_each(|folder| set_mode(folder, mode)).map_err(failed)?;
    // A new folder's entry is in the folder above it.
    missing.into_iter().filter_map(Path::parent).try_for_each(|above| match above.as_os_str().is_empty() {
        true => sync(Path::new(".")),
        false => sync(above),
    })
}

/// The mode of a folder whose files have the mode `files`: everyone who may read may enter. Files get the folder's group.
fn folder_mode(files: u32) -> u32 {
    let enter = (files & 0o444) >> 2;
    let group = if files & 0o070 != 0 { 0o2000 } else { 0 };
    0o700 | files & 0o777 | enter | group
}

fn set_mode(folder: &Path, mode: u32) -> io::Result<()> {
    if fs::metadata(folder)?.mode() & 0o7777 == mode {
        return Ok(());
    }
    fs::set_permissions(folder, Permissions::from_mode(mode))
}

fn not_ours(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::PermissionDenied { Ok(()) } else { Err(error) }
}

fn is_empty(folder: &Path) -> io::Result<bool> {
    Ok(fs::read_dir(folder)?.next().is_none())
}

/// Who may read a repository besides its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Readers {
    /// The members of its folder's group.
    Group,
    /// Every user of this machine.
    Everyone,
}

/// Who may enter a folder besides its owner, and so read what is put into it.
pub(crate) fn readers(folder: &Path) -> Result<Option<Readers>> {
    let meta = fs::metadata(folder).map_err(|source| Error::Folder { path: folder.to_owned(), source })?;
    Ok(match meta.mode() {
        mode if mode & 0o005 != 0 => Some(Readers::Everyone),
        mode if mode & 0o050 != 0 => Some(Readers::Group),
        _ => None,
    })
}

fn exists(folder: &Path) -> bool {
    folder.as_os_str().is_empty() || folder.exists()
}

fn sync(path: &Path) -> Result<()> {
    OsFs.sync_dir(path).map_err(|source| Error::Folder { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Objects;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_repository_is_its_owners_or_shared_as_its_folder_is() {
        // FAILURES 58
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let modes = |name: &str| {
            let root = at(name);
            Objects::local(&root).unwrap().put_new("a/b", &b"x"[..]).unwrap();
            let of = [root.clone(), root.join("a"), root.join("a/b")].map(|path| mode(&path) & 0o777);
            (of, readers(&root).unwrap())
        };
        create_folder(&at("above/new"), None).unwrap();
        assert_eq!(modes("above/new"), ([0o700, 0o700, 0o600], None));
        assert_eq!(mode(&at("above")), 0o700);
        create_folder(&at("shared"), Some(0o640)).unwrap();
        assert_eq!(modes("shared"), ([0o750, 0o750, 0o640], Some(Readers::Group)));
        assert_eq!(mode(&at("shared")) & 0o2000, 0o2000, "files get the folder's group");
        create_folder(&at("open"), Some(0o644)).unwrap();
        assert_eq!(modes("open"), ([0o755, 0o755, 0o644], Some(Readers::Everyone)));
        // Existing folders: an empty one, one with files, and one that gets other permissions.
        let make = |name: &str| {
            fs::create_dir(at(name)).unwrap();
            fs::set_permissions(at(name), Permissions::from_mode(0o755)).unwrap();
        };
        ["empty", "used", "given"].into_iter().for_each(make);
        fs::write(at("used/other"), b"mine").unwrap();
        create_folder(&at("empty"), None).unwrap();
        create_folder(&at("used"), None).unwrap();
        create_folder(&at("given"), Some(0o660)).unwrap();
        assert_eq!(modes("empty"), ([0o700, 0o700, 0o600], None));
        assert_eq!(modes("used"), ([0o755, 0o755, 0o644], Some(Readers::Everyone)));
        assert_eq!(modes("given"), ([0o770, 0o770, 0o660], Some(Readers::Group)));
    }
}
