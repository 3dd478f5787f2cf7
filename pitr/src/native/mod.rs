//! Native engines: those that log through `pitr-wal`. One handle archives the log and takes the
//! snapshots.
//!
//! # Promises
//! - **The log is not removed before it is archived.** A slot holds it, also while no process is
//!   attached, and moves on after each shipment.
//! - **A snapshot exists only when it can be restored**: its root is put after the log up to its
//!   consistent point.
//! - **No failure is silent.** A shipment that fails is an event and part of the state, and is
//!   tried again. A writer that was replaced ends, and says so on every later call.
//!
//! An engine with a log of its own has no [`Wal`]: it feeds the records of its commits through
//! [`Capture`](pitr_engine::Capture), as the engine of SQLite does.

mod fork;
mod options;
mod shipping;
mod snapshots;
mod state;

pub use options::AttachOptions;
pub use snapshots::Hint;
pub use state::{AttachState, ShipFailure};

use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use pitr_archive::{NamedPoint, Shipped};
use pitr_format::{Lsn, SourceName};
use pitr_recovery::NewPoint;
use pitr_snapshot::{FuzzySource, Snapshot};
use pitr_wal::Wal;

use crate::{Error, Pitr, Result};
use shipping::Shared;

impl Pitr {
    /// Archives the log of an engine under this name, until the returned handle is stopped or
    /// dropped. On return everything that is durable is archived. A thread then ships what becomes
    /// durable. With a repository whose work runs in the calling thread
    /// ([`Spawn::Inline`](pitr_vfs::Spawn::Inline)), only [`Attached::ship`] does.
    ///
    /// The handle is the writer of the source: an earlier one gets
    /// [`pitr_archive::Error::Fenced`], in this process or in another.
    ///
    /// # Errors
    /// [`Error::Engine`] if the engine is not registered or restores no files: nothing would be
    /// restorable; [`Error::OtherEngine`]; [`pitr_wal::Error::Removed`] in [`Error::Archive`] if
    /// the log does not continue the archive, unless [`AttachOptions::accept_gaps`] is set;
    /// [`pitr_archive::Error::Diverged`] if the archive has another log of this name;
    /// [`Error::Wal`], [`Error::Objects`], [`Error::Thread`].
    pub fn attach(&self, wal: &Wal, source: &SourceName, options: AttachOptions) -> Result<Attached> {
        self.engines().named(&options.engine)?.need_restore_target()?;
        if let Some(engine) = snapshots::other_engine(self.objects(), source, &options.engine)? {
            return Err(Error::OtherEngine { source_name: source.clone(), engine });
        }
        let shared = Arc::new(self.begin_attached(wal, source, options)?);
        let mut attached = Attached { shared, threads: Vec::new(), is_stopped: false };
        if let Some(every) = attached.shared.options.ship_every {
            let (ship, compact) = (Arc::clone(&attached.shared), Arc::clone(&attached.shared));
            attached.spawn("pitr-ship", move || ship.run(every))?;
            attached.spawn("pitr-compact", move || compact.run_compaction(every))?;
        }
        Ok(attached)
    }

    fn begin_attached(&self, wal: &Wal, source: &SourceName, options: AttachOptions) -> Result<Shared> {
        let (slot, archive) = (options.slot.clone(), self.archive(source));
        let is_known = wal.slots().iter().any(|known| known.name == slot);
        let begun = Shared::begin(self.clone(), archive, wal, options);
        let begun = begun.and_then(|shared| shared.ship(false).map(|_| shared));
        // A slot that nothing uses would hold the log for good.
        if begun.is_err()
            && !is_known
            && let Err(error) = wal.drop_slot(&slot)
        {
            tracing::warn!("{source}: the slot {slot} could not be removed from the log: {error}");
        }
        begun
    }
}

/// A log that is archived. See [`Pitr::attach`].
///
/// It keeps a handle of the log: stop it before the log is opened again. Dropping it does the same
/// as [`stop`](Self::stop), and logs errors as warnings.
#[derive(Debug)]
#[must_use = "archiving ends when it is dropped"]
pub struct Attached {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    is_stopped: bool,
}

impl Attached {
    fn spawn(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
        let spawn = self.shared.pitr.objects().env().spawn;
        self.threads.extend(spawn.thread(name, work).map_err(Error::Thread)?);
        Ok(())
    }

