//! The SQLite engine, as pitr's engine traits require it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use pitr_engine::{
    Capture, CaptureOptions, Engine, EngineContext, Error as EngineError, Events, Found, LiveSource, Located,
    Matches, Outcomes, Result, Search, SourceSearch,
};
use pitr_format::SourceName;
use pitr_objects::Objects;
use pitr_recovery::RestoreTarget;
use pitr_snapshot::Snapshot;
use pitr_verify::{Live, Queries};

use crate::error::Error;
use crate::place;
use crate::restore::DatabaseTarget;
use crate::watch::control::{self, Request};
use crate::watch::folder::FolderSearch;
use crate::watch::{self, Fleet, Watch};

/// The SQLite engine: its sources are database files in WAL mode.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sqlite;

impl Engine for Sqlite {
    fn name(&self) -> &'static str {
        watch::ENGINE
    }

    fn detect(&self, path: &Path) -> bool {
        path.is_file()
    }

    fn capture(&self) -> Option<&dyn Capture> {
        Some(self)
    }

    fn restore_target(&self) -> Option<&dyn RestoreTarget> {
        Some(&DatabaseTarget)
    }

    fn queries(&self) -> Option<&dyn Queries> {
        Some(self)
    }

    fn live(&self) -> Option<&dyn Live> {
        Some(self)
    }
}

impl Capture for Sqlite {
    fn locate(&self, path: &Path) -> Result<Located> {
        // A link that leads nowhere is an error. It does not count as a database that may be
        // created later.
        let place = if path.symlink_metadata().is_ok() { place::resolve(path) } else { place::absent(path) };
        place.map_err(EngineError::engine)
    }

    fn source(&self, located: &Located, source: SourceName, state: Option<PathBuf>) -> LiveSource {
        let state = state.unwrap_or_else(|| watch::state::default_dir(&located.resolved));
        LiveSource { place: located.clone(), source, state }
    }

    fn backup(
        &self,
        context: EngineContext,
        live: &LiveSource,
        options: CaptureOptions,
        full: bool,
        events: Events,
    ) -> Result<Snapshot> {
        let begun = Watch::begin(context, live.clone(), options, events);
        let mut watch = begun.map_err(|error| match error {
            Error::Locked { .. } => EngineError::Watched { source: error.into() },
            other => EngineError::engine(other),
        })?;
        watch.snapshot_once(full).map_err(EngineError::engine)
    }

    fn ask(&self, objects: &Objects, live: &LiveSource, full: bool) -> Result<Snapshot> {
        let request = if full { Request::FullSnapshot } else { Request::Snapshot };
        let answer = control::ask(&live.state, request);
        let answer = answer.map_err(|error| unanswered(&live.state, request, error))?;
        let answer = answer.map_err(|answer| EngineError::Refused { answer })?;
        let path = answer.split(' ').next().unwrap_or_default();
        Snapshot::load(objects, path).map_err(|error| EngineError::engine(Error::from(error)))
    }

    fn ask_to_archive(&self, context: &EngineContext, live: &LiveSource) -> Result<()> {
        let fs = context.env().fs.as_ref();
        // Another repository or source may have a watcher in this folder.
        let local = watch::state::local_logs(fs, &live.state, context.repository, &live.source);
        if local.map_err(EngineError::engine)?.is_empty() {
            return Err(unanswered(&live.state, Request::Archive, io::ErrorKind::NotFound.into()));
        }
        let answer = control::ask(&live.state, Request::Archive);
        let answer = answer.map_err(|error| unanswered(&live.state, Request::Archive, error))?;
        answer.map(drop).map_err(|answer| EngineError::Refused { answer })
    }

    fn fleet(&self, context: EngineContext, options: CaptureOptions) -> Result<Box<dyn pitr_engine::Fleet>> {
        let fleet = Fleet::new(context.clone(), options).map_err(EngineError::engine)?;
        Ok(Box::new(Databases { fleet, context, options }))
    }

    fn search(&self, root: &Path, matches: Matches) -> Box<dyn SourceSearch> {
        Box::new(FolderSearch::new(root.to_owned(), matches))
    }
}

/// The error for a request that the watcher in the folder `state` has not answered.
fn unanswered(state: &Path, request: Request, source: io::Error) -> EngineError {
    let state = state.to_owned();
    match (source.kind(), request.patience()) {
        (io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut, Some(waited)) => {
            EngineError::Behind { state, waited }
        }
        _ => EngineError::NoAnswer { state, source },
    }
}

/// A fleet, and the settings of its members.
struct Databases {
    fleet: Fleet,
    context: EngineContext,
    options: CaptureOptions,
}

impl pitr_engine::Fleet for Databases {
    fn add(&mut self, live: LiveSource, events: Events) -> Result<()> {
        let begun = Watch::begin(self.context.clone(), live, self.options, events);
        self.fleet.add(begun.map_err(EngineError::engine)?);
        Ok(())
    }

    fn add_waiting(&mut self, live: LiveSource, events: Events) {
        self.fleet.add_waiting(live, events);
    }

    fn add_found(&mut self, found: Found) {
        self.fleet.add_found(found);
    }

    fn run(self: Box<Self>, stop: &AtomicBool, search: Option<Search<'_>>) -> Result<Outcomes> {
        let outcomes = self.fleet.run(stop, search).map_err(EngineError::engine)?;
        let outcome =
            |(name, outcome): (SourceName, crate::Result<_>)| (name, outcome.map_err(EngineError::engine));
        Ok(outcomes.into_iter().map(outcome).collect())
    }
}

impl SourceSearch for FolderSearch {
    fn mark_known(&mut self, source: &Path) -> std::io::Result<()> {
        FolderSearch::mark_known(self, source)
    }

    fn next_found(&mut self) -> std::io::Result<Vec<PathBuf>> {
        FolderSearch::next_found(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watcher_that_is_behind_is_not_one_that_is_gone() {
        let error = |kind: io::ErrorKind| unanswered(Path::new("/s"), Request::Archive, kind.into());
        for late in [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut] {
            let text = error(late).to_string();
            assert!(text.contains("has not archived every commit within 20 s"), "{text}");
        }
        for gone in [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused] {
            assert!(matches!(error(gone), EngineError::NoAnswer { .. }));
        }
    }
}
