//! A scanned folder as the source of a snapshot.

use crate::entry::{Content, Entry, ReadState, TREE, Time, What, below};
use crate::known::Known;
use crate::open::{is_gone, open_as};
use crate::tree;
use pitr_format::FileId;
use pitr_snapshot::{BLOCK_BYTES_MIN, BlockSource, BoxError, EXTENT_BYTES, FileShape, Manifest};
use pitr_tracker::{BlockSize, ChangeSet};
use pitr_vfs::{File as _, OsFile};
use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Block size, bytes, of files with and without blocks.
const BLOCK_BYTES: u32 = BlockSize::DEFAULT.bytes();
const NO_BLOCKS: u32 = 0;
/// Maximum number of files kept open.
const OPEN_MAX: usize = 64;

#[derive(Debug)]
pub(crate) struct FolderSource {
    root: PathBuf,
    entries: Mutex<Vec<Entry>>,
    /// Index of each file among the entries.
    places: HashMap<FileId, usize>,
    known: Known,
    without_blocks: HashSet<FileId>,
    open: Mutex<VecDeque<(FileId, Arc<OsFile>)>>,
    tree_len: u64,
    tree: OnceLock<Vec<u8>>,
}

impl FolderSource {
    pub(crate) fn new(root: &Path, entries: Vec<Entry>, parent: Option<&Manifest>, known: Known) -> Self {
        let places = entries.iter().enumerate().filter_map(|(at, entry)| Some((entry.content()?.file, at)));
        let contents = entries.iter().filter_map(Entry::content);
        let without_blocks =
            contents.filter(|content| !has_blocks(content, parent)).map(|content| content.file);
        FolderSource {
            root: root.to_owned(),
            places: places.collect(),
            known,
            without_blocks: without_blocks.collect(),
            open: Mutex::default(),
            // Fixed: read states that change later do not change the tree's length.
            tree_len: tree::encode(root.as_os_str().as_bytes(), &entries).len() as u64,
            tree: OnceLock::new(),
            entries: Mutex::new(entries),
        }
    }

    /// Bytes of the tree.
    pub(crate) fn tree_len(&self) -> u64 {
        self.tree_len
    }

    /// Files that were read and have changed since they were listed.
    pub(crate) fn changed(&self) -> Vec<PathBuf> {
        let entries = self.entries();
        let read = entries.iter().filter_map(|entry| Some((entry, entry.content()?)));
        let changed = read.filter(|(entry, content)| {
            let is_read = content.state == ReadState::Whole && !self.known.unchanged.contains(&content.file);
            let meta = || std::fs::symlink_metadata(below(&self.root, &entry.path));
            is_read && !meta().is_ok_and(|meta| is_as_scanned(entry, content, &meta))
        });
        changed.map(|(entry, _)| below(&self.root, &entry.path)).collect()
    }

    /// The entries, with the read states of the files.
    pub(crate) fn into_entries(self) -> Vec<Entry> {
        self.entries.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the listed file; never a file that has replaced it.
    fn open(&self, file: FileId, inode: u64, path: &Path) -> io::Result<Arc<OsFile>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, found)) = open.iter().find(|(number, _)| *number == file) {
            return Ok(Arc::clone(found));
        }
        let found = Arc::new(OsFile::from(open_as(path, inode)?));
        open.push_back((file, Arc::clone(&found)));
        if open.len() > OPEN_MAX {
            open.pop_front();
        }
        Ok(found)
    }

    /// Opens the file by another of its names, in case one of them has vanished.
    fn open_by_another_name(&self, file: FileId, place: usize, inode: u64) -> Option<Arc<OsFile>> {
        let entries = self.entries();
        let first = entries[place].path.clone();
        let is_one = |entry: &&Entry| matches!(&entry.what, What::HardLink(to) if *to == first);
        let others: Vec<PathBuf> =
            entries.iter().filter(is_one).map(|entry| below(&self.root, &entry.path)).collect();
        drop(entries);
        others.iter().find_map(|path| self.open(file, inode, path).ok())
    }

    fn note(&self, place: usize, state: ReadState) {
        if let What::File(content) = &mut self.entries()[place].what {
            // A file that was once missing stays out of the snapshot, even if it is found again.
            if content.state != ReadState::Gone {
                content.state = state;
            }
        }
    }
}

/// True if a file is stored in blocks. The length of a database or a disk image is a multiple of
/// its block size, or the file has holes. Other files have such a length only by chance. A file
/// keeps the choice of the parent, because the other choice would store all of it again.
fn has_blocks(content: &Content, parent: Option<&Manifest>) -> bool {
    if content.len <= EXTENT_BYTES || !content.holes.is_empty() {
        return true; // one extent, or a file with holes
    }
    let before = parent.and_then(|parent| parent.file(content.file)).map(|entry| &entry.shape);
    match before.filter(|shape| shape.len > EXTENT_BYTES) {
        Some(shape) => shape.block_bytes != NO_BLOCKS,
        None => content.len.is_multiple_of(BLOCK_BYTES_MIN.into()),
    }
}

fn is_as_scanned(entry: &Entry, content: &Content, meta: &Metadata) -> bool {
    let changed = Time { seconds: meta.ctime(), nanos: meta.ctime_nsec() as u32 }; // below 10^9
    let modified = Time { seconds: meta.mtime(), nanos: meta.mtime_nsec() as u32 };
    (meta.ino(), meta.len(), changed, modified)
        == (content.inode, content.len, content.changed, entry.modified)
}

