//! An open repository and its operations.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use pitr_archive::{Archive, NamedPoint, PointName, Points, RestoredState};
use pitr_codec::KeyWrap;
use pitr_dedup::ChunkStore;
use pitr_engine::{
    Capture, CaptureOptions, Engine, EngineContext, Events, Fleet, LiveSource, Registry, TakeOptions, Taken,
};
use pitr_format::{SourceName, TimelineId, Timestamp};
use pitr_objects::{Objects, Repository, Sources};
use pitr_recovery::{
    History, NewPoint, Plan, Point, Progress, Recovery, RecoveryMode, RecoveryRequest, RecoveryStats,
    RestoreOptions, RestoreTarget, Restored, Restorer, Room, Target, Unreachable,
};
use pitr_snapshot::Snapshot;
use pitr_vfs::{Clock, Env};

use crate::watching::{Watching, log_events};
use crate::{BackupMetadata, Backups, Error, PitrConfig, PruneOptions, Result};

/// An open repository.
#[derive(Debug, Clone)]
pub struct Pitr {
    objects: Objects,
    repository: Repository,
    codec: pitr_codec::Codec,
    engines: Registry,
}

impl Pitr {
    /// Creates a repository.
    pub fn init(config: &PitrConfig) -> Result<Self> {
        Self::make(config, |objects, now| objects.init_repository(now))
    }

    /// Creates an encrypted repository that `by` opens.
    pub fn init_encrypted(config: &PitrConfig, by: &dyn KeyWrap) -> Result<Self> {
        Self::make(config, |objects, now| objects.init_encrypted(now, by))
    }

    fn make(
        config: &PitrConfig,
        init: impl FnOnce(&Objects, Timestamp) -> pitr_objects::Result<Repository>,
    ) -> Result<Self> {
        config.validate()?;
        let env = Env::system();
        let objects = Objects::create(&config.location()?, config.mode, &env)?;
        let repository = init(&objects, env.clock.now())?;
        Ok(Self::new(objects, repository, config))
    }

    /// Opens a repository that is not encrypted.
    pub fn open(config: &PitrConfig) -> Result<Self> {
        Self::open_with(config, None)
    }

    /// Opens a repository. `by` is the passphrase or key of an encrypted one. A plain repository is
    /// refused if `by` is given: a plain repository put in place of an encrypted one must not
    /// receive data.
    pub fn open_with(config: &PitrConfig, by: Option<&dyn KeyWrap>) -> Result<Self> {
        config.validate()?;
        let objects = Objects::open(&config.location()?, &Env::system())?;
        let repository = objects.open_repository()?;
        match by {
            Some(by) => objects.unlock(&repository, &[by])?,
            None if repository.encrypted => {
                return Err(pitr_objects::Error::Locked { place: objects.place().to_owned() }.into());
            }
            None => {}
        }
        Ok(Self::new(objects, repository, config))
    }

    fn new(objects: Objects, repository: Repository, config: &PitrConfig) -> Self {
        Pitr { objects, repository, codec: config.codec, engines: crate::engines::built_in() }
    }

    /// A repository that is open already. Its files, clock, random numbers and threads are those of
    /// the handle: a test passes a simulated machine. `codec` compresses what is written.
    ///
    /// # Errors
    /// [`Error::Objects`] if it is no repository, or encrypted and not unlocked.
    pub fn with_objects(objects: Objects, codec: pitr_codec::Codec) -> Result<Self> {
        let repository = objects.open_repository()?;
        if repository.encrypted && objects.keys().is_none() {
            return Err(pitr_objects::Error::Locked { place: objects.place().to_owned() }.into());
        }
        Ok(Pitr { objects, repository, codec, engines: crate::engines::built_in() })
    }

    /// The repository's identity.
    #[must_use]
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The repository's objects.
    #[must_use]
    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> &dyn Clock {
        self.objects.env().clock.as_ref()
    }

    /// The engines.
    #[must_use]
    pub fn engines(&self) -> &Registry {
        &self.engines
    }

