//! What there is to know of a file besides its bytes.

use pitr_format::FileId;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Something in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its path below the folder: parts with `/` in between, any bytes; empty for the folder itself.
    pub(crate) path: Vec<u8>,
    pub(crate) what: What,
    /// The lower twelve bits: permissions, set-user-id and so on.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) modified: Time,
}

/// Which kind of thing it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    Folder,
    File(Content),
    /// Where it leads, as it is written.
    Symlink(Vec<u8>),
    /// Another name of the file that stands at this path, which comes before.
    HardLink(Vec<u8>),
}

/// A regular file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Content {
    /// Its number in the snapshot.
    pub(crate) file: FileId,
    pub(crate) len: u64,
    /// What tells that it is as it was.
    pub(crate) inode: u64,
    pub(crate) changed: Time,
    /// Parts without storage: begin and end, ascending, apart.
    pub(crate) holes: Vec<(u64, u64)>,
    pub(crate) state: ReadState,
}

/// What became of a file while it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ReadState {
    /// It was read.
    Whole = 0,
    /// It vanished, or could not be read: the snapshot doesn't have it.
    Gone = 1,
    /// It was shorter than before: the rest is zeros.
    Cut = 2,
}

/// Seconds and nanoseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Time {
    pub(crate) seconds: i64,
    pub(crate) nanos: u32,
}

/// The path of an entry below a folder. Entries were checked to lead nowhere else.
pub(crate) fn below(folder: &Path, path: &[u8]) -> std::path::PathBuf {
    if path.is_empty() { folder.to_owned() } else { folder.join(OsStr::from_bytes(path)) }
}
