//! The state that all handles of an open log share.

use crate::append::{Locked, Queue, Rounds, Writer};
use crate::checkpoints::{Checkpoint, Checkpoints};
use crate::options::WalOptions;
use crate::segments::{DirLock, Segments};
use crate::stats::Counters;
use pitr_vfs::Env;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The state that all handles of an open log share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) env: Env,
    pub(crate) dir: PathBuf,
    pub(crate) segments: Mutex<Segments>,
    pub(crate) rounds: Rounds,
    pub(crate) options: WalOptions,
    pub(crate) counters: Counters,
    pub(crate) writer: Mutex<Writer>,
    pub(crate) checkpoints: Checkpoints,
    _lock: DirLock,
}

/// The result of creating or opening a log.
pub(crate) struct Opened {
    pub(crate) queue: Queue,
    pub(crate) segments: Segments,
    pub(crate) writer: Writer,
    /// The checkpoints that the log keeps, newest first.
    pub(crate) checkpoints: Vec<Checkpoint>,
    pub(crate) lock: DirLock,
}

/// Locks a mutex, also after a holder panicked: every change to the guarded data is made at once or
/// not at all, so the data is whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(env: &Env, dir: &Path, options: &WalOptions, opened: Opened) -> Self {
        let Opened { queue, mut segments, writer, checkpoints, lock } = opened;
        let checkpoints = Checkpoints::new(checkpoints, env.clock.monotonic());
        segments.slots.keep_from(checkpoints.floor());
        let (rounds, segments, writer) = (Rounds::new(queue), Mutex::new(segments), Mutex::new(writer));
        let (env, dir, options) = (env.clone(), dir.to_owned(), options.clone());
        let counters = Counters::default();
        Shared { env, dir, segments, rounds, options, counters, writer, checkpoints, _lock: lock }
    }

    pub(crate) fn queue(&self) -> Locked<'_> {
        self.rounds.queue()
    }

    /// Like [`crate::Wal::first`].
    pub(crate) fn first(&self) -> pitr_format::Lsn {
        lock(&self.segments).first()
    }
}
