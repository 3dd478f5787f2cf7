//! Opening files of a folder that others may change.

use rustix::fs::OFlags;
use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Opens a file. Follows no symbolic link at the end of the path, and never waits for the writer of
/// a pipe.
pub(crate) fn open_itself(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    File::options().read(true).custom_flags(flags).open(path)
}

/// Opens the regular file with this inode; an error that [`is_gone`] if another one has its path.
pub(crate) fn open_as(path: &Path, inode: u64) -> io::Result<File> {
    let found = open_itself(path)?;
    let meta = found.metadata()?;
    match meta.is_file() && meta.ino() == inode {
        true => Ok(found),
        false => Err(io::ErrorKind::NotFound.into()),
    }
}

/// True if the file is no longer at its path, whatever is there or on the way now.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    use rustix::io::Errno;
    // A symbolic link or a socket has its path now.
    let other = [Errno::LOOP, Errno::NXIO].map(|errno| Some(errno.raw_os_error()));
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        || other.contains(&error.raw_os_error())
}
