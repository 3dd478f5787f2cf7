//! Bringing a folder back.

use crate::backup::read_tree;
use crate::entry::{Content, Entry, ReadState, Time, What, below};
use crate::output::{OutputFolder, check_room};
use crate::source::{content, open_itself};
use crate::{Error, Result};
use pitr_dedup::ChunkStore;
use pitr_format::Timestamp;
use pitr_snapshot::{Snapshot, SnapshotReader};
use pitr_vfs::{Buffer, File as _, FileSystem, OsFile};
use rayon::prelude::*;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};
use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Zeros are left out of a file with holes in pieces of so many bytes.
const PIECE_BYTES: usize = 4096;
/// Runs a file as its owner, or as its group.
const SET_ID: u32 = 0o6000;

/// How a folder is restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RestoreOptions {
    /// Move aside what stands at the output instead of refusing. Nothing is deleted.
    pub force: bool,
    /// Take from what stands at the output whatever is still as the snapshot has it, as its hash tells and nothing else;
    /// what stood there is moved aside.
    pub delta: bool,
}

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Restored {
    /// Regular files.
    pub files: u64,
    /// Folders, the output included.
    pub folders: u64,
    /// Symbolic and hard links.
    pub links: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// Of these, bytes that stood at the output already.
    pub reused: u64,
    /// Files that had vanished when the snapshot was taken: they are not there. Links to them are not either.
    pub missing: Vec<PathBuf>,
    /// Files that had become shorter while they were read: the rest of them is zeros.
    pub cut: Vec<PathBuf>,
    /// Files, folders and links whose owner could not be restored, because only root gives files away.
    pub kept_owners: u64,
    /// What stood at the output, under its new name.
    pub moved_aside: Option<PathBuf>,
}

/// The room that a restore takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes of the files, without their holes.
    pub needed: u64,
    /// Bytes that can be stored in the folder that the output is to be in, if that is known.
    pub free: Option<u64>,
}

/// The room that a restore of a snapshot takes, and what there is. Reads the snapshot's tree; writes nothing.
///
/// # Errors
/// [`Error::NoRoom`], [`Error::NoFolder`], [`Error::Output`]; [`Error::Tree`]; those of the repository.
pub fn room(fs: &dyn FileSystem, store: &ChunkStore, snapshot: &Snapshot, output: &Path) -> Result<Room> {
    let reader = SnapshotReader::open(store.clone(), snapshot.manifest(store)?);
    let needed = needed(&read_tree(&reader)?.entries);
    Ok(Room { needed, free: check_room(fs, output, needed)? })
}

/// Bytes of the files, without their holes.
fn needed(entries: &[Entry]) -> u64 {
    let stored = |content: &Content| {
        let holes = content.holes.iter().map(|(from, to)| to.saturating_sub(*from)).sum();
        content.len.saturating_sub(holes)
    };
    entries.iter().filter_map(content).map(stored).sum()
}

/// Builds the folder of a snapshot at `output`; `fs` is asked how much room there is. What is moved aside gets a name with `now` in
/// it. `progress` is told bytes done and all, from several threads.
///
/// # Errors
/// [`Error::Exists`], [`Error::Locked`], [`Error::Output`], [`Error::NoFolder`], [`Error::NoRoom`], [`Error::Io`];
/// [`Error::Tree`]; those of the repository.
pub fn restore(
    fs: &dyn FileSystem,
    store: &ChunkStore,
    snapshot: &Snapshot,
    output: &Path,
    options: RestoreOptions,
    now: Timestamp,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Restored> {
    let reader = SnapshotReader::open(store.clone(), snapshot.manifest(store)?);
    let entries = read_tree(&reader)?.entries;
    let force = options.force || options.delta;
    let old = options.delta.then_some(output);
    let needed = needed(&entries);
    let target = output;
    let output = OutputFolder::begin(target, force)?;
    check_room(fs, target, needed)?;
    let (done, reused) = (AtomicU64::new(0), AtomicU64::new(0));
    let builder = Builder { reader: &reader, folder: output.folder(), old, done, reused, progress };
    let mut restored = builder.build(&entries)?;
    restored.moved_aside = output.publish(force, now)?;
    Ok(restored)
}

struct Builder<'a> {
    reader: &'a SnapshotReader,
    folder: &'a Path,
    /// What stands at the output and may be taken from.
    old: Option<&'a Path>,
    done: AtomicU64,
    reused: AtomicU64,
    progress: &'a (dyn Fn(u64, u64) + Sync),
}

