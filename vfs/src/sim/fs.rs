//! The simulated file system.

use super::disk::{Disk, Inode};
use super::survive::Survivors;
use super::trace::{Op, Synced, Trace};
use crate::{Access, File, FileSystem, Lock, Metadata, NotAFile};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt::{Debug, Formatter};
use std::hash::{Hash, Hasher};
use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A fault to inject. Calls are counted from 0, starting when the fault is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// This sync of a file or folder fails. The next one succeeds, but proves nothing (FAILURES
    /// 18).
    Sync {
        /// Number of the sync.
        nth: u64,
    },
    /// The disk becomes full: this write or creation and all later ones fail. The first one still
    /// writes half of its bytes.
    Full {
        /// Number of the write or creation.
        nth: u64,
    },
    /// The disk is full from now on: creating or extending a file fails, writing within a file's
    /// length succeeds.
    NoSpace,
}

/// A file system in memory that records all operations. Clones share the same file system.
#[derive(Debug, Clone)]
pub struct SimFs {
    state: Arc<Mutex<State>>,
    /// True if other threads run during a sync.
    slow_syncs: bool,
}

#[derive(Debug)]
struct State {
    /// The visible state: everything that took effect, durable or not.
    seen: Disk,
    trace: Trace,
    next_inode: Inode,
    locks: BTreeSet<PathBuf>,
    writes: u64,
    syncs: u64,
    sync_fails_at: Option<u64>,
    full_from: Option<u64>,
    free: Option<u64>,
    no_space: bool,
    sync_hook: Option<SyncHook>,
}

/// An action of other threads during a sync.
struct SyncHook(Box<dyn FnOnce() + Send>);

impl Debug for SyncHook {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str("SyncHook")
    }
}

impl State {
    fn act(&mut self, op: Op) {
        self.seen.apply(&op);
        self.trace.ops.push(op);
    }

    /// Counts a write. Returns `None` if it may proceed. If the disk is full, returns whether this
    /// is the first failure.
    fn count_write(&mut self) -> Option<bool> {
        let nth = self.writes;
        self.writes += 1;
        self.full_from.filter(|from| nth >= *from).map(|from| nth == from)
    }

    /// True if there is no space for the file to reach length `end`.
    fn lacks_space(&self, file: Inode, end: u64) -> bool {
        self.no_space && self.seen.content(file).is_none_or(|content| content.len() < end)
    }

    fn count_sync(&mut self) -> bool {
        let nth = self.syncs;
        self.syncs += 1;
        self.sync_fails_at != Some(nth)
    }
}

impl SimFs {
    /// Creates a machine with an empty disk.
    #[must_use]
    pub fn new() -> Self {
        SimFs::on(Disk::default())
    }

    /// Creates a machine that starts with this disk, all of whose content is durable.
    #[must_use]
    pub fn on(disk: Disk) -> Self {
        Self::with(disk.clone(), Trace { base: disk, ops: Vec::new() })
    }

    /// Creates the same machine after the process that left `trace` was killed after `cut` ops.
    /// Unsynced data is still readable, and its survival is still open.
    #[must_use]
    pub fn after_kill(trace: &Trace, cut: usize) -> Self {
        let ops = trace.ops[..cut.min(trace.ops.len())].to_vec();
        let mut seen = trace.base.clone();
        ops.iter().for_each(|op| seen.apply(op));
        Self::with(seen, Trace { base: trace.base.clone(), ops })
    }

    fn with(seen: Disk, trace: Trace) -> Self {
        let state = State {
            next_inode: seen.free_inode(),
            seen,
            trace,
            locks: BTreeSet::new(),
            writes: 0,
            syncs: 0,
            sync_fails_at: None,
            full_from: None,
            free: None,
            no_space: false,
            sync_hook: None,
        };
        SimFs { state: Arc::new(Mutex::new(state)), slow_syncs: false }
    }

    /// Lets other threads run during syncs, to record a run with several threads.
    #[must_use]
    pub fn with_slow_syncs(self) -> Self {
        SimFs { slow_syncs: true, ..self }
    }

    /// Records in the trace that a test was told that `id` is durable.
    pub fn ack(&self, id: u64) {
        self.state().act(Op::Ack(id));
    }

    /// The trace so far.
    #[must_use]
    pub fn trace(&self) -> Trace {
        self.state().trace.clone()
    }

    /// The disk after a power loss now, if only synced data survives.
    #[must_use]
    pub fn durable_disk(&self) -> Disk {
        let trace = self.trace();
        Survivors::at(&trace, trace.ops.len()).disk(super::Mode::Synced, 0)
    }

