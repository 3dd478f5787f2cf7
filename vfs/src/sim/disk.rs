//! The content of a disk at one moment. Copies are cheap: they share everything that is not
//! changed.

use super::content::Content;
use super::trace::Op;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Number of a simulated file. It stays the same when the file's name changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Inode(pub(super) u64);

/// Folders, names and files.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    dirs: Arc<BTreeSet<PathBuf>>,
    names: Arc<BTreeMap<PathBuf, Inode>>,
    files: BTreeMap<Inode, Arc<Content>>,
}

impl Disk {
    /// The names of all files, sorted.
    pub fn names(&self) -> impl Iterator<Item = &Path> {
        self.names.keys().map(PathBuf::as_path)
    }

    /// The content of a file.
    #[must_use]
    pub fn read(&self, path: &Path) -> Option<Vec<u8>> {
        let content = self.content(self.inode(path)?)?;
        let mut bytes = vec![0; usize::try_from(content.len()).ok()?];
        content.read(&mut bytes, 0);
        Some(bytes)
    }

    /// Damages bytes of a file: the change appears in no trace. Returns false if there is no such
    /// file.
    pub fn damage(&mut self, path: &Path, offset: u64, bytes: &[u8]) -> bool {
        let Some(file) = self.inode(path) else { return false };
        self.content_mut(file).write(bytes, offset);
        true
    }

    /// Truncates or extends a file; the change appears in no trace. Returns false if there is no
    /// such file.
    pub fn damage_len(&mut self, path: &Path, len: u64) -> bool {
        let Some(file) = self.inode(path) else { return false };
        self.content_mut(file).set_len(len);
        true
    }

    /// Removes a file's name; the change appears in no trace. Returns false if there is no such
    /// file.
    pub fn lose(&mut self, path: &Path) -> bool {
        Arc::make_mut(&mut self.names).remove(path).is_some()
    }

    /// The file of this name, if its folder exists too.
    pub(super) fn inode(&self, path: &Path) -> Option<Inode> {
        let inode = self.names.get(path).copied()?;
        path.parent().is_none_or(|dir| self.has_dir(dir)).then_some(inode)
    }

    /// True if the folder and its parents exist.
    pub(super) fn has_dir(&self, path: &Path) -> bool {
        path.ancestors().all(|dir| is_root(dir) || self.dirs.contains(dir))
    }

    /// The folders, sorted.
    pub(super) fn dirs(&self) -> impl Iterator<Item = &Path> {
        self.dirs.iter().map(PathBuf::as_path)
    }

    pub(super) fn content(&self, file: Inode) -> Option<&Content> {
        self.files.get(&file).map(Arc::as_ref)
    }

    fn content_mut(&mut self, file: Inode) -> &mut Content {
        Arc::make_mut(self.files.entry(file).or_default())
    }

    /// An unused inode.
    pub(super) fn free_inode(&self) -> Inode {
        Inode(self.files.last_key_value().map_or(1, |(last, _)| last.0 + 1))
    }

    /// Applies an op.
    pub(super) fn apply(&mut self, op: &Op) {
        match op {
            Op::Write { file, offset, bytes } => self.content_mut(*file).write(bytes, *offset),
            Op::SetLen { file, len } => self.content_mut(*file).set_len(*len),
            Op::Create { file, path } => {
                self.content_mut(*file);
                Arc::make_mut(&mut self.names).insert(path.clone(), *file);
            }
            Op::Publish { file, from, to } => {
                self.content_mut(*file);
                let names = Arc::make_mut(&mut self.names);
                names.remove(from);
                names.insert(to.clone(), *file);
            }
            Op::Remove { path } => {
                Arc::make_mut(&mut self.names).remove(path);
            }
            Op::CreateDir { path } | Op::MakeDir { path } => {
                Arc::make_mut(&mut self.dirs).insert(path.clone());
            }
            Op::PublishDir { from, to } => self.move_dir(from, to),
            Op::RemoveDir { path } => {
                Arc::make_mut(&mut self.dirs).retain(|dir| !dir.starts_with(path));
                Arc::make_mut(&mut self.names).retain(|name, _| !name.starts_with(path));
            }
            Op::Sync { .. } | Op::Ack(_) => {}
        }
    }

    /// Drops names in folders that do not exist.
    pub(super) fn drop_unreachable(&mut self) {
        let is_orphan = |path: &Path| path.parent().is_some_and(|dir| !self.has_dir(dir));
        if self.names().chain(self.dirs()).any(is_orphan) {
            let dirs: BTreeSet<PathBuf> =
                self.dirs().filter(|dir| self.has_dir(dir)).map(PathBuf::from).collect();
            self.dirs = Arc::new(dirs);
            let names = self.names.iter().filter(|(name, _)| self.inode(name).is_some());
            self.names = Arc::new(names.map(|(name, file)| (name.clone(), *file)).collect());
        }
    }

    /// Moves a folder with everything in it. If the folder's creation was lost, the rename brings
    /// it back under its new name.
    fn move_dir(&mut self, from: &Path, to: &Path) {
        let moved = |path: &Path| path.strip_prefix(from).map_or(path.to_owned(), |below| to.join(below));
        let mut dirs: BTreeSet<PathBuf> = self.dirs.iter().map(|dir| moved(dir)).collect();
        dirs.insert(moved(from));
        self.dirs = Arc::new(dirs);
        self.names = Arc::new(self.names.iter().map(|(name, file)| (moved(name), *file)).collect());
    }

    /// Applies only some sectors of a write: those for which `keep` returns true.
    pub(super) fn apply_torn(&mut self, op: &Op, mut keep: impl FnMut() -> bool) {
        let Op::Write { file, offset, bytes } = op else { return self.apply(op) };
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let in_sector = super::SECTOR_BYTES - (at % super::SECTOR_BYTES as u64) as usize;
            let end = bytes.len().min(done + in_sector);
            if keep() {
                self.content_mut(*file).write(&bytes[done..end], at);
            }
            done = end;
        }
    }
}

fn is_root(path: &Path) -> bool {
    path.as_os_str().is_empty() || path.parent().is_none()
}
