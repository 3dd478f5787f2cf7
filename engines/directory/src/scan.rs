//! Listing a folder and everything in it.

use crate::entry::{Content, Entry, ReadState, TREE, Time, What, below};
use crate::open::{is_gone, open_as, open_itself};
use crate::{Error, Result};
use pitr_format::FileId;
use rustix::fs::SeekFrom;
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The content of a folder.
#[derive(Debug)]
pub(crate) struct Scanned {
    /// The folder itself first, then its entries by name. Each folder comes before its content.
    pub(crate) entries: Vec<Entry>,
    /// Entries that are neither file, folder nor link; and the repository.
    pub(crate) skipped: Vec<PathBuf>,
}

/// Lists a folder. A `known` file keeps its number. `leave_out` is skipped.
pub(crate) fn scan(
    root: &Path,
    known: &HashMap<Vec<u8>, Entry>,
    leave_out: Option<&Path>,
) -> Result<Scanned> {
    let top = std::fs::metadata(root).map_err(Error::io("look at", root))?;
    if !top.is_dir() {
        return Err(Error::NotAFolder { path: root.to_owned() });
    }
    let next = known
        .values()
        .filter_map(Entry::content)
        .map(|content| content.file.get())
        .max()
        .map_or(0, |last| last + 1); // below TREE
    let scanned = Scanned { entries: vec![entry(Vec::new(), What::Folder, &top)], skipped: Vec::new() };
    sync_fs(root)?;
    let (linked, synced) = (HashMap::new(), HashSet::from([top.dev()]));
    let mut scanner = Scanner { root, known, leave_out, next, linked, synced, scanned };
    scanner.folder(&[])?;
    scanner.scanned.entries.shrink_to_fit(); // kept until the end
    Ok(scanner.scanned)
}

struct Scanner<'a> {
    root: &'a Path,
    known: &'a HashMap<Vec<u8>, Entry>,
    leave_out: Option<&'a Path>,
    next: u32,
    /// First path of each file with several names, by device and inode.
    linked: HashMap<(u64, u64), Vec<u8>>,
    /// Devices of the file systems that were already synced.
    synced: HashSet<u64>,
    scanned: Scanned,
}

/// Syncs the file system of a folder. A write through a memory mapping updates the file's times
/// only when the page is written back. After the sync, the next write to a page updates the times
/// again.
fn sync_fs(folder: &Path) -> Result<()> {
    let opened = match open_itself(folder) {
        Err(e) if is_gone(&e) => return Ok(()),
        other => other.map_err(Error::io("open", folder))?,
    };
    rustix::fs::syncfs(&opened).map_err(|e| Error::io("sync", folder)(e.into()))
}