    /// Sets a fault. It replaces an earlier fault of the same kind.
    pub fn inject(&self, fault: Fault) {
        let mut state = self.state();
        match fault {
            Fault::Sync { nth } => state.sync_fails_at = Some(state.syncs + nth),
            Fault::Full { nth } => state.full_from = Some(state.writes + nth),
            Fault::NoSpace => state.no_space = true,
        }
    }

    /// Removes all faults.
    pub fn mend(&self) {
        let mut state = self.state();
        (state.sync_fails_at, state.full_from, state.no_space) = (None, None, false);
    }

    /// Sets the answer of [`FileSystem::free_bytes`]. It limits no write; [`Fault::Full`] does
    /// that.
    pub fn set_free_bytes(&self, bytes: u64) {
        self.state().free = Some(bytes);
    }

    /// Runs `act` in the middle of the next sync, on the syncing thread. It stands for what other
    /// threads might do then, in a reproducible order. Replaces an earlier `act` that has not run.
    pub fn during_next_sync(&self, act: impl FnOnce() + Send + 'static) {
        self.state().sync_hook = Some(SyncHook(Box::new(act)));
    }

    /// Number of writes and creations so far.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.state().writes
    }

    /// Number of syncs so far.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A sync takes time. Other threads may write during it, and the sync does not cover those
    /// writes.
    fn sync(&self, what: Synced) -> Result<()> {
        let mut state = self.state();
        let (began, sync_hook) = (state.trace.ops.len(), state.sync_hook.take());
        drop(state);
        if let Some(SyncHook(act)) = sync_hook {
            act();
        }
        if self.slow_syncs {
            std::thread::yield_now();
        }
        let mut state = self.state();
        let worked = state.count_sync();
        state.act(Op::Sync { what, began, worked });
        if worked { Ok(()) } else { Err(Error::other("simulated: the sync failed")) }
    }
}

impl Default for SimFs {
    fn default() -> Self {
        Self::new()
    }
}

fn full() -> Error {
    Error::new(ErrorKind::StorageFull, "simulated: no space left")
}

/// Simulated folders have no number; there are no links, so each has one path.
fn folder_id(path: &Path) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}

fn missing(path: &Path) -> Error {
    Error::new(ErrorKind::NotFound, format!("{} does not exist", path.display()))
}

impl FileSystem for SimFs {
    fn open(&self, path: &Path, access: Access) -> Result<Arc<dyn File>> {
        let inode = self.state().seen.inode(path).ok_or_else(|| missing(path))?;
        Ok(Arc::new(SimFile { fs: self.clone(), inode, access }))
    }

    fn create_new(&self, path: &Path) -> Result<Arc<dyn File>> {
        let mut state = self.state();
        if state.seen.inode(path).is_some() || state.seen.has_dir(path) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        if !path.parent().is_some_and(|dir| state.seen.has_dir(dir)) {
            return Err(missing(path));
        }
        if state.count_write().is_some() || state.no_space {
            return Err(full());
        }
        let inode = state.next_inode;
        state.next_inode = Inode(inode.0 + 1);
        state.act(Op::Create { file: inode, path: path.to_owned() });
        Ok(Arc::new(SimFile { fs: self.clone(), inode, access: Access::ReadWrite }))
    }

    fn metadata(&self, path: &Path) -> Result<Metadata> {
        let state = self.state();
        let (other, id) = match state.seen.inode(path) {
            Some(inode) => (None, inode.0),
            None if state.seen.has_dir(path) => (Some(NotAFile::Folder), folder_id(path)),
            None => return Err(missing(path)),
        };
        let content = state.seen.inode(path).and_then(|inode| state.seen.content(inode));
        let len = content.map_or(0, |content| content.len());
        Ok(Metadata { other, len, allocated: len, links: 1, id: (0, id), is_link: false })
    }

    fn free_bytes(&self, _dir: &Path) -> Result<Option<u64>> {
        Ok(self.state().free)
    }

    fn publish(&self, from: &Path, to: &Path) -> Result<()> {
        let mut state = self.state();
        let file = state.seen.inode(from);
        if file.is_none() && !state.seen.has_dir(from) {
            return Err(missing(from));
        }
        if state.seen.inode(to).is_some() || state.seen.has_dir(to) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let (from, to) = (from.to_owned(), to.to_owned());
        state.act(match file {
            Some(file) => Op::Publish { file, from, to },
            None => Op::PublishDir { from, to },
        });
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        let mut state = self.state();
        state.seen.inode(path).ok_or_else(|| missing(path))?;
        state.act(Op::Remove { path: path.to_owned() });
        Ok(())
    }

