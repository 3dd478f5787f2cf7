//! Everything about a file except its bytes.

use pitr_format::FileId;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Number of the file that holds the tree. It is the highest, so that the tree is read after all
/// other files.
pub(crate) const TREE: FileId = FileId::new(u32::MAX);

/// An entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Path below the folder: parts with `/` in between, any bytes; empty for the folder itself.
    pub(crate) path: Vec<u8>,
    pub(crate) what: What,
    /// The lower twelve bits: permissions, set-user-id, set-group-id, sticky.
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
    /// Another name of the file at this path. The entry of that file comes first.
    HardLink(Vec<u8>),
}

/// A regular file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Content {
    /// Number of the file in the snapshot.
    pub(crate) file: FileId,
    pub(crate) len: u64,
    /// Evidence, together with length and times, that the file is unchanged.
    pub(crate) inode: u64,
    pub(crate) changed: Time,
    /// Parts without storage, as begin and end. They ascend and do not touch.
    pub(crate) holes: Vec<(u64, u64)>,
    pub(crate) state: ReadState,
}

/// What happened to a file while it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ReadState {
    /// The file was read.
    Whole = 0,
    /// The file vanished or was replaced. The snapshot doesn't have it.
    Gone = 1,
    /// The file became shorter. The missing bytes are zeros.
    Cut = 2,
}

/// Seconds and nanoseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Time {
    pub(crate) seconds: i64,
    pub(crate) nanos: u32,
}

/// The path of an entry below a folder. It can't lead out of the folder: entries were checked.
pub(crate) fn below(folder: &Path, path: &[u8]) -> std::path::PathBuf {
    if path.is_empty() { folder.to_owned() } else { folder.join(OsStr::from_bytes(path)) }
}