    /// Adds an engine.
    ///
    /// # Errors
    /// [`Error::Engine`] if one of its name is registered already.
    pub fn register(&mut self, engine: Arc<dyn Engine>) -> Result<()> {
        Ok(self.engines.register(engine)?)
    }

    /// Adds an engine, and makes it the default: it restores a source that has a log and no
    /// snapshot yet, and gets paths that no engine detects.
    ///
    /// # Errors
    /// [`Error::Engine`] if one of its name is registered already.
    pub fn register_default(&mut self, engine: Arc<dyn Engine>) -> Result<()> {
        Ok(self.engines.register_default(engine)?)
    }

    /// Compression of what is written.
    #[must_use]
    pub fn codec(&self) -> pitr_codec::Codec {
        self.codec
    }

    /// A handle for one task of a reader. It lists the sources once, now, and reads each of their
    /// small objects once: on a remote store each of these is a request. Nothing that it lists is
    /// deleted while it lives.
    ///
    /// # Errors
    /// [`Error::Objects`].
    pub fn view(&self) -> Result<Self> {
        Ok(Pitr { objects: self.objects.view()?, ..self.clone() })
    }

    /// A handle that reads at most this many bytes a second from the repository.
    #[must_use]
    pub fn at_rate(&self, bytes_per_second: std::num::NonZeroU64) -> Self {
        Pitr { objects: self.objects.at_rate(bytes_per_second), ..self.clone() }
    }

    /// Names of the repository's sources. Logs a warning for each unreadable source.
    pub fn sources(&self) -> Result<Vec<SourceName>> {
        let Sources { names, unreadable } = self.objects.readable_sources()?;
        for error in unreadable {
            tracing::warn!("skipping an unreadable source: {error}");
        }
        Ok(names)
    }

    /// The source of this name, or the only one if `name` is `None`.
    pub fn source(&self, name: Option<&str>) -> Result<SourceName> {
        let Sources { names, unreadable } = self.objects.readable_sources()?;
        let is_there = |name: &str| names.iter().any(|n| n.as_str() == name);
        for error in unreadable {
            // An unreadable name may be the requested one, or that of a second source. The path of
            // a folder that can't be listed contains the source's name.
            let is_hidden = matches!(error, pitr_objects::Error::Hidden { .. });
            if !is_hidden && !name.is_some_and(is_there) {
                return Err(error.into());
            }
            tracing::warn!("skipping an unreadable source: {error}");
        }
        let repository = || self.objects.place().to_owned();
        let listed = || names.iter().map(SourceName::as_str).collect::<Vec<_>>().join(", ");
        match (name, names.as_slice()) {
            (_, []) => Err(Error::NoSource { repository: repository() }),
            (None, [only]) => Ok(only.clone()),
            (None, _) => Err(Error::WhichSource { repository: repository(), names: listed() }),
            (Some(name), names) => names.iter().find(|n| n.as_str() == name).cloned().ok_or_else(|| {
                Error::UnknownSource { repository: repository(), name: name.to_owned(), names: listed() }
            }),
        }
    }

    /// The only source.
    pub fn only_source(&self) -> Result<SourceName> {
        self.source(None)
    }

    /// The default name of a source: its file's name without extension, or its folder's name.
    pub fn source_for(database: &Path) -> Result<SourceName> {
        let unnamed = || Error::Unnamed { path: database.to_owned() };
        // A file's name has an extension; a folder's name may contain a dot.
        let name = if database.is_dir() { database.file_name() } else { database.file_stem() };
        let name = name.and_then(|name| name.to_str()).ok_or_else(unnamed)?;
        SourceName::from_lossy(name).ok_or_else(unnamed)
    }

    /// The name of a source in a watched folder, from its path below that folder: `a/app.db` is
    /// `a.app`.
    ///
    /// # Errors
    /// [`Error::Unnamed`] if no name can be derived from the path.
    pub fn source_below(relative: &Path) -> Result<SourceName> {
        let unnamed = || Error::Unnamed { path: relative.to_owned() };
        let parts: Vec<_> =
            relative.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
        SourceName::from_lossy(&parts.join(".")).ok_or_else(unnamed)
    }