    fn list(&self, dir: &Path) -> Result<Vec<OsString>> {
        let state = self.state();
        if !state.seen.has_dir(dir) {
            return Err(missing(dir));
        }
        let all = state.seen.names().chain(state.seen.dirs());
        let here = all.filter(|path| path.parent() == Some(dir));
        let mut names: Vec<OsString> = here.filter_map(|path| path.file_name().map(OsString::from)).collect();
        names.sort_unstable();
        Ok(names)
    }

    fn create_dir_all(&self, dir: &Path) -> Result<()> {
        let mut state = self.state();
        let mut above: Vec<&Path> = dir.ancestors().filter(|path| !state.seen.has_dir(path)).collect();
        above.reverse();
        for path in above {
            state.act(Op::CreateDir { path: path.to_owned() });
        }
        Ok(())
    }

    fn create_dir(&self, dir: &Path) -> Result<()> {
        let mut state = self.state();
        if state.seen.inode(dir).is_some() || state.seen.has_dir(dir) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        if !dir.parent().is_some_and(|parent| state.seen.has_dir(parent)) {
            return Err(missing(dir));
        }
        if state.count_write().is_some() || state.no_space {
            return Err(full());
        }
        state.act(Op::MakeDir { path: dir.to_owned() });
        Ok(())
    }

    fn remove_all(&self, path: &Path) -> Result<()> {
        let mut state = self.state();
        if !state.seen.has_dir(path) {
            drop(state);
            return self.remove_file(path);
        }
        state.act(Op::RemoveDir { path: path.to_owned() });
        Ok(())
    }

    fn sync_below(&self, dir: &Path) -> Result<()> {
        let state = self.state();
        if !state.seen.has_dir(dir) {
            return Err(missing(dir));
        }
        let files = state.seen.names().filter(|name| name.starts_with(dir));
        let files = files.filter_map(|name| state.seen.inode(name)).map(Synced::File);
        let dirs = state.seen.dirs().filter(|inner| inner.starts_with(dir));
        let all: Vec<Synced> = files.chain(dirs.map(|inner| Synced::Dir(inner.to_owned()))).collect();
        drop(state);
        all.into_iter().try_for_each(|what| self.sync(what))
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        if !self.state().seen.has_dir(dir) {
            return Err(missing(dir));
        }
        self.sync(Synced::Dir(dir.to_owned()))
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        let state = self.state();
        Ok(state.seen.inode(path).is_some() || state.seen.has_dir(path))
    }

    /// Leaves no file, so that disks hold only what a test wrote.
    fn lock(&self, path: &Path) -> Result<Option<Lock>> {
        let free = self.state().locks.insert(path.to_owned());
        Ok(free.then(|| Box::new(SimLock { fs: self.clone(), path: path.to_owned() }) as Lock))
    }
}

struct SimLock {
    fs: SimFs,
    path: PathBuf,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.fs.state().locks.remove(&self.path);
    }
}

#[derive(Debug)]
struct SimFile {
    fs: SimFs,
    inode: Inode,
    access: Access,
}

impl SimFile {
    fn writable(&self) -> Result<MutexGuard<'_, State>> {
        match self.access {
            Access::Read => Err(ErrorKind::PermissionDenied.into()),
            Access::ReadWrite => Ok(self.fs.state()),
        }
    }
}

impl File for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        let state = self.fs.state();
        Ok(state.seen.content(self.inode).map_or(0, |content| content.read(buf, offset)))
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        let mut state = self.writable()?;
        if state.lacks_space(self.inode, offset.saturating_add(buf.len() as u64)) {
            return Err(full());
        }
        let (written, outcome) = match state.count_write() {
            None => (buf, Ok(())),
            Some(true) => (&buf[..buf.len() / 2], Err(full())),
            Some(false) => return Err(full()),
        };
        state.act(Op::Write { file: self.inode, offset, bytes: written.into() });
        outcome
    }

    fn sync_data(&self) -> Result<()> {
        self.fs.sync(Synced::File(self.inode))
    }

    fn sync_all(&self) -> Result<()> {
        self.fs.sync(Synced::File(self.inode))
    }

    fn len(&self) -> Result<u64> {
        Ok(self.fs.state().seen.content(self.inode).map_or(0, |content| content.len()))
    }

    fn set_len(&self, len: u64) -> Result<()> {
        let mut state = self.writable()?;
        if state.count_write().is_some() || state.lacks_space(self.inode, len) {
            return Err(full());
        }
        state.act(Op::SetLen { file: self.inode, len });
        Ok(())
    }
}
