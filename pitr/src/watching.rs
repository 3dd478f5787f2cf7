//! A database that is watched in a thread of its own.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use pitr_engine::{Event, Events, Fleet, Outcomes, Summary};
use pitr_format::SourceName;
use pitr_vfs::Spawn;

use crate::{Error, Result};

/// A watch that runs until it is [stopped](Self::stop) or dropped. Both archive everything that was
/// committed before.
#[derive(Debug)]
#[must_use = "a watch ends when it is dropped"]
pub struct Watching {
    source: SourceName,
    stop: Arc<AtomicBool>,
    /// `None` after it was joined.
    thread: Option<JoinHandle<pitr_engine::Result<Outcomes>>>,
}

impl Watching {
    pub(crate) fn start(source: SourceName, fleet: Box<dyn Fleet>) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&stop);
        let thread = Spawn::Threads.thread("pitr-watch", move || fleet.run(&until, None));
        Ok(Watching { source, stop, thread: thread.map_err(Error::Thread)? })
    }

    /// Name of the source in the repository.
    #[must_use]
    pub fn source(&self) -> &SourceName {
        &self.source
    }

    /// Archives everything that was committed before the call, and ends the watch.
    ///
    /// # Errors
    /// What ended the watch earlier, such as another writer that took the source over; those of the
    /// last read of the database.
    ///
    /// # Panics
    /// If the watching thread panicked.
    pub fn stop(mut self) -> Result<Summary> {
        self.stop.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else { return Ok(Summary::default()) };
        let mut outcomes = thread.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        outcomes.pop().map_or_else(|| Ok(Summary::default()), |(_, outcome)| Ok(outcome?))
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            None | Some(Ok(Ok(_))) => {}
            Some(Ok(Err(error))) => tracing::warn!("{}: the watch ended: {error}", self.source),
            Some(Err(_)) => tracing::warn!("{}: the watching thread panicked", self.source),
        }
    }
}

/// Logs what a program should know about a watch that nobody listens to.
pub(crate) fn log_events(source: &SourceName) -> Events {
    let source = source.clone();
    Arc::new(move |event| match event {
        Event::Watching | Event::Snapshot { .. } | Event::ShipRecovered => {
            tracing::info!("{source}: {event:?}");
        }
        other => tracing::warn!("{source}: {other:?}"),
    })
}
