//! What an engine says about its restored files: the seam between [`Restorer`](crate::Restorer) and
//! an engine.

use crate::consistency::ConsistencyCheck;
use crate::error::{Error, Result};
use crate::target::Point;
use pitr_archive::{FileChange, Merged};
use pitr_format::{FileId, PartitionId};
use pitr_redo::Redo;
use pitr_snapshot::SnapshotReader;
use pitr_vfs::FileSystem;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::path::{Component, Path, PathBuf};

/// How an engine's files are restored. One value serves any number of restores.
///
/// The restorer writes the bytes of every file. The engine determines the paths of the files, the
/// mark of an unfinished file, and the work at the end.
pub trait RestoreTarget: Debug + Send + Sync {
    /// Lays out the files of a state under the output. Called before anything is written.
    ///
    /// # Errors
    /// [`Error::SeveralFiles`] from an engine of one file; [`Error::engine`] for errors of the
    /// engine's own.
    fn lay_out(&self, state: &RestoreState<'_>) -> Result<Layout>;

    /// Suffixes of files that belong to an output and may not be beside a new one, such as `-wal`.
    fn companions(&self) -> &'static [&'static str] {
        &[]
    }

    /// The mark: the first bytes of each file until everything else is durable, at most 512 bytes.
    /// Every program that opens the engine's files must refuse a file that begins with the mark.
    /// The first 4 KiB of each marked file are held in memory.
    ///
    /// `None` if the temporary name `.pitr-partial` is enough.
    fn mark(&self) -> Option<&'static [u8]> {
        None
    }

    /// True if the engine can apply the logical records of a partition, by [`redo`](Self::redo).
    /// Called before anything is written; a log with records of another partition is refused. As
    /// far as the log tells: objects written by early versions may not list all partitions.
    fn replays(&self, partition: PartitionId) -> bool {
        let _ = partition;
        false
    }

    /// Begins the replay of logical records, if the log has any. Base and images are in the files,
    /// except the first 4 KiB of each marked file, which [`Redo`] must not write. Files may grow.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::engine`]. Then nothing is published.
    fn redo<'a>(&'a self, unfinished: &Unfinished<'a>) -> Result<Option<Box<dyn Redo + 'a>>> {
        let _ = unfinished;
        Ok(None)
    }

    /// The files that these tables need, so that only they are restored. A file that is not named
    /// here is left out, also if the layout has a place for it. Called before anything is written.
    ///
    /// # Errors
    /// [`Error::NoTables`] from an engine whose files can't be restored one by one, as by default;
    /// [`Error::NoSuchTable`]; [`Error::engine`].
    fn files_of(&self, tables: &[String], state: &RestoreState<'_>) -> Result<Vec<FileId>> {
        let _ = (tables, state);
        Err(Error::NoTables)
    }

    /// The engine's own check of a result; `None` if it has none.
    fn consistency(&self) -> Option<&dyn ConsistencyCheck> {
        None
    }

    /// Completes the restore under the temporary name, when everything except the marked first
    /// sectors is written. The restorer makes these changes durable before it removes the marks and
    /// publishes the output.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::engine`]. Then nothing is published.
    fn finish(&self, unfinished: &Unfinished<'_>) -> Result<Finished> {
        let _ = unfinished;
        Ok(Finished::default())
    }
}

/// The target of an engine whose states are one file, with nothing beside it and no mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SingleFile;

impl RestoreTarget for SingleFile {
    fn lay_out(&self, state: &RestoreState<'_>) -> Result<Layout> {
        state.single_file()
    }
}

/// A state that is about to be restored.
#[derive(Debug, Clone, Copy)]
pub struct RestoreState<'a> {
    /// The snapshot that the restore begins with; `None` for the empty base.
    pub base: Option<&'a SnapshotReader>,
    /// The changes by the log, for each file.
    pub changes: &'a BTreeMap<FileId, FileChange>,
    /// The surviving images of the log.
    pub log: &'a Merged,
}