    /// The history of a source up to `timeline`, or up to its newest timeline.
    pub fn history(&self, source: &SourceName, timeline: Option<TimelineId>) -> Result<History> {
        Ok(History::load(&self.objects, source, timeline)?)
    }

    /// The chunks. A damaged index object affects only snapshots that need it.
    fn chunks_to_read(&self) -> Result<ChunkStore> {
        let (chunks, damaged) = ChunkStore::open_readable(self.objects.clone())?;
        for (_, error) in damaged {
            tracing::warn!("{error}; snapshots that do not need it can be restored");
        }
        Ok(chunks)
    }

    /// How the files of a plan are restored, according to its engine.
    fn restore_target(&self, history: &History, plan: &Plan) -> Result<&dyn RestoreTarget> {
        Ok(self.engine_of(history, plan)?.need_restore_target()?)
    }

    /// The engine that took the snapshot of a plan. For a log without a snapshot, this is the
    /// engine of the source's other snapshots, or the default engine.
    pub(crate) fn engine_of(&self, history: &History, plan: &Plan) -> Result<&dyn Engine> {
        let snapshots = history.snapshots();
        let of_plan = snapshots.iter().find(|snapshot| Some(snapshot.id) == plan.snapshot);
        Ok(match of_plan.or(snapshots.last()) {
            Some(snapshot) => self.engines.named(&snapshot.meta.engine)?,
            None => self.engines.default_engine()?,
        })
    }

    /// Watches a database in a thread of its own, under its default name ([`source_for`]): from the
    /// return on, every commit is captured, and archived about once a second. Problems are logged
    /// as warnings, and retried.
    ///
    /// [`fleet`](Self::fleet) has all settings, and watches many databases.
    ///
    /// # Errors
    /// [`Error::Unnamed`]; [`Error::Engine`] if the engine captures no commits; those of the
    /// engine; [`Error::Thread`].
    ///
    /// [`source_for`]: Self::source_for
    pub fn watch(&self, database: impl AsRef<Path>) -> Result<Watching> {
        let engine = self.engines.detect(database.as_ref())?;
        let live = self.live_source(engine.need_capture()?, database.as_ref())?;
        let mut fleet = self.fleet(engine, CaptureOptions::default())?;
        fleet.add(live.clone(), log_events(&live.source))?;
        Watching::start(live.source, fleet)
    }

    /// Takes a snapshot of a database or a folder, under its default name
    /// ([`source_for`](Self::source_for)). Of a database it also archives every commit that the
    /// database's log still holds.
    ///
    /// [`capture_once`](Self::capture_once) and [`take_snapshot`](Self::take_snapshot) have all
    /// settings.
    ///
    /// # Errors
    /// As these; [`Error::Unnamed`].
    pub fn backup(&self, path: impl AsRef<Path>) -> Result<Snapshot> {
        let path = path.as_ref();
        let engine = self.engines.detect(path)?;
        let Some(capture) = engine.capture() else {
            return Ok(self
                .take_snapshot(engine, &Self::source_for(path)?, path, TakeOptions::default())?
                .snapshot);
        };
        let live = self.live_source(capture, path)?;
        self.capture_once(engine, &live, CaptureOptions::default(), false, log_events(&live.source))
    }

    fn live_source(&self, capture: &dyn Capture, path: &Path) -> Result<LiveSource> {
        let located = capture.locate(path)?;
        let name = Self::source_for(&located.resolved)?;
        Ok(capture.source(&located, name, None))
    }

    /// Restores the state at `target` to `output`, which must not exist yet.
    ///
    /// # Errors
    /// [`pitr_recovery::Error::TargetUnreachable`] if the target is not exactly a state that can be
    /// restored; those of [`restore`](Self::restore).
    pub fn restore_to(
        &self,
        source: &SourceName,
        target: &Target,
        output: impl AsRef<Path>,
    ) -> Result<Restored> {
        let (history, plan, _) = self.history(source, None)?.into_plan(target, false)?;
        self.restore(&history, &plan, &RestoreOptions::to(output.as_ref()), &|_| {})
    }