impl Scanner<'_> {
    fn folder(&mut self, top: &[u8]) -> Result<()> {
        // No recursion: folders may be nested to any depth.
        let mut waiting = vec![top.to_vec()];
        while let Some(path) = waiting.pop() {
            let mut folders = Vec::new();
            for name in self.names(&path)? {
                let mut inner = path.clone();
                if !inner.is_empty() {
                    inner.push(b'/');
                }
                inner.extend_from_slice(name.as_bytes());
                if self.take(&inner)? {
                    folders.push(inner);
                }
            }
            waiting.extend(folders.into_iter().rev());
        }
        Ok(())
    }

    /// The names in a folder, sorted; empty if the folder has vanished.
    fn names(&self, path: &[u8]) -> Result<Vec<OsString>> {
        let folder = below(self.root, path);
        let listed = std::fs::read_dir(&folder)
            .and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>());
        match listed {
            Ok(mut names) => {
                names.sort();
                names.dedup(); // a file that is renamed during the listing may occur twice
                Ok(names)
            }
            Err(e) if is_gone(&e) && !path.is_empty() => Ok(Vec::new()),
            Err(e) => Err(Error::io("list", &folder)(e)),
        }
    }

    /// Adds the entry of a path. True if it is a folder to list.
    fn take(&mut self, path: &[u8]) -> Result<bool> {
        let at = below(self.root, path);
        let meta = match std::fs::symlink_metadata(&at) {
            Ok(meta) => meta,
            Err(e) if is_gone(&e) => return Ok(false), // the entry vanished after the listing
            Err(e) => return Err(Error::io("look at", &at)(e)),
        };
        let kind = meta.file_type();
        let what = if kind.is_dir() {
            if !self.synced.contains(&meta.dev()) {
                sync_fs(&at)?;
                self.synced.insert(meta.dev());
                return self.take(path);
            }
            if self.leave_out.is_some_and(|out| at.canonicalize().is_ok_and(|at| at == out)) {
                self.scanned.skipped.push(at);
                return Ok(false);
            }
            What::Folder
        } else if kind.is_symlink() {
            match std::fs::read_link(&at) {
                Ok(target) => What::Symlink(target.into_os_string().into_vec()),
                // The path may have another kind of file by now.
                Err(e) if is_gone(&e) || e.kind() == io::ErrorKind::InvalidInput => return Ok(false),
                Err(e) => return Err(Error::io("read", &at)(e)),
            }
        } else if kind.is_file() {
            match self.file(path, &at, &meta)? {
                Some(what) => what,
                None => return Ok(false),
            }
        } else {
            debug_assert!(
                kind.is_fifo() || kind.is_socket() || kind.is_block_device() || kind.is_char_device()
            );
            self.scanned.skipped.push(at);
            return Ok(false);
        };
        let is_folder = what == What::Folder;
        self.scanned.entries.push(entry(path.to_vec(), what, &meta));
        Ok(is_folder)
    }

    fn file(&mut self, path: &[u8], at: &Path, meta: &Metadata) -> Result<Option<What>> {
        let which = (meta.dev(), meta.ino());
        let has_others = meta.nlink() > 1;
        if let Some(first) = self.linked.get(&which).filter(|_| has_others) {
            return Ok(Some(What::HardLink(first.clone())));
        }
        let file = match self.known.get(path).and_then(Entry::content) {
            Some(known) => known.file,
            None => {
                let file = FileId::new(self.next);
                self.next = self.next.checked_add(1).ok_or(Error::TooMany)?;
                file
            }
        };
        if file >= TREE {
            return Err(Error::TooMany);
        }
        let is_sparse = meta.blocks().saturating_mul(512) < meta.len();
        let found = || open_as(at, meta.ino()).and_then(|file| holes(&file, meta.len()));
        let holes = match is_sparse.then(found) {
            None => Vec::new(),
            Some(Ok(holes)) => holes,
            Some(Err(e)) if is_gone(&e) => return Ok(None),
            Some(Err(e)) => return Err(Error::io("read", at)(e)),
        };
        if has_others {
            self.linked.insert(which, path.to_vec()); // the path has an entry now
        }
        let changed = Time { seconds: meta.ctime(), nanos: meta.ctime_nsec() as u32 }; // below 10^9
        let (len, inode, state) = (meta.len(), meta.ino(), ReadState::Whole);
        Ok(Some(What::File(Content { file, len, inode, changed, holes, state })))
    }
}

fn entry(path: Vec<u8>, what: What, meta: &Metadata) -> Entry {
    let modified = Time { seconds: meta.mtime(), nanos: meta.mtime_nsec() as u32 }; // below 10^9
    Entry { path, what, mode: meta.mode() & 0o7777, uid: meta.uid(), gid: meta.gid(), modified }
}

/// The holes of a file: its parts without storage.
fn holes(file: &File, len: u64) -> io::Result<Vec<(u64, u64)>> {
    let seek = |to| match rustix::fs::seek(file, to) {
        Ok(at) => Ok(Some(at)),
        Err(rustix::io::Errno::NXIO) => Ok(None), // none after this offset
        Err(e) => Err(io::Error::from(e)),
    };
    let (mut holes, mut at) = (Vec::new(), 0);
    while at < len {
        let Some(hole) = seek(SeekFrom::Hole(at))?.filter(|hole| *hole < len) else { break };
        let end = seek(SeekFrom::Data(hole))?.unwrap_or(len).min(len);
        holes.push((hole, end));
        at = end;
    }
    Ok(holes)
}
