//! Access rights of the files that pitr creates and restores.
//!
//! # Rules
//! - Files and folders are created for their owner alone, whatever the umask (FAILURES 58).
//! - A folder with rights for its group or others grants them read and write access to the files
//!   created in it. So `chmod` of its folder shares a repository. A folder with the sticky bit,
//!   such as `/tmp`, belongs to everybody and grants nothing.
//! - The rights of a group are granted only to that group. If the file's group can't be set to it,
//!   the group that the file has gets no more than the rights of others.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, fchown};
use std::path::Path;

/// Mode of a new file.
pub(crate) const FILE_MODE: u32 = 0o600;
/// Mode of a new folder.
pub(crate) const FOLDER_MODE: u32 = 0o700;
const STICKY: u32 = 0o1000;
const READ_WRITE: u32 = 0o066;
const PERMISSIONS: u32 = 0o777;
const SPECIAL: u32 = 0o7000;

/// True for an error of a user without the right, or of a mount that is read-only.
#[must_use]
pub fn is_denied(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

/// Owner, group and permissions of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Number of the owner.
    pub uid: u32,
    /// Number of the group.
    pub gid: u32,
    /// The nine permission bits.
    pub mode: u32,
}

impl Attributes {
    pub(crate) fn of(meta: &Metadata) -> Self {
        Attributes { uid: meta.uid(), gid: meta.gid(), mode: meta.mode() & PERMISSIONS }
    }

    /// Applies the attributes to a file of this process. Returns false if the file keeps its owner,
    /// because only root may change it.
    pub(crate) fn apply_to(self, path: &Path) -> io::Result<bool> {
        let meta = fs::metadata(path)?;
        let before = Attributes::of(&meta);
        let (owner, group) = ((before.uid != self.uid).then_some(self.uid), Some(self.gid));
        let has_owner = try_chown(|| chown(path, owner, group))?;
        // A process that is a member of the group may still set the group.
        let has_group = has_owner || before.gid == self.gid || try_chown(|| chown(path, None, group))?;
        let mode = if has_group { self.mode } else { without_group(self.mode) };
        // A folder keeps its set-group-ID bit.
        let special = if meta.is_dir() { meta.mode() & SPECIAL } else { 0 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode & PERMISSIONS | special))?;
        Ok(has_owner)
    }
}

/// Returns true if the owner was changed, false if this process may not change it.
fn try_chown(chown: impl FnOnce() -> io::Result<()>) -> io::Result<bool> {
    match chown() {
        Ok(()) => Ok(true),
        // Only root may change the owner, and only to users of its user namespace.
        Err(e) if matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput) => {
            Ok(false)
        }
        Err(e) => Err(e),
    }
}

/// Limits the group's rights to those of others.
fn without_group(mode: u32) -> u32 {
    mode & !0o070 | (mode & 0o070 & (mode & 0o007) << 3)
}

/// Grants access to a new file or folder as its folder does.
pub(crate) fn inherit_access(created: &File, folder: &Path) -> io::Result<()> {
    let folder = fs::metadata(folder)?;
    if folder.mode() & 0o077 == 0 || folder.mode() & STICKY != 0 {
        return Ok(());
    }
    let meta = created.metadata()?;
    let bits = folder.mode() & if meta.is_dir() { 0o077 } else { READ_WRITE };
    let has_group = meta.gid() == folder.gid() || try_chown(|| fchown(created, None, Some(folder.gid())))?;
    let bits = if has_group { bits } else { without_group(bits) };
    // A folder keeps its set-group-ID bit.
    created.set_permissions(fs::Permissions::from_mode(meta.mode() & 0o7700 | bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_group_gets_the_rights_of_others() {
        let rows = [(0o640, 0o600), (0o664, 0o644), (0o604, 0o604), (0o666, 0o666), (0o770, 0o700)];
        for (mode, without) in rows {
            assert_eq!(without_group(mode), without, "{mode:o}");
        }
    }
}
