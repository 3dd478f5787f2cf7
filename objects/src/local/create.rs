//! Creating a repository's folder, and its permissions.

use crate::layout::REPOSITORY;
use pitr_vfs::FileSystem;
use std::io;
use std::path::Path;

/// Creates a folder and those above it, durably. `files` are the permissions of files created in
/// it; by default only their owner has access.
///
/// An existing empty folder of this user is made private: it will hold nothing but the repository.
/// A folder that holds other files, or a repository, keeps its permissions unless `files` are
/// given.
pub(crate) fn create_folder(fs: &dyn FileSystem, path: &Path, files: Option<u32>) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|folder| !exists(fs, folder)).collect();
    let mode = folder_mode(files.unwrap_or(0o600));
    if missing.is_empty() {
        return match files {
            Some(_) if exists(fs, &path.join(REPOSITORY)) => Ok(()),
            Some(_) => fs.set_folder_mode(path, mode),
            // If the mode can't be changed, `readers` reports it.
            None if fs.list(path)?.is_empty() => fs.set_folder_mode(path, mode).or_else(not_ours),
            None => Ok(()),
        };
    }
    fs.create_dir_all(path)?;
    missing.iter().try_for_each(|folder| fs.set_folder_mode(folder, mode))
}

/// The mode of a folder whose files have the mode `files`: everyone who may read may enter. Files
/// get the folder's group.
fn folder_mode(files: u32) -> u32 {
    let enter = (files & 0o444) >> 2;
    let group = if files & 0o070 != 0 { 0o2000 } else { 0 };
    0o700 | files & 0o777 | enter | group
}

fn not_ours(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::PermissionDenied { Ok(()) } else { Err(error) }
}

/// Users besides the owner who may read a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Readers {
    /// The members of its folder's group.
    Group,
    /// Every user of this machine.
    Everyone,
}

/// Users besides the owner who may enter a folder and can therefore read the files in it.
pub(crate) fn readers(fs: &dyn FileSystem, folder: &Path) -> io::Result<Option<Readers>> {
    Ok(match fs.attributes(folder)?.map_or(0, |attributes| attributes.mode) {
        mode if mode & 0o005 != 0 => Some(Readers::Everyone),
        mode if mode & 0o050 != 0 => Some(Readers::Group),
        _ => None,
    })
}

fn exists(fs: &dyn FileSystem, folder: &Path) -> bool {
    folder.as_os_str().is_empty() || fs.exists(folder).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Objects;
    use pitr_vfs::OsFs;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

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
            (of, readers(&OsFs, &root).unwrap())
        };
        create_folder(&OsFs, &at("above/new"), None).unwrap();
        assert_eq!(modes("above/new"), ([0o700, 0o700, 0o600], None));
        assert_eq!(mode(&at("above")), 0o700);
        create_folder(&OsFs, &at("shared"), Some(0o640)).unwrap();
        assert_eq!(modes("shared"), ([0o750, 0o750, 0o640], Some(Readers::Group)));
        assert_eq!(mode(&at("shared")) & 0o2000, 0o2000, "files get the folder's group");
        create_folder(&OsFs, &at("open"), Some(0o644)).unwrap();
        assert_eq!(modes("open"), ([0o755, 0o755, 0o644], Some(Readers::Everyone)));
        // Existing folders: an empty one, one with files, and one with given permissions.
        let make = |name: &str| {
            fs::create_dir(at(name)).unwrap();
            fs::set_permissions(at(name), Permissions::from_mode(0o755)).unwrap();
        };
        ["empty", "used", "given"].into_iter().for_each(make);
        fs::write(at("used/other"), b"mine").unwrap();
        create_folder(&OsFs, &at("empty"), None).unwrap();
        create_folder(&OsFs, &at("used"), None).unwrap();
        create_folder(&OsFs, &at("given"), Some(0o660)).unwrap();
        assert_eq!(modes("empty"), ([0o700, 0o700, 0o600], None));
        assert_eq!(modes("used"), ([0o755, 0o755, 0o644], Some(Readers::Everyone)));
        assert_eq!(modes("given"), ([0o770, 0o770, 0o660], Some(Readers::Group)));
    }
}
