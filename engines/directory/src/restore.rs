//! Restores a folder: the layout of a snapshot's tree, and the links, owners, modes and times that
//! are set after the bytes of the files are written.

use crate::Error;
use crate::entry::{Content, Entry, ReadState, Time, What, below};
use crate::tree::Tree;
use pitr_format::Severity;
use pitr_recovery::{
    Error as RecoveryError, FilePlace, Finished, FolderLayout, Layout, RestoreState, RestoreTarget,
    Unfinished,
};
use pitr_snapshot::SnapshotReader;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};
use std::ffi::OsStr;
use std::fs::Permissions;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// The set-user-ID and set-group-ID bits.
const SET_ID: u32 = 0o6000;

/// The restore target for folders. It sets links, owners, modes and times through the operating
/// system, so it needs [`OsFs`](pitr_vfs::OsFs).
#[derive(Debug, Clone, Copy, Default)]
pub struct FolderTarget;

impl RestoreTarget for FolderTarget {
    fn lay_out(&self, state: &RestoreState<'_>) -> pitr_recovery::Result<Layout> {
        let mut layout = FolderLayout::default();
        for entry in tree(state.base)?.entries {
            let path = below(Path::new(""), &entry.path);
            match entry.what {
                What::Folder if !entry.path.is_empty() => layout.folders.push(path),
                What::File(Content { file, holes, state, .. }) if state != ReadState::Gone => {
                    layout.files.push(FilePlace { file, path, holes: Some(holes) });
                }
                _ => {}
            }
        }
        Ok(Layout::Folder(layout))
    }

    fn finish(&self, unfinished: &Unfinished<'_>) -> pitr_recovery::Result<Finished> {
        let entries = tree(unfinished.base)?.entries;
        entries.iter().try_for_each(|entry| link(unfinished.path, entry))?;
        let mut finished = Finished::default();
        // A folder comes after its entries, because creating them changes the folder's time.
        for entry in entries.iter().rev().filter(|entry| is_dressed(entry)) {
            let path = below(unfinished.path, &entry.path);
            let is_given = dress(&path, entry).map_err(failed("set owner, mode and times of", &path))?;
            finished.kept_owners += u64::from(!is_given);
        }
        let in_state = |state| {
            let found = entries.iter().filter(move |entry| entry.content().is_some_and(|c| c.state == state));
            found.map(|entry| below(Path::new(""), &entry.path))
        };
        finished.incomplete = in_state(ReadState::Gone).chain(in_state(ReadState::Cut)).collect();
        Ok(finished)
    }
}

/// The tree in the snapshot of a state. A folder has no log, so a state without a snapshot can't be
/// restored.
fn tree(base: Option<&SnapshotReader>) -> pitr_recovery::Result<Tree> {
    let base = base.ok_or_else(|| RecoveryError::engine(Severity::Fatal, Error::NoSnapshot))?;
    Tree::read(base).map_err(|error| match error {
        Error::Snapshot(error) => RecoveryError::Snapshot(error),
        other => RecoveryError::engine(Severity::Fatal, other),
    })
}

/// A hard link shares the attributes of its file. A file that the snapshot lacks has none.
fn is_dressed(entry: &Entry) -> bool {
    match &entry.what {
        What::HardLink(_) => false,
        What::File(content) => content.state != ReadState::Gone,
        What::Folder | What::Symlink(_) => true,
    }
}

/// Creates an entry that is a link.
fn link(folder: &Path, entry: &Entry) -> pitr_recovery::Result<()> {
    let path = below(folder, &entry.path);
    match &entry.what {
        What::Symlink(target) => {
            let target = OsStr::from_bytes(target);
            std::os::unix::fs::symlink(target, &path).map_err(failed("create", &path))
        }
        What::HardLink(target) => match std::fs::hard_link(below(folder, target), &path) {
            // The file had vanished when the snapshot was taken.
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(failed("link", &path)),
        },
        What::Folder | What::File(_) => Ok(()),
    }
}

fn failed(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RecoveryError {
    let path = path.to_owned();
    move |source| RecoveryError::Io { op, path, source }
}

/// Sets the owner of a path, if this process may, and its mode and times. Returns false if the
/// owner stays this process's. Then the path gets no set-user-ID or set-group-ID bit, which would
/// run it as that owner.
fn dress(path: &Path, entry: &Entry) -> io::Result<bool> {
    let meta = std::fs::symlink_metadata(path)?;
    let mut is_given = true;
    if (meta.uid(), meta.gid()) != (entry.uid, entry.gid) {
        match std::os::unix::fs::lchown(path, Some(entry.uid), Some(entry.gid)) {
            // Only root can change owners, and only to users of its user namespace.
            Err(e) if matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput) => {
                is_given = false;
            }
            other => other?,
        }
    }
    if !matches!(entry.what, What::Symlink(_)) {
        let mode = if is_given { entry.mode } else { entry.mode & !SET_ID };
        std::fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    let Time { seconds, nanos } = entry.modified;
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos.into() };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(is_given)
}
