//! Building a file as of a plan.

use crate::build::{Builder, PlannedFile, Written, image_bytes};
use crate::error::{Error, Result};
use crate::history::History;
use crate::layout::{FilePlace, Finished, Layout, RestoreState, RestoreTarget, Unfinished};
use crate::plan::Plan;
use crate::rates;
use crate::sink::Sink;
use crate::staged::{OutputRules, StagedOutput, check_room};
use crate::stats::{Phases, RecoveryStats, Watch};
use crate::target::Point;
use pitr_archive::{Fingerprint, Merged};
use pitr_dedup::ChunkStore;
use pitr_format::FileId;
use pitr_objects::parallel;
use pitr_snapshot::{Snapshot, SnapshotReader};
use pitr_vfs::{Attributes, Clock, FileSystem, Spawn};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Settings of a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreOptions {
    /// Path of the result.
    pub output: PathBuf,
    /// Moves an existing output aside instead of refusing it. Nothing is deleted.
    pub force: bool,
    /// Reuses extents of the existing output whose hash matches the snapshot; the output is moved
    /// aside.
    pub delta: bool,
    /// Updates the existing output in place instead of building a new file. Its old state is lost
    /// from the first step on. Without an output, continues an interrupted update.
    pub in_place: bool,
    /// Memory for images of the log that wait for their extent, bytes. Further images go to a
    /// temporary file beside the output, which takes disk space.
    pub memory: usize,
    /// Number of threads; as many as there are cores if not set. The result does not depend on it.
    pub workers: Option<NonZeroUsize>,
    /// Restores only the files of these tables; all files if `None`.
    pub tables: Option<Vec<String>>,
    /// Runs the engine's own consistency check before the result is published.
    pub check: bool,
}

impl RestoreOptions {
    /// Memory for images that wait, unless it is set, bytes.
    pub const MEMORY: usize = 48 << 20;

    /// A result at `output`, which must not exist yet, by as many threads as there are cores.
    #[must_use]
    pub fn to(output: impl Into<PathBuf>) -> Self {
        let (output, memory) = (output.into(), Self::MEMORY);
        RestoreOptions {
            output,
            force: false,
            delta: false,
            in_place: false,
            memory,
            workers: None,
            tables: None,
            check: false,
        }
    }
}

/// The phases of a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// Reading the footers of the log.
    Index,
    /// Reading the images of the log. In a validation, checking its objects.
    Log,
    /// Writing the result from the snapshot and the images.
    Base,
    /// Replaying the logical records. Only if the log has some.
    Redo,
    /// The engine's consistency check.
    Check,
    /// Making the result durable and publishing it.
    Finish,
}

impl Phase {
    /// The name, as programs show it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Phase::Index => "index",
            Phase::Log => "log",
            Phase::Base => "base",
            Phase::Redo => "redo",
            Phase::Check => "check",
            Phase::Finish => "finish",
        }
    }
}

/// How far a restore has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The current part.
    pub phase: Phase,
    /// Units done: images of the log, extents of the result, bytes of log that were replayed, log
    /// objects of a validation.
    pub done: u64,
    /// Total number of units.
    pub total: u64,
}

/// The report of a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The state, what was read for it, and how long that took.
    pub stats: RecoveryStats,
    /// Files of the result.
    pub files: u64,
    /// Length of the result, bytes. For a folder, of all files together.
    pub bytes: u64,
    /// Fingerprint of a result that is one file. `None` for an empty file and for a folder.
    pub fingerprint: Option<Fingerprint>,
    /// Bytes of the snapshot that were there already: in the existing output, or in what an
    /// interrupted restore left.
    pub reused_bytes: u64,
    /// New names of the output and its companions, if they were moved aside.
    pub moved_aside: Vec<PathBuf>,
    /// Owner and permissions that a result of one file should have and that could not be set,
    /// because only root can change owners. Then a group may read the result only if that group
    /// could read the source.
    pub not_given: Option<Attributes>,
    /// Files that could not be read completely when the snapshot was taken: they are missing, or
    /// end in zeros. Relative paths.
    pub incomplete: Vec<PathBuf>,
    /// Files and folders whose owner could not be restored, because only root can change owners.
    pub kept_owners: u64,
    /// Damage that the restore went around, see [`History::other_way`].
    pub avoided: Vec<String>,
}