    /// Creates a named recovery point: its state stays restorable until the point is deleted,
    /// whatever [`prune`](Self::prune) removes. [`NewPoint::latest`] names the last archived
    /// commit; [`archive_now`](Self::archive_now) archives the commits of a running watcher first.
    ///
    /// # Errors
    /// [`pitr_recovery::Error::PointExists`] if the name is in use;
    /// [`pitr_recovery::Error::TargetUnreachable`] if the target is not exactly a restorable state;
    /// those of [`create_point`](pitr_recovery::create_point).
    pub fn create_point(&self, source: &SourceName, new: &NewPoint) -> Result<NamedPoint> {
        Ok(pitr_recovery::create_point(&self.objects, source, new)?)
    }

    /// The named recovery points of a source, also damaged ones.
    pub fn points(&self, source: &SourceName) -> Result<Points> {
        Ok(self.archive(source).points()?)
    }

    /// The recovery point of this name. To restore it, take [`history`](Self::history) of its
    /// timeline, and `Target::at(&point)`.
    ///
    /// # Errors
    /// [`Error::UnknownPoint`], which names the nearest names.
    pub fn point(&self, source: &SourceName, name: &PointName) -> Result<NamedPoint> {
        match self.archive(source).named_point(name)? {
            Some(point) => Ok(point),
            None => Err(self.unknown_point(source, name)?),
        }
    }

    /// Deletes a recovery point. A later [`prune`](Self::prune) may remove its state.
    ///
    /// # Errors
    /// [`Error::UnknownPoint`], which names the nearest names.
    pub fn delete_point(&self, source: &SourceName, name: &PointName) -> Result<()> {
        match self.archive(source).delete_point(name)? {
            true => Ok(()),
            false => Err(self.unknown_point(source, name)?),
        }
    }

    pub(crate) fn archive(&self, source: &SourceName) -> Archive {
        Archive::new(self.objects.clone(), source.clone())
    }

    fn unknown_point(&self, source: &SourceName, name: &PointName) -> Result<Error> {
        let known = self.points(source)?.points;
        let near = crate::near::nearest(name.as_str(), known.iter().map(|point| point.name.as_str()));
        Ok(Error::UnknownPoint { source_name: source.clone(), name: name.clone(), near })
    }

