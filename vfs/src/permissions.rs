//! Who may read what pitr creates, and what a restored file may be read by.
//!
//! # Rules
//! - Files and folders are created for their owner alone, whatever the umask (FAILURES 58).
//! - A folder that lets its group or others in lets them read and write the files that are created in it, too. So a repository is
//!   shared by `chmod` of its folder. A folder with the sticky bit, as `/tmp`, belongs to everybody and shares nothing.
//! - Rights of a group go with the group. Where a file can't be given the group, its own group gets what everybody gets.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, fchown};
use std::path::Path;

/// Mode of a file as it is created.
pub(crate) const FILE_MODE: u32 = 0o600;
/// Mode of a folder as it is created.
pub(crate) const FOLDER_MODE: u32 = 0o700;
const STICKY: u32 = 0o1000;
const READ_WRITE: u32 = 0o066;
const PERMISSIONS: u32 = 0o777;
const SPECIAL: u32 = 0o7000;

/// Owner, group and permissions of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// The nine permission bits.
    pub mode: u32,
}

impl Attributes {
    pub(crate) fn of(meta: &Metadata) -> Self {
        Attributes { uid: meta.uid(), gid: meta.gid(), mode: meta.mode() & PERMISSIONS }
    }

    /// Gives them to a file of ours. False if it stays ours because only root gives files away.
    pub(crate) fn give_to(self, path: &Path) -> io::Result<bool> {
        let meta = fs::metadata(path)?;
        let before = Attributes::of(&meta);
        let (owner, group) = ((before.uid != self.uid).then_some(self.uid), Some(self.gid));
        let is_given = give(|| chown(path, owner, group))?;
        // A member of the group may still give it the group.
        let has_group = is_given || before.gid == self.gid || give(|| chown(path, None, group))?;
        let mode = if has_group { self.mode } else { without_group(self.mode) };
        // The set-group-ID bit of a folder stays.
        let special = if meta.is_dir() { meta.mode() & SPECIAL } else { 0 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode & PERMISSIONS | special))?;
        Ok(is_given)
    }
}

/// True if the owner was given, false if we may not.
fn give(chown: impl FnOnce() -> io::Result<()>) -> io::Result<bool> {
    match chown() {
        Ok(()) => Ok(true),
        // Only root gives files away, and only to those whom a user namespace knows.
        Err(e) if matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput) => {
            Ok(false)
        }
        Err(e) => Err(e),
    }
}

/// The group gets no more than others.
fn without_group(mode: u32) -> u32 {
    mode & !0o070 | (mode & 0o070 & (mode & 0o007) << 3)
}

/// Lets those into a file or folder that was just created whom its folder lets in.
pub(crate) fn follow_folder(created: &File, folder: &Path) -> io::Result<()> {
    let folder = fs::metadata(folder)?;
    if folder.mode() & 0o077 == 0 || folder.mode() & STICKY != 0 {
        return Ok(());
    }
    let meta = created.metadata()?;
    let bits = folder.mode() & if meta.is_dir() { 0o077 } else { READ_WRITE };
    let has_group = meta.gid() == folder.gid() || give(|| fchown(created, None, Some(folder.gid())))?;
    let bits = if has_group { bits } else { without_group(bits) };
    // The set-group-ID bit of a folder stays.
    created.set_permissions(fs::Permissions::from_mode(meta.mode() & 0o7700 | bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_is_not_the_files_gets_what_others_get() {
        let rows = [(0o640, 0o600), (0o664, 0o644), (0o604, 0o604), (0o666, 0o666), (0o770, 0o700)];
        for (mode, without) in rows {
            assert_eq!(without_group(mode), without, "{mode:o}");
        }
    }
}