impl Builder<'_> {
    fn build(&self, entries: &[Entry]) -> Result<Restored> {
        let there = |content: &&Content| content.state != ReadState::Gone;
        let total: u64 = entries.iter().filter_map(content).filter(there).map(|content| content.len).sum();
        let mut restored = Restored { bytes: total, ..Restored::default() };
        for entry in entries.iter().filter(|entry| entry.what == What::Folder) {
            if !entry.path.is_empty() {
                self.at(entry, "make", |path| std::fs::create_dir(path))?;
            }
            restored.folders += 1;
        }
        let files: Vec<(&Entry, &Content)> =
            entries.iter().filter_map(|entry| Some((entry, content(entry).filter(there)?))).collect();
        restored.files = files.len() as u64;
        // Small files side by side, large ones one after the other by all threads.
        let (mut small, mut large) = (Vec::new(), Vec::new());
        for (entry, content) in files {
            let is_small = self.reader.extents(content.file)? <= 1;
            if is_small { &mut small } else { &mut large }.push((entry, content));
        }
        small.into_par_iter().try_for_each(|(entry, content)| self.small(entry, content, total))?;
        large.into_iter().try_for_each(|(entry, content)| self.large(entry, content, total))?;
        for entry in entries {
            restored.links += u64::from(self.link(entry)?);
        }
        let folder = File::open(self.folder).map_err(Error::io("open", self.folder))?;
        for entry in entries.iter().filter(|entry| !matches!(entry.what, What::HardLink(_))).rev() {
            // A folder behind what it holds, since that changes its time.
            if content(entry).is_none_or(|content| content.state != ReadState::Gone) {
                let is_given = self.at(entry, "set owner, mode and times of", |path| dress(path, entry))?;
                restored.kept_owners += u64::from(!is_given);
            }
        }
        let in_state = |state| {
            let found = entries.iter().filter(move |entry| content(entry).is_some_and(|c| c.state == state));
            found.map(|entry| below(Path::new(""), &entry.path)).collect()
        };
        (restored.missing, restored.cut) = (in_state(ReadState::Gone), in_state(ReadState::Cut));
        restored.reused = self.reused.load(Ordering::Relaxed);
        rustix::fs::syncfs(&folder).map_err(|e| Error::io("sync", self.folder)(e.into()))?;
        Ok(restored)
    }

    fn at<T>(&self, entry: &Entry, op: &'static str, act: impl FnOnce(&Path) -> io::Result<T>) -> Result<T> {
        let path = below(self.folder, &entry.path);
        act(&path).map_err(Error::io(op, &path))
    }

    fn create(&self, entry: &Entry, content: &Content) -> Result<File> {
        self.at(entry, "create", |path| {
            let file = File::create_new(path)?;
            file.set_len(content.len)?;
            Ok(file)
        })
    }

    fn small(&self, entry: &Entry, content: &Content, total: u64) -> Result<()> {
        let file = self.create(entry, content)?;
        if content.len > 0 {
            let put = |bytes: &[u8]| {
                self.at(entry, "write", |_| write(content, 0, bytes, |part, at| file.write_all_at(part, at)))
            };
            let mut bytes = Buffer::default();
            match self.take(self.old_file(entry).as_ref(), content, 0, &mut bytes)? {
                true => put(&bytes),
                false => put(&self.reader.read_extent(content.file, 0)?),
            }?;
        }
        self.tell(content.len, total);
        Ok(())
    }

    fn large(&self, entry: &Entry, content: &Content, total: u64) -> Result<()> {
        let file = OsFile::from(self.create(entry, content)?);
        let put = |extent: u64, bytes: &[u8]| {
            let once = |part: &[u8], at| file.write_once_at(part, at);
            let start = self.reader.span(content.file, extent)?.start;
            self.at(entry, "write", |_| write(content, start, bytes, once))?;
            self.tell(bytes.len() as u64, total);
            Ok::<(), Error>(())
        };
        let mut wanted: Vec<u64> = (0..self.reader.extents(content.file)?).collect();
        if let Some(old) = self.old_file(entry) {
            let taken = wanted.par_iter().map_init(Buffer::default, |bytes, extent| {
                let is_taken = self.take(Some(&old), content, *extent, bytes)?;
                if is_taken {
                    put(*extent, bytes)?;
                }
                Ok(is_taken)
            });
            let mut taken = taken.collect::<Result<Vec<bool>>>()?.into_iter();
            wanted.retain(|_| taken.next() == Some(false));
        }
        self.reader.read_extents(content.file, &wanted, put)
    }

    /// What stands in the place of a file at the output.
    fn old_file(&self, entry: &Entry) -> Option<OsFile> {
        let path = below(self.old?, &entry.path);
        // What can't be read is of no use.
        open_itself(&path).ok().map(OsFile::from)
    }

    /// An extent as the old file has it, and true, if its hash is the right one: its times and its length say nothing
    /// (FAILURES 33).
    fn take(&self, old: Option<&OsFile>, content: &Content, extent: u64, bytes: &mut Buffer) -> Result<bool> {
        let Some(old) = old else { return Ok(false) };
        let span = self.reader.span(content.file, extent)?;
        bytes.set_len((span.end - span.start) as usize); // at most a mebibyte
        let is_there = old.read_once_at(bytes, span.start).is_ok_and(|read| read == bytes.len());
        if !is_there || !self.reader.is_extent(content.file, extent, bytes)? {
            return Ok(false);
        }
        self.reused.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(true)
    }

    fn tell(&self, bytes: u64, total: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        (self.progress)(done, total);
    }

    /// True if the entry is a link and was made.
    fn link(&self, entry: &Entry) -> Result<bool> {
        match &entry.what {
            What::Symlink(target) => {
                self.at(entry, "make", |path| std::os::unix::fs::symlink(OsStr::from_bytes(target), path))?;
            }
            What::HardLink(target) => {
                let target = below(self.folder, target);
                match self.at(entry, "link", |path| std::fs::hard_link(&target, path)) {
                    // The file was gone when its snapshot was taken.
                    Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                        return Ok(false);
                    }
                    other => other?,
                }
            }
            What::Folder | What::File(_) => return Ok(false),
        }
        Ok(true)
    }
}

/// Writes a part of a file that is zeros so far, and leaves its holes.
fn write(
    content: &Content,
    offset: u64,
    bytes: &[u8],
    put: impl Fn(&[u8], u64) -> io::Result<()>,
) -> io::Result<()> {
    let end = offset + bytes.len() as u64;
    if !content.holes.iter().any(|(from, to)| *from < end && offset < *to) {
        return put(bytes, offset);
    }
    let mut at = offset;
    for piece in bytes.chunks(PIECE_BYTES) {
        if piece.iter().any(|byte| *byte != 0) {
            put(piece, at)?;
        }
        at += piece.len() as u64;
    }
    Ok(())
}

/// Gives a path its owner, if we may, its mode and its times. False if it stays ours: then nobody runs it as us.
fn dress(path: &Path, entry: &Entry) -> io::Result<bool> {
    let meta = std::fs::symlink_metadata(path)?;
    let mut is_given = true;
    if (meta.uid(), meta.gid()) != (entry.uid, entry.gid) {
        match std::os::unix::fs::lchown(path, Some(entry.uid), Some(entry.gid)) {
            // Only root gives files away, and only to those whom a user namespace knows.
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