    /// Builds the files of a source as of `plan`. If something that the plan needs is damaged or
    /// missing, it takes another way to the same state ([`History::other_way`]). `progress` is
    /// called from several threads.
    ///
    /// # Errors
    /// [`Error::Engine`] if the source's engine is not registered or restores no files; those of
    /// [`Restorer::restore`].
    pub fn restore(
        &self,
        history: &History,
        plan: &Plan,
        options: &RestoreOptions,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Restored> {
        self.around_damage(history, plan, |history, plan| {
            let restored =
                self.with_restorer(history, plan, progress, |restorer| restorer.restore(plan, options))?;
            Self::remember(history, &restored);
            Ok(restored)
        })
    }

    /// Runs `work` for a plan. If it ends with damage, runs it for each other plan for the same
    /// state. Of several damages the first is returned.
    fn around_damage<T>(
        &self,
        history: &History,
        plan: &Plan,
        work: impl Fn(&History, &Plan) -> Result<T>,
    ) -> Result<T> {
        let first = match work(history, plan) {
            Err(Error::Recovery(damage)) => damage,
            other => return other,
        };
        let mut next = history.other_way(plan, &first);
        while let Some((history, plan)) = next {
            next = match work(&history, &plan) {
                Err(Error::Recovery(damage)) => history.other_way(&plan, &damage),
                other => return other,
            };
        }
        Err(first.into())
    }

    /// Plans a recovery of a source and carries it out: restores all files or those of some tables,
    /// or checks the log up to the target. `progress` is called from several threads.
    ///
    /// # Errors
    /// [`pitr_recovery::Error::RtoExceeded`] before anything is written, if the estimate exceeds
    /// the request's objective; those of [`restore`](Self::restore) and [`Restorer::recover`].
    pub fn recover(
        &self,
        source: &SourceName,
        request: &RecoveryRequest,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Recovery> {
        let history = History::load_for(&self.objects, source, &request.target)?;
        let recover = |history: &History, plan: &Plan, instead: &Option<Unreachable>| {
            let recovery = self.with_restorer(history, plan, progress, |restorer| {
                restorer.carry_out(plan.clone(), instead.clone(), request)
            })?;
            if let Some(restored) = &recovery.restored {
                Self::remember(history, restored);
            }
            Ok(recovery)
        };
        if request.mode == RecoveryMode::ValidationOnly {
            let (plan, instead) = history.plan_or_before(&request.target, request.or_before)?;
            return recover(&history, &plan, &instead);
        }
        let (history, plan, instead) = history.into_plan(&request.target, request.or_before)?;
        self.around_damage(&history, &plan, |history, plan| recover(history, plan, &instead))
    }

    /// Checks the log of a plan, and the manifest of its snapshot: every object, frame, batch and
    /// record. Writes nothing.
    ///
    /// # Errors
    /// The first fault found: those of [`Restorer::validate`].
    pub fn validate(
        &self,
        history: &History,
        plan: &Plan,
        workers: Option<NonZeroUsize>,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<RecoveryStats> {
        self.with_restorer(history, plan, progress, |restorer| restorer.validate(plan, workers))
    }

    /// Runs `work` with a restorer for a plan.
    pub(crate) fn with_restorer<T, E>(
        &self,
        history: &History,
        plan: &Plan,
        progress: &(dyn Fn(Progress) + Sync),
        work: impl FnOnce(&Restorer<'_>) -> Result<T, E>,
    ) -> Result<T>
    where
        Error: From<E>,
    {
        let (chunks, target) = (&self.chunks_to_read()?, self.restore_target(history, plan)?);
        Ok(work(&Restorer { progress, ..Restorer::new(history, chunks, target) })?)
    }

    /// Records a restored state, so that its output is known when it is watched as this source.
    fn remember(history: &History, restored: &Restored) {
        let Some(fingerprint) = restored.fingerprint else { return };
        let Point { timeline, lsn, tx, time, .. } = restored.reached();
        let state = RestoredState { timeline, lsn, tx, time, fingerprint };
        // The output is complete and correct even without this record.
        if let Err(error) = history.archive().state_restored(&state) {
            tracing::warn!(
                "this restore could not be recorded in the repository: {error}; if the output is later watched as this source, it begins after a gap"
            );
        }
    }

    /// The space that a restore of `plan` takes, and the free space at its output, in bytes. Fails
    /// if the free space is smaller. Writes nothing.
    ///
    /// # Errors
    /// Those of [`restore`](Self::restore), before anything is written.
    pub fn room(&self, history: &History, plan: &Plan, options: &RestoreOptions) -> Result<Room> {
        self.with_restorer(history, plan, &|_| {}, |restorer| restorer.room(plan, options))
    }

    /// The snapshots of a source.
    pub fn backups(&self, source: &SourceName) -> Result<Backups> {
        let roots = pitr_snapshot::load_all(&self.objects, source)?;
        let backups = roots.snapshots.iter().map(|root| BackupMetadata::of(root, &self.objects)).collect();
        Ok(Backups { backups, damaged: roots.damaged.into_iter().map(|root| root.error.into()).collect() })
    }

    /// Takes a snapshot of a source without a log, such as a folder.
    ///
    /// # Errors
    /// [`Error::Engine`] if the engine takes none; those of the engine.
    pub fn take_snapshot(
        &self,
        engine: &dyn Engine,
        name: &SourceName,
        path: &Path,
        options: TakeOptions,
    ) -> Result<Taken> {
        let options = TakeOptions { codec: self.codec, ..options };
        Ok(engine.need_take_snapshot()?.take(&self.engine_context(), name, path, options)?)
    }

    /// Checks the objects of the repository. `progress` is called from several threads.
    pub fn verify(
        &self,
        options: pitr_verify::Options,
        progress: &(dyn Fn(pitr_verify::Progress) + Sync),
    ) -> Result<pitr_verify::Report> {
        Ok(pitr_verify::verify(&self.objects, options, progress)?)
    }

    /// Deletes what the policy does not keep, or reports what it would delete.
    ///
    /// # Errors
    /// [`Error::Prune`]; [`Error::Config`] if an option is invalid.
    pub fn prune(&self, options: PruneOptions) -> Result<pitr_prune::Report> {
        options.validate()?;
        let PruneOptions { policy, waste_percent_max, execute } = options;
        let max_waste = f64::from(waste_percent_max) / 100.0;
        let pruner = pitr_prune::Pruner::new(self.objects.clone(), policy)?.max_waste(max_waste);
        let now = self.clock().now();
        Ok(if execute { pruner.execute(now)? } else { pruner.plan(now)? })
    }

    /// Takes one snapshot of a live source, and archives every commit up to it. With `full` it
    /// reads the whole source.
    ///
    /// # Errors
    /// [`Error::Engine`] if the engine captures no commits, or if another process captures the
    /// source ([`pitr_engine::Error::Watched`]); those of the engine.
    pub fn capture_once(
        &self,
        engine: &dyn Engine,
        source: &LiveSource,
        options: CaptureOptions,
        full: bool,
        events: Events,
    ) -> Result<Snapshot> {
        let options = CaptureOptions { codec: self.codec, ..options };
        Ok(engine.need_capture()?.backup(self.engine_context(), source, options, full, events)?)
    }

    /// A fleet that watches any number of an engine's live sources with a fixed number of threads.
    ///
    /// # Errors
    /// [`Error::Engine`] if the engine captures no commits; those of the engine.
    pub fn fleet(&self, engine: &dyn Engine, options: CaptureOptions) -> Result<Box<dyn Fleet>> {
        let options = CaptureOptions { codec: self.codec, ..options };
        Ok(engine.need_capture()?.fleet(self.engine_context(), options)?)
    }

    pub(crate) fn engine_context(&self) -> EngineContext {
        EngineContext::new(&self.objects, &self.repository)
    }
}

#[cfg(feature = "directory")]
#[cfg(test)]
mod tests {
    use super::*;
    use crate::ConfigError;
    use pitr_directory::Directory;
    use pitr_prune::Policy;
    use std::num::NonZeroU32;
    use std::path::PathBuf;

    #[test]
    fn the_percentage_of_waste_decides_what_is_repacked_and_cannot_exceed_100() {
        let dir = tempfile::tempdir().unwrap();
        let (repository, folder) = (dir.path().join("repository"), dir.path().join("folder"));
        let pitr = Pitr::init(&PitrConfig::at(&repository)).unwrap();
        std::fs::create_dir(&folder).unwrap();
        let source = SourceName::new("folder").unwrap();
        let snapshot = || pitr.take_snapshot(&Directory, &source, &folder, TakeOptions::default()).unwrap();
        // Threads pack the files, so one pack of two kinds needs many files of each.
        let files: Vec<PathBuf> = (0..64).map(|n| folder.join(format!("{n:02}"))).collect();
        for file in &files {
            let content: [u8; 1 << 12] = Env::system().random_bytes().unwrap();
            std::fs::write(file, content).unwrap();
        }
        snapshot();
        files.iter().step_by(2).for_each(|file| std::fs::remove_file(file).unwrap());
        snapshot();
        let policy = Policy { keep_snapshots: Some(NonZeroU32::MIN), ..Policy::default() };
        let plan = |percent| pitr.prune(PruneOptions::dry_run(policy.clone()).waste_percent_max(percent));
        let worn = |percent| plan(percent).unwrap().packs.worn;
        assert!(worn(0) > 0);
        assert_eq!(worn(100), 0);
        for execute in [false, true] {
            let options = PruneOptions::dry_run(policy.clone()).waste_percent_max(101).execute(execute);
            let refused = pitr.prune(options);
            assert!(matches!(refused, Err(Error::Config(ConfigError::WastePercent(101)))), "{refused:?}");
        }
    }
}