    /// Name of the source in the repository.
    #[must_use]
    pub fn source(&self) -> &SourceName {
        self.shared.archive.source()
    }

    /// Archives everything that is durable now.
    ///
    /// # Errors
    /// [`pitr_archive::Error::Fenced`] if another writer took over; those of
    /// [`Shipper::ship`](pitr_archive::Shipper::ship); [`Error::Wal`].
    pub fn ship(&self) -> Result<Shipped> {
        self.shared.ship(false)
    }

    /// Stores everything that is durable now. It counts as archived after the next check that no
    /// other writer took over. Calls within ten seconds share one check, which is a request. The
    /// shipping thread works like this while no caller waits.
    ///
    /// # Errors
    /// Those of [`ship`](Self::ship).
    pub fn store(&self) -> Result<Shipped> {
        self.shared.store()
    }

    /// Waits until the archive has the log up to this position, which is durable, and no other
    /// writer has taken over. A commit that is acknowledged after this call survives the loss of
    /// this machine (RPO 0). Callers that wait at the same time share one shipment.
    ///
    /// `patience` limits the wait. Without a shipping thread ([`AttachOptions::ship_every`]), the
    /// call ships by itself, and waits as long as the repository's own deadlines allow.
    ///
    /// # Errors
    /// [`Error::ArchivePatience`]: the commit is durable here, and may be archived later;
    /// [`pitr_archive::Error::Fenced`] if another writer took over; without a thread, those of
    /// [`ship`](Self::ship).
    pub fn wait_archived(&self, lsn: Lsn, patience: Duration) -> Result<()> {
        self.shared.wait_archived(lsn, patience)
    }

    /// Merges small objects of the archived log, as long as there are enough of them, and returns
    /// the number of merges. A thread does it if [`AttachOptions::ship_every`] is set.
    ///
    /// # Errors
    /// Those of [`Compactor::compact`](pitr_archive::Compactor::compact).
    pub fn compact(&self) -> Result<u64> {
        Ok(self.shared.compact()?)
    }

    /// Takes a snapshot while the engine works. `hint` says what is known about the changes since
    /// an earlier snapshot, which is found here. On return the snapshot can be restored.
    ///
    /// # Errors
    /// [`Error::Source`] from the source; [`Error::Positions`] if its positions contradict each
    /// other; those of [`ship`](Self::ship) and of
    /// [`write_increment`](pitr_snapshot::write_increment). Nothing is then published.
    pub fn snapshot(&self, source: &dyn FuzzySource, hint: Hint<'_>) -> Result<Snapshot> {
        self.shared.snapshot(source, hint)
    }

    /// True if the archived log can't be restored from any snapshot or from its origin: after a gap
    /// that was accepted, and for a log that begins after a restored state. Take a snapshot.
    ///
    /// # Errors
    /// Those of [`History::load`](pitr_recovery::History::load).
    pub fn needs_snapshot(&self) -> Result<bool> {
        self.shared.needs_snapshot()
    }

    /// Archives everything that is durable now, and creates a named recovery point.
    ///
    /// # Errors
    /// Those of [`ship`](Self::ship) and of [`Pitr::create_point`].
    pub fn create_point(&self, new: &NewPoint) -> Result<NamedPoint> {
        self.ship()?;
        self.shared.pitr.create_point(self.source(), new)
    }

    /// What is archived, and whether shipping works.
    #[must_use]
    pub fn state(&self) -> AttachState {
        self.shared.state()
    }

    /// Archives everything that is durable, and a watermark; ends the writer's epoch. The slot
    /// stays: the log is held for the next attachment. To give it up, call
    /// [`Wal::drop_slot`] with the name in [`AttachOptions::slot`].
    ///
    /// # Errors
    /// Those of [`ship`](Self::ship).
    ///
    /// # Panics
    /// If the shipping thread panicked.
    pub fn stop(mut self) -> Result<AttachState> {
        self.end()?;
        Ok(self.shared.state())
    }

    fn end(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.is_stopped, true) {
            return Ok(());
        }
        self.shared.stop();
        for thread in self.threads.drain(..) {
            thread.join().unwrap_or_else(|panic| resume_unwind(panic));
        }
        self.shared.drain()
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        // A second panic would abort the process.
        if std::thread::panicking() {
            self.shared.stop();
            return;
        }
        if let Err(error) = self.end() {
            tracing::warn!("{}: the log was not archived to its end: {error}", self.source());
        }
    }
}
