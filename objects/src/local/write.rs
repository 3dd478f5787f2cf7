//! Creates objects in a folder: each is written under a temporary name, synced, and published
//! without replacing.

use super::Folder;
use super::read::open_object;
use super::walk::is_staged;
use object_store::path::Path as ObjectPath;
use object_store::{PutPayload, Result};
use pitr_vfs::FileSystem;
use std::collections::HashSet;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{MutexGuard, PoisonError};

impl Folder {
    /// Creates an object, durably. If the error says that the object exists, that object is durable
    /// too.
    pub(super) fn put_new(&self, object: &ObjectPath, payload: &PutPayload) -> Result<()> {
        if is_staged(object.as_ref()) {
            let refused = io::Error::new(io::ErrorKind::InvalidInput, "the name of a temporary file");
            return Err(self.error(object, refused));
        }
        let target = self.path(object);
        let put = match self.create(&target, payload) {
            // An earlier, failed put of this process may have left the object visible but not
            // durable (FAILURES 26).
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.sync(&target).and(Err(error)),
            other => other,
        };
        put.map_err(|source| self.error(object, source))
    }

    /// Bytes do not go through the page cache: nobody reads them soon, and the first use of a page
    /// costs more than compressing what is in it.
    fn create(&self, target: &Path, payload: &PutPayload) -> io::Result<()> {
        let folder = target.parent().unwrap_or(&self.root);
        self.make_durable(folder)?;
        let staged = match stage(&*self.fs, target, payload) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Another program has deleted empty folders since the folders were created.
                self.durable().clear();
                self.make_durable(folder)?;
                stage(&*self.fs, target, payload)?
            }
            staged => staged?,
        };
        if let Err(error) = self.fs.publish(&staged, target) {
            let _ = self.fs.remove_file(&staged); // the first error is returned
            return Err(error);
        }
        self.fs.sync_dir(folder)
    }

    /// Creates a folder of the repository and makes its name durable. A folder that exists is
    /// synced too, once. Another process may have created it without a sync yet, and losing the
    /// folder would lose the objects in it.
    fn make_durable(&self, folder: &Path) -> io::Result<()> {
        if folder == self.root || self.durable().contains(folder) {
            return Ok(());
        }
        if let Some(above) = folder.parent() {
            self.make_durable(above)?;
        }
        self.fs.create_folder_within(folder)?;
        self.durable().insert(folder.to_owned());
        Ok(())
    }

    fn durable(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Syncs an existing object, and the folders that lead to it.
    fn sync(&self, target: &Path) -> io::Result<()> {
        open_object(&*self.fs, target)?.sync_all()?;
        let below_root = |folder: &&Path| folder.starts_with(&self.root);
        target.ancestors().skip(1).take_while(below_root).try_for_each(|folder| self.fs.sync_dir(folder))
    }
}

/// Writes a temporary file beside the object, durably. Listings leave such names out.
fn stage(fs: &dyn FileSystem, target: &Path, payload: &PutPayload) -> io::Result<PathBuf> {
    let mut number = 1;
    loop {
        let mut staged = OsString::from(target);
        staged.push(format!("#{number}"));
        let staged = PathBuf::from(staged);
        match fs.create_new(&staged) {
            Ok(file) => {
                let mut offset = 0;
                let mut write = |part: &bytes::Bytes| {
                    let at = offset;
                    offset += part.len() as u64;
                    file.write_once_at(part, at)
                };
                let written = payload.iter().try_for_each(&mut write).and_then(|()| file.sync_all());
                if written.is_err() {
                    let _ = fs.remove_file(&staged); // the first error is returned
                }
                return written.map(|()| staged);
            }
            // Another process is putting the same object, or died while it did.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::LocalStore;
    use pitr_vfs::OsFs;
    use std::fs;
    use std::sync::Arc;

    fn store(root: &Path) -> LocalStore {
        LocalStore::new(Arc::new(OsFs), root.to_owned(), "test".to_owned())
    }

    fn put(store: &LocalStore, path: &str, bytes: &[u8]) -> Result<()> {
        store.folder.put_new(&ObjectPath::parse(path).unwrap(), &PutPayload::from(bytes.to_vec()))
    }

    #[test]
    fn a_put_creates_and_never_replaces() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let store = store(dir.path());
        for bytes in [0, 5, (2 << 20) + 17] {
            let (path, content) = (format!("a/b/{bytes}"), vec![7; bytes]);
            put(&store, &path, &content).unwrap();
            assert!(fs::read(dir.path().join(&path)).unwrap() == content);
            let again = put(&store, &path, b"other").unwrap_err();
            assert!(matches!(again, object_store::Error::AlreadyExists { .. }), "{again}");
            assert!(fs::read(dir.path().join(&path)).unwrap() == content);
        }
        assert_eq!(fs::read_dir(dir.path().join("a/b")).unwrap().count(), 3);
        // The temporary file of a dead process is left in place.
        fs::write(dir.path().join("a/b/new#1"), b"half").unwrap();
        put(&store, "a/b/new", b"whole").unwrap();
        assert_eq!(fs::read(dir.path().join("a/b/new")).unwrap(), b"whole");
        assert_eq!(fs::read(dir.path().join("a/b/new#1")).unwrap(), b"half");
        assert!(put(&store, "a/b/new#2", b"x").is_err());
        // A deleted folder is created again.
        fs::remove_dir_all(dir.path().join("a")).unwrap();
        put(&store, "a/b/new", b"whole").unwrap();
        assert_eq!(fs::read(dir.path().join("a/b/new")).unwrap(), b"whole");
    }

    #[test]
    fn a_payload_in_parts_is_one_object() {
        let dir = tempfile::tempdir().unwrap();
        let parts = [vec![1; 5], vec![2; 1 << 20], vec![3; 4097]];
        let payload: PutPayload = parts.iter().cloned().map(bytes::Bytes::from).collect();
        store(dir.path()).folder.put_new(&ObjectPath::from("x"), &payload).unwrap();
        assert!(fs::read(dir.path().join("x")).unwrap() == parts.concat());
    }

    #[test]
    fn the_first_puts_into_a_folder_may_come_at_the_same_time() {
        let dir = tempfile::tempdir().unwrap();
        let start = std::sync::Barrier::new(8);
        let first_puts = &|thread: usize| {
            let store = store(dir.path());
            let put = |round: usize| {
                start.wait();
                put(&store, &format!("{round}/{thread}"), b"x")
            };
            // All rounds run, even after one that failed, because the other threads wait for each
            // round.
            (0..300).map(put).collect::<Vec<_>>()
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|thread| scope.spawn(move || first_puts(thread))).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).for_each(Result::unwrap);
        });
    }

    #[test]
    fn where_no_folder_can_be_nothing_is_put() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), b"a file").unwrap();
        assert!(put(&store(dir.path()), "a/b", b"x").is_err());
        // A name that is too long for the system is not retried for ever.
        assert!(put(&store(dir.path()), &"n".repeat(300), b"x").is_err());
    }
}
