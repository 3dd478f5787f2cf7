//! Everything about a file but its bytes.

use pitr_format::FileId;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Number of the file that holds the tree: the last one, so that it is read after all others.
pub(crate) const TREE: FileId = FileId::new(u32::MAX);

/// An entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its path below the folder: parts with `/` in between, any bytes; empty for the folder
    /// itself.
    pub(crate) path: Vec<u8>,
    pub(crate) what: What,
    /// The lower twelve bits: permissions, set-user-id and so on.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) modified: Time,
}

impl Entry {
    /// The content of a regular file.
    pub(crate) fn content(&self) -> Option<&Content> {
        match &self.what {
            What::File(content) => Some(content),
            _ => None,
        }
    }
}

/// The kind of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    Folder,
    File(Content),
    /// The link's target, byte for byte.
    Symlink(Vec<u8>),
    /// Another name of the file at this path. That file comes before it.
    HardLink(Vec<u8>),
}

/// A regular file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Content {
    /// Its number in the snapshot.
    pub(crate) file: FileId,
    pub(crate) len: u64,
    /// With length and times, evidence that the file is unchanged.
    pub(crate) inode: u64,
    pub(crate) changed: Time,
    /// Parts without storage: begin and end, ascending, apart.
    pub(crate) holes: Vec<(u64, u64)>,
    pub(crate) state: ReadState,
}

/// What happened to a file while it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ReadState {
    /// It was read.
    Whole = 0,
    /// It vanished or was replaced: the snapshot doesn't have it.
    Gone = 1,
    /// It became shorter: the rest is zeros.
    Cut = 2,
}

/// Seconds and nanoseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Time {
    pub(crate) seconds: i64,
    pub(crate) nanos: u32,
}

/// The path of an entry below a folder. Entries were checked not to leave it.
pub(crate) fn below(folder: &Path, path: &[u8]) -> std::path::PathBuf {
    if path.is_empty() { folder.to_owned() } else { folder.join(OsStr::from_bytes(path)) }
}
