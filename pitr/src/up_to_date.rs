//! Archiving what a running watcher has not archived yet.

use crate::facade::Pitr;
use crate::{Error, Result};
use pitr_engine::{Capture, LiveSource, Located};
use pitr_format::{SourceName, TimelineId};
use std::path::PathBuf;

impl Pitr {
    /// Has the watcher of a source archive every commit that returned before this call, if one runs
    /// on this machine. `timeline` chooses the instance of the source that has written it; the one
    /// that a restore follows if `None`. `state` is the folder of its local log, if that is not the
    /// engine's usual one.
    ///
    /// # Errors
    /// [`pitr_engine::Error::NoAnswer`] in [`Error::Engine`] if no watcher of the source runs here,
    /// [`pitr_engine::Error::Behind`] if it does not archive everything in time, and
    /// [`pitr_engine::Error::Refused`] if it can't archive;
    /// [`pitr_engine::Error::Lacks`] if the source's engine captures no commits; those of reading
    /// the repository.
    pub fn archive_now(
        &self,
        source: &SourceName,
        timeline: Option<TimelineId>,
        state: Option<PathBuf>,
    ) -> Result<()> {
        let (capture, live) = self.watched(source, timeline, state)?;
        Ok(capture.ask_to_archive(&self.engine_context(), &live)?)
    }

    /// The live source whose commits the timeline has, by what the repository knows of its place,
    /// and the capability of its engine to capture it.
    pub(crate) fn watched(
        &self,
        source: &SourceName,
        timeline: Option<TimelineId>,
        state: Option<PathBuf>,
    ) -> Result<(&dyn Capture, LiveSource)> {
        let archive = self.archive(source);
        let catalog = archive.catalog()?;
        let timeline = match timeline {
            None => archive.followed(&catalog)?,
            timeline => timeline,
        };
        let engine = match self.backups(source)?.backups.last() {
            Some(backup) => self.engines().named(&backup.engine)?,
            None => self.engines().default_engine()?,
        };
        let capture = engine.need_capture()?;
        let owners = archive.owners(&catalog)?;
        let owner = timeline.and_then(|timeline| owners.get(&timeline));
        // Before anything is archived, there is only one instance.
        let is_owner = |instance| owner.is_none_or(|owner| *owner == instance);
        let placed = archive.instances()?.into_iter().find(|placed| is_owner(placed.instance));
        let Some(placed) = placed else {
            let source = std::io::Error::from(std::io::ErrorKind::NotFound);
            let state = state.unwrap_or_default();
            return Err(Error::Engine(pitr_engine::Error::NoAnswer { state, source }));
        };
        let place = Located { given: placed.origin.given, resolved: placed.origin.resolved };
        Ok((capture, capture.source(&place, source.clone(), state)))
    }
}