impl Restored {
    /// The state that was reached.
    #[must_use]
    pub fn reached(&self) -> Point {
        self.stats.reached
    }
}

/// The disk space that a restore takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Length of the result without its known holes, bytes.
    pub needed: u64,
    /// Free bytes of the output's file system, if known.
    pub free: Option<u64>,
}

/// What a restore reads before it writes anything.
pub(crate) struct Prepared {
    pub(crate) merged: Merged,
    pub(crate) base: Option<SnapshotReader>,
    /// Folders of a result that is a folder.
    folders: Option<Vec<PathBuf>>,
    pub(crate) files: Vec<PlannedFile>,
}

impl Prepared {
    /// Bytes that the result takes, and the images that wait for their extents.
    fn needed(&self, memory: usize) -> u64 {
        let images = Some(image_bytes(&self.merged)).filter(|bytes| *bytes > memory as u64);
        self.files.iter().fold(images.unwrap_or(0), |sum, planned| sum.saturating_add(planned.stored_bytes()))
    }

    fn is_folder(&self) -> bool {
        self.folders.is_some()
    }
}

/// The inputs of a restore, besides the plan and the output.
pub struct Restorer<'a> {
    /// The history that the plan was made from.
    pub history: &'a History,
    /// The chunks of the history's snapshots.
    pub chunks: &'a ChunkStore,
    /// How the engine's files are restored.
    pub target: &'a dyn RestoreTarget,
    /// The file system of the output.
    pub fs: &'a dyn FileSystem,
    /// The clock. It times the phases, and its time becomes part of the names of files moved aside.
    pub clock: &'a dyn Clock,
    /// Called with the progress, from several threads.
    pub progress: &'a (dyn Fn(Progress) + Sync),
}

impl<'a> Restorer<'a> {
    /// A restorer that uses the file system and the clock of the repository's handle, and reports
    /// no progress.
    #[must_use]
    pub fn new(history: &'a History, chunks: &'a ChunkStore, target: &'a dyn RestoreTarget) -> Self {
        let env = history.archive().objects().env();
        let (fs, clock) = (env.fs.as_ref(), env.clock.as_ref());
        Restorer { history, chunks, target, fs, clock, progress: &|_| {} }
    }
}

