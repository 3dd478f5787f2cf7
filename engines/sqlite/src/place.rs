//! Where a database is: the path that the user gave, and the file that SQLite opens for it.
//!
//! SQLite follows every symbolic link of a path, also of folders in it, before it derives `-wal`
//! and `-shm` (`unixFullPathname` in os_unix.c). So everything that pitr derives comes from the
//! resolved path too: the `-wal` file that it reads, the state folder, the source's name (FAILURES
//! 51).

use std::io::{Error as IoError, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use pitr_engine::Located;

use crate::error::{Error, Result};

/// Follows all links of `path`, which may be relative to the working folder. `-wal` and `-shm` are
/// beside the file that it leads to.
///
/// # Errors
/// [`Error::Open`] if there is no file, a link leads nowhere or to itself, or a folder can't be
/// entered.
pub fn resolve(path: &Path) -> Result<Located> {
    let failed = |source| Error::Open { path: path.to_owned(), source };
    let given = std::path::absolute(path).map_err(failed)?;
    let resolved = given.canonicalize().map_err(failed)?;
    Ok(Located { given, resolved })
}

/// A path without a file yet.
///
/// # Errors
/// [`Error::Open`] if there is no working folder.
pub fn absent(path: &Path) -> Result<Located> {
    let given = std::path::absolute(path).map_err(|source| Error::Open { path: path.to_owned(), source })?;
    Ok(Located { resolved: given.clone(), given })
}

/// Checks that the given path still leads to the same file name.
///
/// # Errors
/// [`Error::LinkMoved`] if a link in the path now leads elsewhere; [`Error::Replaced`] if the path
/// leads nowhere; [`Error::Open`] if it can't be followed.
pub fn check(place: &Located) -> Result<()> {
    let path = place.given.clone();
    match path.canonicalize() {
        Ok(now) if now == place.resolved => Ok(()),
        Ok(now) => Err(Error::LinkMoved { path, was: place.resolved.clone(), now }),
        Err(e) if leads_nowhere(&e) => Err(Error::Replaced { path }),
        Err(source) => Err(Error::Open { path, source }),
    }
}

/// Refuses a file that has another name, which other programs may use.
///
/// # Errors
/// [`Error::HardLinked`]; [`Error::Open`].
pub fn refuse_hard_links(place: &Located) -> Result<()> {
    let path = &place.resolved;
    let metadata = path.metadata().map_err(|source| Error::Open { path: path.clone(), source })?;
    match metadata.nlink() {
        0 | 1 => Ok(()),
        names => Err(Error::HardLinked { path: path.clone(), names }),
    }
}

/// True if a path currently leads to no file.
fn leads_nowhere(error: &IoError) -> bool {
    const ELOOP: i32 = rustix::io::Errno::LOOP.raw_os_error();
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
        || error.raw_os_error() == Some(ELOOP)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_of_files_and_folders_are_followed() {
        // FAILURES 51
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("releases/1")).unwrap();
        fs::write(root.join("releases/1/app.db"), "1").unwrap();
        symlink("releases/1", root.join("current")).unwrap();
        symlink("current/app.db", root.join("link.db")).unwrap();
        let real = root.join("releases/1/app.db");
        for given in ["current/app.db", "link.db", "releases/../releases/./1/app.db"] {
            let place = resolve(&root.join(given)).unwrap();
            assert_eq!(place.resolved, real, "{given}");
            check(&place).unwrap();
        }
        symlink("loop.db", root.join("loop.db")).unwrap();
        assert!(matches!(resolve(&root.join("loop.db")), Err(Error::Open { .. })));
        assert!(matches!(resolve(&root.join("absent.db")), Err(Error::Open { .. })));
    }

    #[test]
    fn a_relative_path_is_resolved_from_the_working_folder() {
        let place = resolve(Path::new("Cargo.toml")).unwrap();
        assert!(place.given.is_absolute() && place.resolved.is_absolute());
        assert_eq!(place.resolved.file_name().unwrap(), "Cargo.toml");
    }

    #[test]
    fn a_moved_link_in_the_path_is_detected() {
        // FAILURES 51
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for release in ["1", "2"] {
            fs::create_dir(root.join(release)).unwrap();
            fs::write(root.join(release).join("app.db"), release).unwrap();
        }
        let link = root.join("current");
        let point_at = |to: &str| {
            let _ = fs::remove_file(&link);
            symlink(to, &link).unwrap();
        };
        point_at("1");
        let place = resolve(&link.join("app.db")).unwrap();
        check(&place).unwrap();
        point_at("2");
        assert!(matches!(check(&place), Err(Error::LinkMoved { now, .. }) if now == root.join("2/app.db")));
        point_at("current");
        assert!(matches!(check(&place), Err(Error::Replaced { .. })));
        fs::remove_file(&link).unwrap();
        assert!(matches!(check(&place), Err(Error::Replaced { .. })));
        point_at("1");
        check(&place).unwrap();
    }

    #[test]
    fn a_file_with_two_names_is_refused() {
        // FAILURES 51
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one.db"), dir.path().join("two.db"));
        fs::write(&one, "").unwrap();
        refuse_hard_links(&resolve(&one).unwrap()).unwrap();
        fs::hard_link(&one, &two).unwrap();
        let refused = refuse_hard_links(&resolve(&two).unwrap());
        assert!(matches!(refused, Err(Error::HardLinked { names: 2, .. })));
    }
}