impl BlockSource for FolderSource {
    fn files(&self) -> Vec<FileShape> {
        let shape = |file: FileId, len| {
            let block_bytes = if self.without_blocks.contains(&file) { NO_BLOCKS } else { BLOCK_BYTES };
            FileShape { file, name: file.to_string(), len, block_bytes }
        };
        let entries = self.entries();
        let files = entries.iter().filter_map(Entry::content).map(|content| shape(content.file, content.len));
        files.chain([shape(TREE, self.tree_len)]).collect()
    }

    fn read_at(&self, file: FileId, offset: u64, buf: &mut [u8]) -> Result<(), BoxError> {
        if file == TREE {
            // All other files have been read by now.
            let tree =
                self.tree.get_or_init(|| tree::encode(self.root.as_os_str().as_bytes(), &self.entries()));
            buf.copy_from_slice(&tree[offset as usize..][..buf.len()]);
            return Ok(());
        }
        let place = *self.places.get(&file).ok_or("a file that was not listed")?;
        let (path, inode, in_hole) = {
            let entries = self.entries();
            let end = offset + buf.len() as u64;
            let content = entries[place].content().ok_or("a file that was not listed")?;
            let in_hole = content.holes.iter().any(|(from, to)| *from <= offset && end <= *to);
            (below(&self.root, &entries[place].path), content.inode, in_hole)
        };
        if in_hole {
            buf.fill(0);
            return Ok(());
        }
        let opened = match self.open(file, inode, &path) {
            Err(e) if is_gone(&e) => match self.open_by_another_name(file, place, inode) {
                Some(found) => found,
                None => {
                    self.note(place, ReadState::Gone);
                    buf.fill(0);
                    return Ok(());
                }
            },
            other => other.map_err(|e| format!("{}: {e}", path.display()))?,
        };
        let read = opened.read_once_at(buf, offset).map_err(|e| format!("{}: {e}", path.display()))?;
        if read < buf.len() {
            self.note(place, ReadState::Cut);
            buf[read..].fill(0);
        }
        Ok(())
    }

    fn changes(&self, file: FileId) -> Option<&ChangeSet> {
        self.known.changes(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::scan;
    use std::fs;

    struct Lab {
        dir: tempfile::TempDir,
    }

    impl Lab {
        fn new() -> Lab {
            let lab = Lab { dir: tempfile::tempdir().unwrap() };
            fs::write(lab.at("file"), [7; 10_000]).unwrap();
            lab
        }

        fn at(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        /// The bytes that a snapshot reads of the file, and the read state, if `harm` happens after
        /// the listing.
        fn read(&self, harm: impl FnOnce(&Path)) -> (Vec<u8>, ReadState, Vec<PathBuf>) {
            let scanned = scan(self.dir.path(), &HashMap::new(), None).unwrap();
            let source = FolderSource::new(self.dir.path(), scanned.entries, None, Known::default());
            harm(&self.at("file"));
            let shape = source.files().remove(0);
            let mut bytes = vec![1; shape.len as usize];
            source.read_at(shape.file, 0, &mut bytes).unwrap();
            let changed = source.changed();
            let state = source.into_entries().iter().find_map(|entry| entry.content().map(|c| c.state));
            (bytes, state.unwrap(), changed)
        }
    }

    #[test]
    fn changes_to_a_file_while_it_is_read_are_noticed() {
        let zeros = vec![0; 10_000];
        let (bytes, state, changed) = Lab::new().read(|_| {});
        assert!(bytes == [7; 10_000] && state == ReadState::Whole && changed.is_empty());
        let (bytes, state, _) = Lab::new().read(|path| fs::remove_file(path).unwrap());
        assert!(bytes == zeros && state == ReadState::Gone);
        // Replaced by another file, as an editor does on saving.
        let (bytes, state, _) = Lab::new().read(|path| {
            fs::write(path.with_extension("new"), [8; 20_000]).unwrap();
            fs::rename(path.with_extension("new"), path).unwrap();
        });
        assert!(bytes == zeros && state == ReadState::Gone);
        // Replaced by a link.
        let (bytes, state, _) = Lab::new().read(|path| {
            fs::remove_file(path).unwrap();
            std::os::unix::fs::symlink("/etc/hostname", path).unwrap();
        });
        assert!(bytes == zeros && state == ReadState::Gone);
        let (bytes, state, _) = Lab::new().read(|path| {
            fs::File::options().write(true).open(path).unwrap().set_len(100).unwrap();
        });
        assert!(bytes[..100] == [7; 100] && bytes[100..] == zeros[100..] && state == ReadState::Cut);
        // A file replaces the folder of the file.
        let lab = Lab::new();
        fs::create_dir(lab.at("a")).unwrap();
        fs::rename(lab.at("file"), lab.at("a/file")).unwrap();
        let (bytes, state, _) = lab.read(|_| {
            fs::remove_dir_all(lab.at("a")).unwrap();
            fs::write(lab.at("a"), b"file").unwrap();
        });
        assert!(bytes == zeros && state == ReadState::Gone);
        // Replaced by a socket.
        let (bytes, state, _) = Lab::new().read(|path| {
            fs::remove_file(path).unwrap();
            std::os::unix::net::UnixListener::bind(path).unwrap();
        });
        assert!(bytes == zeros && state == ReadState::Gone);
        // One of the file's two names is removed.
        let lab = Lab::new();
        fs::hard_link(lab.at("file"), lab.at("other name")).unwrap();
        let (bytes, state, _) = lab.read(|path| fs::remove_file(path).unwrap());
        assert!(bytes == [7; 10_000] && state == ReadState::Whole);
        let lab = Lab::new();
        let (_, state, changed) = lab.read(|path| fs::write(path, [8; 20_000]).unwrap());
        assert!(state == ReadState::Whole && changed == [lab.at("file")]);
    }
}
