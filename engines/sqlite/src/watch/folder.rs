//! Finds SQLite databases in a folder.
//!
//! A file is a database if it starts like one. Links are not followed, so that each database is
//! found once. A file is opened for the check only while it is unknown: closing a descriptor of a
//! watched database would drop this process's locks on it (FAILURES 38). For the same reason files
//! with several names are skipped: any of the names may be watched.

use std::collections::{HashMap, HashSet};
use std::fs::{DirEntry, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use pitr_objects::layout::{REPOSITORY, SOURCES};

const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// Suffixes of the files that SQLite keeps beside a database.
const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];
/// Folders deeper than this are not searched.
const DEPTH_MAX: u32 = 64;

/// Identifies a file version that was checked: device, inode, length, change time in nanoseconds.
type Seen = (u64, u64, u64, i64);

/// Searches one folder repeatedly.
pub struct FolderSearch {
    root: PathBuf,
    matches: Box<dyn Fn(&Path) -> bool + Send>,
    /// Databases already returned or marked, by device and inode.
    known: HashMap<(u64, u64), PathBuf>,
    /// Files that are not databases.
    others: HashSet<Seen>,
}

impl std::fmt::Debug for FolderSearch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FolderSearch").field("root", &self.root).finish_non_exhaustive()
    }
}

impl FolderSearch {
    /// Searches in and below `root` for databases whose relative path `matches`.
    #[must_use]
    pub fn new(root: PathBuf, matches: Box<dyn Fn(&Path) -> bool + Send>) -> Self {
        FolderSearch { root, matches, known: HashMap::new(), others: HashSet::new() }
    }

    /// Marks a database as already watched, so that the search doesn't return it.
    ///
    /// # Errors
    /// Those of looking it up.
    pub fn mark_known(&mut self, database: &Path) -> io::Result<()> {
        self.known.insert(identity(&database.metadata()?), database.to_owned());
        Ok(())
    }

    /// The new databases since the last call, as sorted paths relative to the folder. Files that
    /// can't be read now are found later.
    ///
    /// # Errors
    /// Those of reading the folder itself.
    pub fn next_found(&mut self) -> io::Result<Vec<PathBuf>> {
        let mut walk = Walk { found: Vec::new(), seen: HashSet::new(), present: HashSet::new() };
        let root = self.root.clone();
        self.walk(&root, DEPTH_MAX, &mut walk)?;
        self.known.retain(|identity, _| walk.present.contains(identity));
        self.others.retain(|seen| walk.seen.contains(seen));
        walk.found.sort_unstable();
        Ok(walk.found)
    }

    fn walk(&mut self, dir: &Path, depth: u32, walk: &mut Walk) -> io::Result<()> {
        for entry in std::fs::read_dir(dir)? {
            let Ok(entry) = entry else { continue };
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() && depth > 0 && !is_ours(&entry) {
                // A folder that is unreadable or missing has no database to watch.
                let _ = self.walk(&entry.path(), depth - 1, walk);
            } else if metadata.is_file() && metadata.nlink() == 1 && !is_beside(&entry) {
                self.look_at(&entry.path(), &metadata, walk);
            }
        }
        Ok(())
    }

    fn look_at(&mut self, path: &Path, metadata: &Metadata, walk: &mut Walk) {
        let relative = path.strip_prefix(&self.root).unwrap_or(path);
        let changed_ns = metadata.ctime().saturating_mul(1_000_000_000).saturating_add(metadata.ctime_nsec());
        let seen = (metadata.dev(), metadata.ino(), metadata.len(), changed_ns);
        let identity = identity(metadata);
        walk.present.insert(identity);
        if self.known.contains_key(&identity) {
            return;
        }
        walk.seen.insert(seen);
        if self.others.contains(&seen) || !(self.matches)(relative) {
            return;
        }
        match begins_as_database(path) {
            Ok(true) => {
                self.known.insert(identity, path.to_owned());
                walk.found.push(relative.to_owned());
            }
            Ok(false) => drop(self.others.insert(seen)),
            // The folder may become readable later.
            Err(_) => {}
        }
    }
}

/// Results of one search.
struct Walk {
    found: Vec<PathBuf>,
    seen: HashSet<Seen>,
    present: HashSet<(u64, u64)>,
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn begins_as_database(path: &Path) -> io::Result<bool> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let mut file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let mut begin = [0; MAGIC.len()];
    match file.read_exact(&mut begin) {
        Ok(()) => Ok(&begin == MAGIC),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}

/// True for a watcher's folder or a repository.
fn is_ours(entry: &DirEntry) -> bool {
    let path = entry.path();
    let is_state = entry.file_name().to_string_lossy().ends_with("-pitr") && path.join("identity").exists();
    is_state || path.join(REPOSITORY).is_file() && path.join(SOURCES).is_dir()
}

fn is_beside(entry: &DirEntry) -> bool {
    let name = entry.file_name();
    BESIDE.iter().any(|suffix| name.to_string_lossy().ends_with(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_are_found_once_and_again_when_they_reappear() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let file = |name: &str, content: &[u8]| {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        };
        file("a.db", MAGIC);
        file("deep/er/b.sqlite", MAGIC);
        file("c.db", b"");
        file("text.db", b"not a database at all");
        file("a.db-wal", MAGIC);
        file("a.db-pitr/identity", b"");
        file("a.db-pitr/x.db", MAGIC);
        file("named.db", MAGIC);
        file("two.db", MAGIC);
        std::fs::hard_link(root.join("two.db"), root.join("names.db")).unwrap();
        std::os::unix::fs::symlink(root, root.join("deep/loop")).unwrap();
        let mut search = FolderSearch::new(root.to_owned(), Box::new(|_| true));
        search.mark_known(&root.join("named.db")).unwrap();
        let mut next = || -> Vec<String> {
            let found = search.next_found().unwrap();
            found.iter().map(|path| path.to_str().unwrap().to_owned()).collect()
        };
        assert_eq!(next(), ["a.db", "deep/er/b.sqlite"]);
        assert!(next().is_empty());
        file("c.db", MAGIC);
        assert_eq!(next(), ["c.db"]);
        std::fs::rename(root.join("a.db"), root.join("../gone.db")).unwrap();
        assert!(next().is_empty());
        std::fs::rename(root.join("../gone.db"), root.join("a.db")).unwrap();
        assert_eq!(next(), ["a.db"]);
    }

    #[test]
    fn only_matching_paths_are_found() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.db"), MAGIC).unwrap();
        std::fs::write(dir.path().join("b.sqlite"), MAGIC).unwrap();
        let is_db = |path: &Path| path.extension().is_some_and(|ext| ext == "db");
        let mut search = FolderSearch::new(dir.path().to_owned(), Box::new(is_db));
        assert_eq!(search.next_found().unwrap(), [PathBuf::from("a.db")]);
    }
}
