//! Opens only regular files (FAILURES 59).
//!
//! Opening a named pipe blocks until another process opens its other end. A device may never end,
//! and opening one may have side effects. So every path that a user gives is opened here.

use rustix::fs::OFlags;
use std::fmt;
use std::fs::{self, File, FileType, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// The kind of an entry that is not a regular file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum NotAFile {
    /// A folder.
    Folder,
    /// A named pipe.
    Pipe,
    /// A socket.
    Socket,
    /// A device.
    Device,
    /// An entry of another kind.
    Other,
}

impl NotAFile {
    /// The kind of the entry, or `None` for a regular file.
    #[must_use]
    pub fn of(kind: FileType) -> Option<Self> {
        Some(match kind {
            kind if kind.is_file() => return None,
            kind if kind.is_dir() => NotAFile::Folder,
            kind if kind.is_fifo() => NotAFile::Pipe,
            kind if kind.is_socket() => NotAFile::Socket,
            kind if kind.is_char_device() || kind.is_block_device() => NotAFile::Device,
            _ => NotAFile::Other,
        })
    }
}

impl fmt::Display for NotAFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NotAFile::Folder => "a folder, not a regular file",
            NotAFile::Pipe => "a named pipe, not a regular file",
            NotAFile::Socket => "a socket, not a regular file",
            NotAFile::Device => "a device, not a regular file",
            NotAFile::Other => "not a regular file",
        })
    }
}

impl std::error::Error for NotAFile {}

impl From<NotAFile> for io::Error {
    fn from(found: NotAFile) -> Self {
        let kind = match found {
            NotAFile::Folder => io::ErrorKind::IsADirectory,
            _ => io::ErrorKind::InvalidInput,
        };
        io::Error::new(kind, found)
    }
}

/// Opens a regular file for reading. Never blocks.
///
/// # Errors
/// [`NotAFile`] if the path leads to anything else; errors of the system.
pub fn open_file(path: &Path) -> io::Result<File> {
    open_regular(path, OpenOptions::new().read(true))
}

/// Reads a regular file of at most `most` bytes.
///
/// # Errors
/// Like [`open_file`]; [`io::ErrorKind::FileTooLarge`], before it allocates more memory.
pub fn read_file(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // The file's length is not used: it may grow, and some files report none.
    open_file(path)?.take(most as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > most { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

/// Returns an error if the path leads to anything but a regular file. A missing file is not an
/// error.
///
/// # Errors
/// [`NotAFile`]; errors of the system.
pub fn check_regular(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(about) => NotAFile::of(about.file_type()).map_or(Ok(()), |found| Err(found.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Opens a regular file with `options`, which may create it.
pub(crate) fn open_regular(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    // Checked before the open, because opening a device may have side effects, and after it,
    // because the path may have changed.
    check_regular(path)?;
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = options.custom_flags(flags.bits() as i32).open(path)?;
    match NotAFile::of(file.metadata()?.file_type()) {
        None => Ok(file),
        Some(found) => Err(found.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Access, FileSystem, OsFs};
    use rustix::fs::{CWD, FileType as Kind, Mode, mknodat};

    fn found(error: io::Error) -> Option<NotAFile> {
        error.get_ref()?.downcast_ref::<NotAFile>().copied()
    }

    #[test]
    fn only_regular_files_are_opened_and_no_call_blocks() {
        // FAILURES 59
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        mknodat(CWD, at("pipe"), Kind::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        std::os::unix::fs::symlink(at("pipe"), at("link")).unwrap();
        std::os::unix::fs::symlink(at("loop"), at("loop")).unwrap();
        fs::write(at("file"), b"12345").unwrap();
        let cases = [
            (at("pipe"), NotAFile::Pipe),
            (at("link"), NotAFile::Pipe),
            (at("socket"), NotAFile::Socket),
            (dir.path().to_owned(), NotAFile::Folder),
            ("/dev/zero".into(), NotAFile::Device),
        ];
        for (path, kind) in &cases {
            for access in [Access::Read, Access::ReadWrite] {
                assert_eq!(found(OsFs.open(path, access).unwrap_err()), Some(*kind), "{path:?}");
            }
            assert_eq!(found(OsFs.lock(path).map(drop).unwrap_err()), Some(*kind), "{path:?}");
            assert_eq!(found(read_file(path, 10).unwrap_err()), Some(*kind), "{path:?}");
        }
        assert!(OsFs.sync_dir(&at("pipe")).is_err());
        assert!(open_file(&at("loop")).is_err() && check_regular(&at("loop")).is_err());
        assert_eq!(open_file(&at("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(check_regular(&at("none")).is_ok() && check_regular(&at("file")).is_ok());
        assert_eq!(read_file(&at("file"), 5).unwrap(), b"12345");
        assert_eq!(read_file(&at("file"), 4).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }
}