impl RestoreState<'_> {
    /// A block of the state, before anything is written: the newest image of the log, or else the
    /// bytes of the snapshot. `None` past the end of the file. For the few blocks that a layout
    /// depends on: each call reads the repository.
    ///
    /// # Errors
    /// Errors of reading.
    pub fn block(&self, file: FileId, block: u64, block_bytes: u32) -> Result<Option<Vec<u8>>> {
        if let Some(image) = self.log.image(file, block)? {
            return Ok(Some(image));
        }
        let Some(base) = self.base.filter(|base| base.file(file).is_ok()) else { return Ok(None) };
        let (offset, mut bytes) = (block.checked_mul(block_bytes.into()), vec![0; block_bytes as usize]);
        let end = offset.and_then(|offset| offset.checked_add(block_bytes.into()));
        match (offset, end) {
            (Some(offset), Some(end)) if end <= base.file(file)?.len => {
                base.read_at(file, offset, &mut bytes)?;
                Ok(Some(bytes))
            }
            _ => Ok(None),
        }
    }

    /// The files of the snapshot and of the log, ascending.
    #[must_use]
    pub fn files(&self) -> Vec<FileId> {
        let of_base = self.base.map_or(&[][..], |base| base.manifest().files.as_slice());
        let of_base = of_base.iter().map(|entry| entry.shape.file);
        let mut files: Vec<FileId> = of_base.chain(self.changes.keys().copied()).collect();
        files.sort_unstable();
        files.dedup();
        files
    }

    /// The layout of an engine whose states are one file. If a state has no file, the output is an
    /// empty file.
    ///
    /// # Errors
    /// [`Error::SeveralFiles`].
    pub fn single_file(&self) -> Result<Layout> {
        match self.files()[..] {
            [] => Ok(Layout::File(FileId::FIRST)),
            [file] => Ok(Layout::File(file)),
            ref files => Err(Error::SeveralFiles { files: files.len() }),
        }
    }
}

/// The places of a state's files in the output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// The output is this file.
    File(FileId),
    /// The output is a folder.
    Folder(FolderLayout),
}

/// A restored folder.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FolderLayout {
    /// Folders below the output, each before its content. Relative paths.
    pub folders: Vec<PathBuf>,
    /// The restored files. They must include every file that the log changes. Other files of the
    /// snapshot may be left out. If only some tables are restored, only their files are used.
    pub files: Vec<FilePlace>,
}

/// The place of a file in a restored folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePlace {
    /// The file.
    pub file: FileId,
    /// Path below the output. Every folder in it must be in [`FolderLayout::folders`].
    pub path: PathBuf,
    /// Parts of the file without storage, ascending. Outside them, zeros are written. If `None`, an
    /// extent of zeros becomes a hole.
    pub holes: Option<Vec<(u64, u64)>>,
}

impl FilePlace {
    /// A file at a path, with holes where extents are zeros.
    #[must_use]
    pub fn new(file: FileId, path: impl Into<PathBuf>) -> Self {
        FilePlace { file, path: path.into(), holes: None }
    }
}

impl FolderLayout {
    /// Makes sure that nothing is written outside the output (FAILURES 31), and that no change of
    /// the log is left out.
    pub(crate) fn check(&self, changes: &BTreeMap<FileId, FileChange>) -> Result<()> {
        let paths = self.folders.iter().chain(self.files.iter().map(|place| &place.path));
        if let Some(path) = paths.into_iter().find(|path| !is_inside(path)) {
            return Err(Error::Outside { path: path.clone() });
        }
        if changes.is_empty() {
            return Ok(());
        }
        let placed: BTreeSet<FileId> = self.files.iter().map(|place| place.file).collect();
        let missing = changes.keys().find(|file| !placed.contains(file));
        missing.map_or(Ok(()), |file| Err(Error::NotLaidOut { file: *file }))
    }
}

/// True for a relative path that does not leave the folder that it is joined to (FAILURES 31).
#[must_use]
pub fn is_inside(path: &Path) -> bool {
    path.file_name().is_some() && path.components().all(|part| matches!(part, Component::Normal(_)))
}

/// A result whose bytes are written, and that is not published yet.
#[derive(Debug, Clone, Copy)]
pub struct Unfinished<'a> {
    /// The file system.
    pub fs: &'a dyn FileSystem,
    /// Temporary path of the result: a file or a folder. Marked files still have their mark.
    pub path: &'a Path,
    /// The snapshot that the restore began with.
    pub base: Option<&'a SnapshotReader>,
    /// The state that was reached.
    pub reached: Point,
}

/// The engine's report at the end.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Finished {
    /// Files that could not be read completely when the snapshot was taken. Relative paths.
    pub incomplete: Vec<PathBuf>,
    /// Files and folders whose owner could not be restored, because only root can change owners.
    pub kept_owners: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_stays_inside_the_output() {
        // FAILURES 31
        let with = |path: &str| {
            let files = vec![FilePlace::new(FileId::FIRST, path)];
            FolderLayout { folders: Vec::new(), files }.check(&BTreeMap::new())
        };
        for path in ["a", "a/b", "..a", "-"] {
            with(path).unwrap();
        }
        for path in ["", "/etc/passwd", "..", "a/../../b", "a/..", "."] {
            assert!(matches!(with(path), Err(Error::Outside { .. })), "{path:?}");
        }
    }

    #[test]
    fn a_file_that_the_log_changes_is_not_left_out() {
        let changes = [(FileId::new(7), FileChange::default())].into();
        let left_out = FolderLayout::default().check(&changes);
        assert!(matches!(left_out, Err(Error::NotLaidOut { file }) if file == FileId::new(7)));
    }
}
