//! The operations on a disk, in order.

use super::disk::{Disk, Inode};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A machine's run: the disk at its start, and everything that took effect since.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    /// The disk at the start, all of it durable.
    pub base: Disk,
    /// The ops that took effect, in order.
    pub ops: Vec<Op>,
}

/// One operation that took effect.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Op {
    /// Bytes were written.
    Write {
        /// The file.
        file: Inode,
        /// Offset, bytes.
        offset: u64,
        /// The bytes.
        bytes: Arc<[u8]>,
    },
    /// A file was truncated or extended.
    SetLen {
        /// The file.
        file: Inode,
        /// New length of the file, bytes.
        len: u64,
    },
    /// A file got its first name.
    Create {
        /// The file.
        file: Inode,
        /// The name.
        path: PathBuf,
    },
    /// A file's name was replaced by another one.
    Publish {
        /// The file.
        file: Inode,
        /// The old name.
        from: PathBuf,
        /// The new name.
        to: PathBuf,
    },
    /// A name was removed.
    Remove {
        /// The name.
        path: PathBuf,
    },
    /// A folder was created; durable at once.
    CreateDir {
        /// The folder.
        path: PathBuf,
    },
    /// A folder was created. Durable once its parent is synced.
    MakeDir {
        /// The folder.
        path: PathBuf,
    },
    /// A folder was renamed.
    PublishDir {
        /// The old name.
        from: PathBuf,
        /// The new name.
        to: PathBuf,
    },
    /// A folder was removed with everything in it.
    RemoveDir {
        /// The folder.
        path: PathBuf,
    },
    /// A sync ended. It covers what took effect before it began.
    Sync {
        /// The file or folder that was synced.
        what: Synced,
        /// Number of ops that had taken effect when the sync began.
        began: usize,
        /// False if the sync failed.
        worked: bool,
    },
    /// The test was told that this is durable.
    Ack(u64),
}

/// The object of a sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Synced {
    /// The bytes and the length of a file.
    File(Inode),
    /// The names in a folder.
    Dir(PathBuf),
}

impl Op {
    /// True if a successful sync of `what` makes this op durable.
    pub(super) fn belongs_to(&self, what: &Synced) -> bool {
        match (self, what) {
            (Op::Write { file, .. } | Op::SetLen { file, .. }, Synced::File(synced)) => file == synced,
            (
                Op::Create { path, .. }
                | Op::Publish { to: path, .. }
                | Op::Remove { path }
                | Op::MakeDir { path }
                | Op::PublishDir { to: path, .. }
                | Op::RemoveDir { path },
                Synced::Dir(dir),
            ) => path.parent() == Some(dir),
            _ => false,
        }
    }

    /// The folder whose name no longer exists once this op is durable.
    pub(super) fn ends_folder(&self) -> Option<&Path> {
        match self {
            Op::PublishDir { from, .. } => Some(from),
            Op::RemoveDir { path } => Some(path),
            _ => None,
        }
    }

    /// True if the op changes a name in a folder that no longer exists.
    pub(super) fn is_in(&self, folder: &Path) -> bool {
        let path = match self {
            Op::Create { path, .. }
            | Op::Publish { to: path, .. }
            | Op::Remove { path }
            | Op::MakeDir { path }
            | Op::PublishDir { to: path, .. }
            | Op::RemoveDir { path } => path,
            Op::Write { .. } | Op::SetLen { .. } | Op::CreateDir { .. } | Op::Sync { .. } | Op::Ack(_) => {
                return false;
            }
        };
        path != folder && path.starts_with(folder)
    }

    /// True if the op changes the disk and needs a sync to be durable.
    pub(super) fn waits_for_sync(&self) -> bool {
        !matches!(self, Op::CreateDir { .. } | Op::Sync { .. } | Op::Ack(_))
    }
}