impl Restorer<'_> {
    /// Builds the state of `plan` at the output.
    ///
    /// The source is never touched, and an incomplete result never has the output's name (law 4).
    ///
    /// # Errors
    /// Those of [`StagedOutput::take`] about the output; [`Error::NoRoom`], [`Error::Io`];
    /// [`pitr_archive::Error::Logical`] in [`Error::Archive`] if a transaction of the state logged
    /// records that only its engine can apply, and the target does not replay them, before anything
    /// is written; [`Error::Redo`]; [`Error::NoTables`], [`Error::NoSuchTable`],
    /// [`Error::LogicalTables`]; [`Error::NoCheck`], [`Error::Inconsistent`]; those of the engine's
    /// [`RestoreTarget`]; those of reading the repository.
    pub fn restore(&self, plan: &Plan, options: &RestoreOptions) -> Result<Restored> {
        let restored = self.on_workers(options.workers, || self.build(plan, options))?;
        rates::record(self.history.archive().objects(), &restored);
        Ok(restored)
    }

    /// Runs `work` with this number of threads.
    pub(crate) fn on_workers<T: Send>(
        &self,
        workers: Option<NonZeroUsize>,
        work: impl FnOnce() -> Result<T> + Send,
    ) -> Result<T> {
        match workers.filter(|_| !self.spawn().is_inline()) {
            None => work(),
            Some(workers) => {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(workers.get());
                pool.build().map_err(Error::Workers)?.install(work)
            }
        }
    }

    fn build(&self, plan: &Plan, options: &RestoreOptions) -> Result<Restored> {
        let base = plan.snapshot.map_or_else(|| "nothing".to_owned(), |id| id.to_string());
        let (stop, ranges, log_bytes) = (plan.stop.get(), plan.pieces.len(), plan.stored_log_bytes);
        tracing::info!(base, stop, ranges, log_bytes, "restores");
        if options.check && self.target.consistency().is_none() {
            return Err(Error::NoCheck);
        }
        let force = options.force || options.delta || options.in_place;
        let rules = OutputRules { force, companions: self.target.companions() };
        let mut staged = StagedOutput::take(self.fs, &options.output, rules)?;
        let mut watch = Watch::start(self.clock);
        let mut phases = Phases::default();

        (self.progress)(Progress { phase: Phase::Index, done: 0, total: plan.pieces.len() as u64 });
        let prepared = self.prepare(plan, options.tables.as_deref())?;
        check_room(self.fs, &options.output, prepared.needed(options.memory), options.in_place)?;
        phases.index = watch.lap();

        // Writing begins here. A log that can't be restored was refused before (FAILURES 52).
        if options.in_place {
            staged.take_over(prepared.is_folder(), self.clock.now())?;
        }
        let mut restored = self.write(plan, options, prepared, &mut staged, (&mut watch, &mut phases));
        match &mut restored {
            Ok(restored) => {
                restored.moved_aside = staged.publish(self.clock.now())?;
                phases.finish += watch.lap();
                restored.stats.phases = phases;
            }
            Err(_) => {
                if let Some(kept) = staged.kept() {
                    let kept = kept.display();
                    tracing::warn!(
                        "the unfinished result is kept as {kept}; a restore to the same output continues with it"
                    );
                }
            }
        }
        restored
    }

    /// Builds the result under its temporary name. It is complete and durable on return.
    fn write(
        &self,
        plan: &Plan,
        options: &RestoreOptions,
        mut prepared: Prepared,
        staged: &mut StagedOutput<'_>,
        (watch, phases): (&mut Watch<'_>, &mut Phases),
    ) -> Result<Restored> {
        let files = std::mem::take(&mut prepared.files);
        let mut bytes = files.iter().map(|planned| planned.len).sum();
        let count = files.len() as u64;
        let paths: Vec<PathBuf> = files.iter().map(|planned| planned.place.path.clone()).collect();
        let (single, is_resumed) = match &prepared.folders {
            None => {
                let (file, is_resumed) = staged.resume_file()?;
                (Some(file), is_resumed)
            }
            Some(folders) => {
                let files: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
                let is_resumed = staged.resume_folder(folders, &files)?;
                staged.create_folders(folders)?;
                (None, is_resumed)
            }
        };
        // What is written is of use for the next attempt.
        staged.keep(true);
        let root = staged.partial().to_owned();
        let Prepared { merged, base, folders, .. } = &prepared;
        let builder = Builder {
            fs: self.fs,
            spawn: self.spawn(),
            root: &root,
            single,
            is_resumed,
            base: base.as_ref(),
            merged,
            mark: self.target.mark(),
            old: (options.delta && !options.in_place).then_some(options.output.as_path()),
        };
        let tick = self.ticker(Phase::Log, merged.survivors());
        let gathered = builder.gather(&files, &staged.spill_path(), options.memory, &tick)?;
        phases.log = watch.lap();

        let tick = self.ticker(Phase::Base, builder.extents(&files)?);
        let Written { sinks, base_bytes, reused_bytes } = builder.write(files, &gathered, &tick)?;
        drop(gathered);
        phases.base = watch.lap();

        let replayed = self.replay(plan, merged, &self.unfinished(plan, &prepared, &root))?;
        if replayed.records > 0 {
            bytes = self.measure(&root, &paths)?;
        }
        phases.redo = watch.lap();

        (self.progress)(Progress { phase: Phase::Finish, done: 0, total: 1 });
        sinks.values().try_for_each(Sink::cut)?;
        let fingerprint = if folders.is_none() { self.fingerprint(&prepared, &sinks)? } else { None };
        let Finished { incomplete, kept_owners } = self.finish(plan, &prepared, staged, &sinks)?;
        phases.finish = watch.lap();
        if options.check {
            self.check(plan, &prepared, staged, &sinks)?;
            phases.check = watch.lap();
        }
        let mut not_given = None;
        if folders.is_none() {
            not_given = staged.dress(self.snapshot(plan)?.and_then(|snapshot| snapshot.meta.attributes))?;
        }
        self.make_durable(&root, folders.is_some(), &sinks)?;
        drop(sinks);
        let logical_records = replayed.records;
        let read = RecoveryStats::of(plan, merged, parallel::threads(self.spawn()));
        Ok(Restored {
            stats: RecoveryStats { base_bytes, logical_records, ..read },
            files: count,
            bytes,
            fingerprint,
            reused_bytes,
            moved_aside: Vec::new(),
            not_given,
            incomplete,
            kept_owners,
            avoided: self.history.avoided().to_vec(),
        })
    }

    pub(crate) fn spawn(&self) -> Spawn {
        self.chunks.objects().env().spawn
    }

    /// Lets the engine complete the restore, then replaces the marks. Everything else is durable
    /// before that (FAILURES 32).
    fn finish(
        &self,
        plan: &Plan,
        prepared: &Prepared,
        staged: &mut StagedOutput<'_>,
        sinks: &BTreeMap<FileId, Sink<'_>>,
    ) -> Result<Finished> {
        let root = &staged.partial().to_owned();
        let unfinished = self.unfinished(plan, prepared, root);
        if self.target.mark().is_none() {
            return self.target.finish(&unfinished);
        }
        sinks.values().try_for_each(Sink::write_rest_of_head)?;
        let finished = self.target.finish(&unfinished)?;
        self.make_durable(root, prepared.folders.is_some(), sinks)?;
        // A sector that was written in part would be neither a mark nor the result.
        staged.keep(false);
        sinks.values().try_for_each(Sink::write_first_sector)?;
        Ok(finished)
    }

    fn unfinished<'r>(&'r self, plan: &Plan, prepared: &'r Prepared, root: &'r Path) -> Unfinished<'r> {
        Unfinished { fs: self.fs, path: root, base: prepared.base.as_ref(), reached: plan.reached }
    }

    /// Runs the engine's consistency check on the complete files. If it fails, the marks come back,
    /// and the result will be removed.
    fn check(
        &self,
        plan: &Plan,
        prepared: &Prepared,
        staged: &mut StagedOutput<'_>,
        sinks: &BTreeMap<FileId, Sink<'_>>,
    ) -> Result<()> {
        (self.progress)(Progress { phase: Phase::Check, done: 0, total: 1 });
        let check = self.target.consistency().ok_or(Error::NoCheck)?;
        let found = match check.check(&self.unfinished(plan, prepared, staged.partial())) {
            Ok(findings) if findings.is_empty() => return Ok(()),
            Ok(findings) => Error::Inconsistent { findings },
            Err(error) => error,
        };
        staged.keep(false);
        sinks.values().try_for_each(Sink::mark_again)?;
        Err(found)
    }

    fn make_durable(&self, root: &Path, is_folder: bool, sinks: &BTreeMap<FileId, Sink<'_>>) -> Result<()> {
        match is_folder {
            true => self.fs.sync_below(root).map_err(Error::io("sync", root)),
            false => sinks.values().try_for_each(Sink::sync),
        }
    }

    /// The space that the plan's result takes, or the files of some tables, and the free space.
    /// Reads footers, writes nothing.
    ///
    /// # Errors
    /// [`Error::NoRoom`], [`Error::NoFolder`]; [`Error::NoTables`], [`Error::NoSuchTable`]; those
    /// of reading the repository.
    pub fn room(&self, plan: &Plan, options: &RestoreOptions) -> Result<Room> {
        let needed = self.prepare(plan, options.tables.as_deref())?.needed(options.memory);
        Ok(Room { needed, free: check_room(self.fs, &options.output, needed, options.in_place)? })
    }

    pub(crate) fn prepare(&self, plan: &Plan, tables: Option<&[String]>) -> Result<Prepared> {
        let archive = self.history.archive();
        let mut merged = Merged::with_logical(archive, &plan.pieces, plan.redo_from, plan.stop)?;
        self.refuse_logical(&merged)?;
        if tables.is_some() && !merged.logical().is_empty() {
            return Err(Error::LogicalTables);
        }
        let base = self.base(plan)?;
        let only = match tables {
            None => None,
            Some(tables) => {
                let state = RestoreState { base: base.as_ref(), changes: merged.files(), log: &merged };
                let files = BTreeSet::from_iter(self.target.files_of(tables, &state)?);
                merged.keep_only(&files);
                Some(files)
            }
        };
        let state = RestoreState { base: base.as_ref(), changes: merged.files(), log: &merged };
        let (folders, places) = match self.target.lay_out(&state)? {
            Layout::File(file) => (None, vec![FilePlace::new(file, PathBuf::new())]),
            Layout::Folder(layout) => {
                layout.check(merged.files())?;
                (Some(layout.folders), layout.files)
            }
        };
        let is_wanted = |place: &FilePlace| only.as_ref().is_none_or(|only| only.contains(&place.file));
        let planned = places.into_iter().filter(is_wanted).map(|place| {
            let before = base.as_ref().map_or(Ok(0), |base| base.file(place.file).map(|shape| shape.len));
            let before = before.or_else(|e| if base_lacks(&e) { Ok(0) } else { Err(e) })?;
            let len = merged.files().get(&place.file).map_or(before, |change| change.len_after(before));
            Ok(PlannedFile { place, before, len })
        });
        let files = planned.collect::<Result<_>>()?;
        Ok(Prepared { merged, base, folders, files })
    }

    /// The fingerprint of a result of one file, of which everything but the head is written.
    fn fingerprint(
        &self,
        prepared: &Prepared,
        sinks: &BTreeMap<FileId, Sink<'_>>,
    ) -> Result<Option<Fingerprint>> {
        let Some((file, sink)) = sinks.first_key_value() else { return Ok(None) };
        let changed = prepared.merged.files().get(file).and_then(|change| change.block_bytes);
        let of_base = || prepared.base.as_ref()?.file(*file).ok().map(|shape| shape.block_bytes);
        fingerprint(sink, changed.or_else(of_base))
    }

    fn snapshot(&self, plan: &Plan) -> Result<Option<&Snapshot>> {
        let Some(id) = plan.snapshot else { return Ok(None) };
        let snapshot = self.history.snapshots().iter().find(|snapshot| snapshot.id == id);
        snapshot.ok_or(Error::NoBaseSnapshot { stop: plan.stop }).map(Some)
    }

    pub(crate) fn base(&self, plan: &Plan) -> Result<Option<SnapshotReader>> {
        let Some(snapshot) = self.snapshot(plan)? else { return Ok(None) };
        let manifest = snapshot.manifest(self.chunks)?;
        Ok(Some(SnapshotReader::open(self.chunks.clone(), manifest)))
    }

    /// Counts units of a phase. Reports every 64th, so that the callback costs nothing.
    pub(crate) fn ticker(&self, phase: Phase, total: u64) -> impl Fn() + Sync {
        let done = AtomicU64::new(0);
        move || {
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            if done == total || done.is_multiple_of(64) {
                (self.progress)(Progress { phase, done, total });
            }
        }
    }
}

fn fingerprint(sink: &Sink<'_>, block_bytes: Option<u32>) -> Result<Option<Fingerprint>> {
    let (file, head) = (sink.file()?, sink.head());
    // A replay of logical records may have lengthened the file.
    let len = file.len().map_err(Error::io("measure", sink.path()))?;
    let Some(block_bytes) = block_bytes.filter(|bytes| *bytes > 0 && len > 0) else { return Ok(None) };
    let read = |number: u64, out: &mut [u8]| -> io::Result<()> {
        let from = number * u64::from(block_bytes);
        let rest = (len - from).min(out.len() as u64) as usize;
        out.fill(0);
        file.read_exact_at(&mut out[..rest], from)?;
        if from < head.len() as u64 {
            let of_head = &head[from as usize..];
            let known = of_head.len().min(rest);
            out[..known].copy_from_slice(&of_head[..known]);
        }
        Ok(())
    };
    let found = Fingerprint::of(block_bytes, len.div_ceil(u64::from(block_bytes)), read);
    found.map(Some).map_err(Error::io("read", sink.path()))
}

fn base_lacks(error: &pitr_snapshot::Error) -> bool {
    matches!(error, pitr_snapshot::Error::NoFile { .. })
}
