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

#[cfg(all(feature = "sqlite", feature = "directory"))]
#[cfg(test)]
mod tests {
    use crate::{Error, Pitr, PitrConfig, exact};
    use pitr_recovery::Target;
    use rusqlite::Connection;
    use std::fs;
    use std::path::Path;

    fn database(path: &Path) -> Connection {
        let database = Connection::open(path).unwrap();
        database.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t(x)").unwrap();
        database
    }

    fn copy(database: &Connection, to: &Path) {
        database.backup("main", to, None::<fn(_)>).unwrap();
    }

    #[test]
    fn a_watched_database_is_restored_to_any_of_its_transactions() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let shop = database(&at("shop.db"));
        let pitr = Pitr::init(&PitrConfig::at(at("repo"))).unwrap();
        let watching = pitr.watch(at("shop.db")).unwrap();
        assert_eq!(watching.source().as_str(), "shop");
        for number in 0..3 {
            shop.execute("INSERT INTO t VALUES(?1)", [number]).unwrap();
            copy(&shop, &at(&format!("copy-{number}")));
        }
        assert_eq!(watching.stop().unwrap().commits, 3);

        let source = pitr.only_source().unwrap();
        let history = pitr.history(&source, None).unwrap();
        let commits: Vec<_> = history.transactions().map(|found| found.unwrap().commit.tx).collect();
        assert_eq!(commits.len(), 3);
        for (number, tx) in commits.iter().enumerate() {
            let output = at(&format!("restored-{number}"));
            pitr.restore_to(&source, &Target::at(*tx), &output).unwrap();
            assert_eq!(exact::compare(&output, &at(&format!("copy-{number}"))).unwrap(), None);
            assert!(pitr.restore_to(&source, &Target::at(*tx), &output).is_err(), "it exists");
        }
    }

    #[test]
    fn a_dropped_watch_archives_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let shop = database(&dir.path().join("shop.db"));
        let pitr = Pitr::init(&PitrConfig::at(dir.path().join("repo"))).unwrap();
        let watching = pitr.watch(dir.path().join("shop.db")).unwrap();
        shop.execute("INSERT INTO t VALUES('before the drop')", []).unwrap();
        drop(watching);
        let (copied, restored) = (dir.path().join("copy.db"), dir.path().join("restored.db"));
        copy(&shop, &copied);
        pitr.restore_to(&pitr.only_source().unwrap(), &Target::latest(), &restored).unwrap();
        assert_eq!(exact::compare(&restored, &copied).unwrap(), None);
    }

    #[test]
    fn a_backup_is_of_a_database_or_of_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let shop = database(&at("shop.db"));
        fs::create_dir(at("photos")).unwrap();
        fs::write(at("photos/a"), "a lake").unwrap();
        let pitr = Pitr::init(&PitrConfig::at(at("repo"))).unwrap();
        let engines = ["shop.db", "photos"].map(|name| pitr.backup(at(name)).unwrap().meta.engine);
        assert_eq!(engines, ["sqlite", "directory"]);

        copy(&shop, &at("copy.db"));
        let source = |name| pitr.source(Some(name)).unwrap();
        pitr.restore_to(&source("shop"), &Target::latest(), at("restored.db")).unwrap();
        assert_eq!(exact::compare(&at("restored.db"), &at("copy.db")).unwrap(), None);
        pitr.restore_to(&source("photos"), &Target::latest(), at("restored")).unwrap();
        assert_eq!(fs::read_to_string(at("restored/a")).unwrap(), "a lake");

        let folder = pitr.watch(at("photos")).unwrap_err();
        assert!(matches!(folder, Error::Engine(_)), "{folder}");
    }
}
