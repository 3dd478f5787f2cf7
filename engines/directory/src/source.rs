//! A scanned folder as the source of a snapshot.

use crate::entry::{Content, Entry, ReadState, What, below};
use crate::scan::TREE;
use crate::tree;
use pitr_format::FileId;
use pitr_snapshot::{BlockSource, BoxError, FileShape};
use rustix::fs::OFlags;
use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

const BLOCK_BYTES: u32 = 4096;
/// Files kept open.
const OPEN_MAX: usize = 64;

#[derive(Debug)]
pub(crate) struct FolderSource {
    root: PathBuf,
    entries: Mutex<Vec<Entry>>,
    /// Place of each file among the entries.
    places: HashMap<FileId, usize>,
    /// Files that are as they were in the parent.
    unchanged: HashSet<FileId>,
    open: Mutex<VecDeque<(FileId, Arc<File>)>>,
    tree_len: u64,
    tree: OnceLock<Vec<u8>>,
}

impl FolderSource {
    pub(crate) fn new(root: &Path, entries: Vec<Entry>, unchanged: HashSet<FileId>) -> Self {
        let places = entries.iter().enumerate().filter_map(|(at, entry)| Some((content(entry)?.file, at)));
        FolderSource {
            root: root.to_owned(),
            places: places.collect(),
            unchanged,
            open: Mutex::default(),
            // What becomes of files meanwhile changes no length.
            tree_len: tree::encode(&entries).len() as u64,
            tree: OnceLock::new(),
            entries: Mutex::new(entries),
        }
    }

    /// The entries, with what became of the files.
    pub(crate) fn into_entries(self) -> Vec<Entry> {
        self.entries.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file, opened as what it was when it was looked at: not through a link that took its place.
    fn open(&self, file: FileId, path: &Path) -> io::Result<Arc<File>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, found)) = open.iter().find(|(number, _)| *number == file) {
            return Ok(Arc::clone(found));
        }
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
        let found = Arc::new(OpenOptions::new().read(true).custom_flags(flags).open(path)?);
        open.push_back((file, Arc::clone(&found)));
        if open.len() > OPEN_MAX {
            open.pop_front();
        }
        Ok(found)
    }

    fn note(&self, place: usize, state: ReadState) {
        if let What::File(content) = &mut self.entries()[place].what {
            content.state = state;
        }
    }
}

pub(crate) fn content(entry: &Entry) -> Option<&Content> {
    match &entry.what {
        What::File(content) => Some(content),
        _ => None,
    }
}

impl BlockSource for FolderSource {
    fn files(&self) -> Vec<FileShape> {
        let shape =
            |file: FileId, len| FileShape { file, name: file.to_string(), len, block_bytes: BLOCK_BYTES };
        let entries = self.entries();
        let files = entries.iter().filter_map(content).map(|content| shape(content.file, content.len));
        files.chain([shape(TREE, self.tree_len)]).collect()
    }

    fn read_at(&self, file: FileId, offset: u64, buf: &mut [u8]) -> Result<(), BoxError> {
        if file == TREE {
            // All files before it have been read.
            let tree = self.tree.get_or_init(|| tree::encode(&self.entries()));
            buf.copy_from_slice(&tree[offset as usize..][..buf.len()]);
            return Ok(());
        }
        let place = *self.places.get(&file).ok_or("a file that was not scanned")?;
        let (path, in_hole) = {
            let entries = self.entries();
            let end = offset + buf.len() as u64;
            let holes = content(&entries[place]).map_or(&[][..], |content| &content.holes);
            let in_hole = holes.iter().any(|(from, to)| *from <= offset && end <= *to);
            (below(&self.root, &entries[place].path), in_hole)
        };
        buf.fill(0);
        if in_hole {
            return Ok(());
        }
        let opened = match self.open(file, &path) {
            // ELOOP: a symbolic link stands there now.
            Err(e) if e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(LOOP) => {
                self.note(place, ReadState::Gone);
                return Ok(());
            }
            other => other.map_err(|e| format!("{}: {e}", path.display()))?,
        };
        let mut done = 0;
        while done < buf.len() {
            match opened.read_at(&mut buf[done..], offset + done as u64) {
                Ok(0) => {
                    self.note(place, ReadState::Cut);
                    break;
                }
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(format!("{}: {e}", path.display()).into()),
            }
        }
        Ok(())
    }

    fn is_unchanged(&self, file: FileId) -> bool {
        self.unchanged.contains(&file)
    }
}

const LOOP: i32 = rustix::io::Errno::LOOP.raw_os_error();
