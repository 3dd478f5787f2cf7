//! All attributes and contents of a folder, read with the standard library.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    kind: Kind,
    mode: u32,
    owner: (u32, u32),
    modified: (i64, i64),
    links: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Folder,
    File(Vec<u8>),
    Symlink(OsString),
}

/// Everything in a folder by path, the folder itself included.
pub(crate) fn seen(root: &Path) -> BTreeMap<Vec<u8>, Seen> {
    let mut out = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(path) = waiting.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let kind = if meta.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            Kind::Folder
        } else if meta.is_symlink() {
            Kind::Symlink(fs::read_link(&path).unwrap().into_os_string())
        } else {
            Kind::File(fs::read(&path).unwrap())
        };
        let seen = Seen {
            links: if kind == Kind::Folder { 0 } else { meta.nlink() },
            kind,
            mode: meta.mode(),
            owner: (meta.uid(), meta.gid()),
            modified: (meta.mtime(), meta.mtime_nsec()),
        };
        out.insert(path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec(), seen);
    }
    out
}
