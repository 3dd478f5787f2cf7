//! What a team implements to have its engine checked.

use pitr::engine::Engine;
use pitr::snapshot::{BoxError, FuzzySource};
use pitr::vfs::Env;
use pitr::wal::{Committed, Wal};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Everything in a store: values by key.
pub type Rows = BTreeMap<u64, Vec<u8>>;

/// What the suite may ask of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Keys are below it. At least 8.
    pub keys: u64,
    /// Length of every value, bytes. At least 9.
    pub value_bytes: usize,
    /// True if several transactions may be open at a time. They then change different keys.
    pub is_interleaved: bool,
    /// True if the engine logs logical records too, and applies them when it is opened and when it
    /// is restored. The rules of replay are checked only then.
    pub is_logical: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { keys: 48, value_bytes: 100, is_interleaved: true, is_logical: false }
    }
}

impl Limits {
    /// Sets the number of keys.
    #[must_use]
    pub fn keys(self, keys: u64) -> Self {
        Limits { keys, ..self }
    }

    /// Sets the length of values.
    #[must_use]
    pub fn value_bytes(self, value_bytes: usize) -> Self {
        Limits { value_bytes, ..self }
    }

    /// Says whether several transactions may be open at a time.
    #[must_use]
    pub fn interleaved(self, is_interleaved: bool) -> Self {
        Limits { is_interleaved, ..self }
    }

    /// Says whether the engine logs logical records too.
    #[must_use]
    pub fn logical(self, is_logical: bool) -> Self {
        Limits { is_logical, ..self }
    }
}

/// A storage engine under test.
pub trait Subject: Sync {
    /// An open store. Dropping it ends the process, as a crash does: nothing is written.
    type Store: Sync;

    /// What is registered: the engine's name, and how its files are restored.
    fn engine(&self) -> Arc<dyn Engine>;

    /// What the suite may ask of a store.
    fn limits(&self) -> Limits {
        Limits::default()
    }

    /// Creates a store in a folder, or completes a creation that a crash interrupted.
    ///
    /// # Errors
    /// Any error of the engine.
    fn create(&self, env: &Env, dir: &Path) -> Result<Self::Store, BoxError>;

    /// Opens a store after a clean end, a crash or a restore. A folder without a store is an error.
    ///
    /// # Errors
    /// Any error of the engine.
    fn open(&self, env: &Env, dir: &Path) -> Result<Self::Store, BoxError>;

    /// Bytes that are no logical record of the engine. It must refuse them.
    fn unknown_record(&self) -> Vec<u8> {
        vec![0xff; 64]
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// Any error of the engine.
    fn begin<'s>(&self, store: &'s Self::Store) -> Result<Box<dyn Transaction + 's>, BoxError>;

    /// The committed state.
    ///
    /// # Errors
    /// Any error of the engine.
    fn rows(&self, store: &Self::Store) -> Result<Rows, BoxError>;

    /// Writes committed changes to the files, and lets log go that is no longer needed.
    ///
    /// # Errors
    /// Any error of the engine.
    fn checkpoint(&self, store: &Self::Store) -> Result<(), BoxError>;

    /// The log.
    fn wal<'s>(&self, store: &'s Self::Store) -> &'s Wal;

    /// Begins a snapshot. Transactions go on.
    ///
    /// # Errors
    /// Any error of the engine.
    fn begin_snapshot<'s>(&self, store: &'s Self::Store) -> Result<Box<dyn FuzzySource + 's>, BoxError>;
}

/// An open transaction. Dropping it aborts it.
pub trait Transaction: Send {
    /// Writes a value.
    ///
    /// # Errors
    /// Any error of the engine.
    fn put(&mut self, key: u64, value: &[u8]) -> Result<(), BoxError>;

    /// Deletes a value, if there is one.
    ///
    /// # Errors
    /// Any error of the engine.
    fn delete(&mut self, key: u64) -> Result<(), BoxError>;

    /// Logs the changes so far, if the engine can log before a commit. They count if the
    /// transaction commits.
    ///
    /// # Errors
    /// Any error of the engine.
    fn flush(&mut self) -> Result<(), BoxError> {
        Ok(())
    }

    /// Commits. Durable on return.
    ///
    /// # Errors
    /// Any error of the engine.
    fn commit(self: Box<Self>) -> Result<Committed, BoxError>;

    /// Aborts: nothing of it remains.
    ///
    /// # Errors
    /// Any error of the engine.
    fn abort(self: Box<Self>) -> Result<(), BoxError>;
}
