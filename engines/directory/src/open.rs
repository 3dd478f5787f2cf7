//! Opening files of a folder that others may change.

use rustix::fs::OFlags;
use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Opens a file. Follows no symbolic link at the end of the path, and does not wait if the file is
/// a pipe without a writer.
pub(crate) fn open_itself(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    File::options().read(true).custom_flags(flags).open(path)
}

/// Opens the regular file with this inode. Returns an error for which [`is_gone`] is true if
/// another file has its path.
pub(crate) fn open_as(path: &Path, inode: u64) -> io::Result<File> {
    let found = open_itself(path)?;
    let meta = found.metadata()?;
    match meta.is_file() && meta.ino() == inode {
        true => Ok(found),
        false => Err(io::ErrorKind::NotFound.into()),
    }
}

/// True if the error means that the file is no longer at its path.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    use rustix::io::Errno;
    // The path now leads to a symbolic link or a socket.
    let other = [Errno::LOOP, Errno::NXIO].map(|errno| Some(errno.raw_os_error()));
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        || other.contains(&error.raw_os_error())
}
