//! Building a file as of a plan.

use crate::build::{BaseWriter, Sink, write_images};
use crate::error::{Error, Result};
use crate::history::History;
use crate::output::{Place, Published, check_room};
use crate::plan::Plan;
use crate::target::Point;
use pitr_archive::{Fingerprint, Merged};
use pitr_dedup::ChunkStore;
use pitr_format::{FileId, TimelineId};
use pitr_snapshot::{Snapshot, SnapshotId, SnapshotReader};
use pitr_vfs::{Access, Attributes, Clock, File, FileSystem};
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Settings of a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreOptions {
    /// Where the result goes.
    pub output: PathBuf,
    /// Move aside what stands there instead of refusing. Nothing is deleted.
    pub force: bool,
    /// Take from what stands at the output whatever is still as the snapshot has it, as its hash tells and nothing else;
    /// what stood there is moved aside.
    pub delta: bool,
    /// Number of threads; as many as there are cores if not set. The result does not depend on it.
    pub workers: Option<NonZeroUsize>,
}

/// The parts of a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// Reading the footers of the log.
    Index,
    /// Writing what stays of the snapshot.
    Base,
    /// Writing what the log holds.
    Log,
    /// Making it durable and giving it its name.
    Finish,
}

/// How far a restore has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The part that is under way.
    pub phase: Phase,
    /// Units done: extents of the base, images of the log.
    pub done: u64,
    /// Units in all.
    pub total: u64,
}

/// How long each part took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Phases {
    /// Reading the footers.
    pub index: Duration,
    /// Writing the base.
    pub base: Duration,
    /// Writing the images.
    pub log: Duration,
    /// Syncing and publishing.
    pub finish: Duration,
}

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The snapshot that it began from; `None` for the empty base.
    pub snapshot: Option<SnapshotId>,
    /// The timeline of the state.
    pub timeline: TimelineId,
    /// The state.
    pub reached: Point,
    /// Length of the result, bytes.
    pub bytes: u64,
    /// What the result looks like; `None` if it is empty.
    pub fingerprint: Option<Fingerprint>,
    /// Bytes written that came from the snapshot.
    pub base_bytes: u64,
    /// Of these, bytes that stood at the output already.
    pub reused_bytes: u64,
    /// Bytes of log that the archive holds between the snapshot and the state, decoded.
    pub wal_bytes: u64,
    /// Committed images in that log.
    pub records: u64,
    /// Threads that worked on it.
    pub workers: usize,
    /// How long each part took.
    pub phases: Phases,
    /// What stood at the output, under its new names.
    pub moved_aside: Vec<PathBuf>,
    /// Owner and permissions that the result should have and could not be given: only root gives files away. Then it is
    /// readable by no group that the source was not readable by.
    pub not_given: Option<Attributes>,
}

/// The room that a restore takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Length of the result, bytes.
    pub needed: u64,
    /// Bytes that can be stored in the output's folder, if that is known.
    pub free: Option<u64>,
}

/// What was read of a plan before anything is written.
struct Prepared {
    merged: Merged,
    base: Option<SnapshotReader>,
    file: FileId,
    /// Length of the file in the snapshot, bytes.
    before: u64,
    /// Length of the result, bytes.
    len: u64,
}

/// What a restore works with.
pub struct Restorer<'a> {
    /// The history that the plan was made from.
    pub history: &'a History,
    /// The chunks of its snapshots.
    pub chunks: &'a ChunkStore,
    /// The file system of the output.
    pub fs: &'a dyn FileSystem,
    /// The clock that phases are timed with, and that names what is moved aside.
    pub clock: &'a dyn Clock,
    /// Is told how far it is, from several threads.
    pub progress: &'a (dyn Fn(Progress) + Sync),
}

impl Restorer<'_> {
    /// Builds the state of `plan` at the output.
    ///
    /// The database that is being protected is never touched, and a half built file never bears the output's name
    /// (law 4).
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Locked`], [`Error::Io`] about the output; [`pitr_archive::Error::Logical`] in
    /// [`Error::Archive`] if a transaction of the state logged records that only its engine can apply, before anything is
    /// written; those of reading the repository.
    pub fn restore(&self, plan: &Plan, options: &RestoreOptions) -> Result<Restored> {
        match options.workers {
            None => self.build(plan, options),
            Some(workers) => {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(workers.get());
                pool.build().map_err(Error::Workers)?.install(|| self.build(plan, options))
            }
        }
    }

    fn build(&self, plan: &Plan, options: &RestoreOptions) -> Result<Restored> {
        let base = plan.snapshot.map_or_else(|| "nothing".to_owned(), |id| id.to_string());
        let (stop, ranges, log_bytes) = (plan.stop.get(), plan.pieces.len(), plan.stored_log_bytes);
        tracing::info!(base, stop, ranges, log_bytes, "restores");
        let force = options.force || options.delta;
        let old = if options.delta { self.standing(options)? } else { None };
        let place = Place::take(self.fs, &options.output, force)?;
        let mut watch = Watch { clock: self.clock, last: self.clock.monotonic() };
        let mut phases = Phases::default();

        (self.progress)(Progress { phase: Phase::Index, done: 0, total: plan.pieces.len() as u64 });
        let Prepared { merged, base, file, before, len } = self.prepare(plan)?;
        check_room(self.fs, &options.output, len)?;
        // From here on something is written. A log that can't be restored was refused before (FAILURES 52).
        let output = place.create()?;
        let change = merged.files().get(&file);
        phases.index = watch.lap();

        let sink = Sink::new(output.file(), len, change).map_err(output.failed("lengthen"))?;
        let failed = |source| output.failed("write")(source);
        let mut reused_bytes = 0;
        if let Some(base) = base.as_ref().filter(|_| before > 0) {
            let total = base.extents(file)?;
            let tick = self.ticker(Phase::Base, total);
            let replaced = merged.blocks(file);
            reused_bytes =
                BaseWriter { sink: &sink, base, file, change, replaced, failed: &failed, tick: &tick }
                    .write(old.as_deref())?;
        }
        let base_bytes = sink.written();
        phases.base = watch.lap();

        write_images(&sink, &merged, &failed, &self.ticker(Phase::Log, merged.survivors()))?;
        phases.log = watch.lap();

        (self.progress)(Progress { phase: Phase::Finish, done: 0, total: 1 });
        let head = sink.finish().map_err(output.failed("cut"))?;
        let block_bytes = match change.and_then(|change| change.block_bytes) {
            None => base.as_ref().and_then(|base| base.file(file).ok()).map(|shape| shape.block_bytes),
            known => known,
        };
        let fingerprint =
            fingerprint(output.file(), &head, len, block_bytes).map_err(output.failed("read"))?;
        let attributes = self.snapshot(plan)?.and_then(|snapshot| snapshot.meta.attributes);
        let Published { moved_aside, not_given } =
            output.publish(&head, attributes, force, self.clock.now())?;
        phases.finish = watch.lap();
        Ok(Restored {
            snapshot: plan.snapshot,
            timeline: plan.reached.timeline,
            reached: plan.reached,
            bytes: len,
            fingerprint,
            base_bytes,
            reused_bytes,
            wal_bytes: merged.log_bytes(),
            records: merged.images(),
            workers: rayon::current_num_threads(),
            phases,
            moved_aside,
            not_given,
        })
    }

    /// The room that the plan's result takes, and what there is. Reads footers; writes nothing.
    ///
    /// # Errors
    /// [`Error::NoRoom`], [`Error::NoFolder`]; those of reading the repository.
    pub fn room(&self, plan: &Plan, output: &Path) -> Result<Room> {
        let needed = self.prepare(plan)?.len;
        Ok(Room { needed, free: check_room(self.fs, output, needed)? })
    }

    fn prepare(&self, plan: &Plan) -> Result<Prepared> {
        let merged = Merged::new(self.history.archive(), &plan.pieces, plan.redo_from, plan.stop)?;
        let base = self.base(plan)?;
        let file = only_file(base.as_ref(), &merged)?;
        let before = base.as_ref().map_or(Ok(0), |base| base.file(file).map(|shape| shape.len));
        let before = before.or_else(|e| if base_lacks(&e) { Ok(0) } else { Err(e) })?;
        let change = merged.files().get(&file);
        let len = change.map_or(before, |change| change.len_after(before));
        Ok(Prepared { merged, base, file, before, len })
    }

    /// What stands at the output.
    fn standing(&self, options: &RestoreOptions) -> Result<Option<Arc<dyn File>>> {
        match self.fs.open(&options.output, Access::Read) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            other => other.map(Some).map_err(Error::io("open", &options.output)),
        }
    }

    fn snapshot(&self, plan: &Plan) -> Result<Option<&Snapshot>> {
        let Some(id) = plan.snapshot else { return Ok(None) };
        let snapshot = self.history.snapshots().iter().find(|snapshot| snapshot.id == id);
        snapshot.ok_or(Error::NoBase { stop: plan.stop }).map(Some)
    }

    fn base(&self, plan: &Plan) -> Result<Option<SnapshotReader>> {
        let Some(snapshot) = self.snapshot(plan)? else { return Ok(None) };
        let manifest = snapshot.manifest(self.chunks)?;
        Ok(Some(SnapshotReader::open(self.chunks.clone(), manifest)))
    }

    /// Counts units of a phase. Tells of every 64th, so that a callback costs nothing.
    fn ticker(&self, phase: Phase, total: u64) -> impl Fn() + Sync {
        let done = AtomicU64::new(0);
        move || {
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            if done == total || done.is_multiple_of(64) {
                (self.progress)(Progress { phase, done, total });
            }
        }
    }
}

/// The file of the state, if it has one or none.
fn only_file(base: Option<&SnapshotReader>, merged: &Merged) -> Result<FileId> {
    let of_base =
        base.map_or(&[][..], |base| base.manifest().files.as_slice()).iter().map(|entry| entry.shape.file);
    let mut files: Vec<FileId> = of_base.chain(merged.files().keys().copied()).collect();
    files.sort_unstable();
    files.dedup();
    match files[..] {
        [] => Ok(FileId::FIRST),
        [file] => Ok(file),
        _ => Err(Error::SeveralFiles { files: files.len() }),
    }
}

/// The fingerprint of a file that is built except for its head.
fn fingerprint(
    file: &dyn File,
    head: &[u8],
    len: u64,
    block_bytes: Option<u32>,
) -> io::Result<Option<Fingerprint>> {
    let Some(block_bytes) = block_bytes.filter(|bytes| *bytes > 0 && len > 0) else { return Ok(None) };
    let read = |number: u64, out: &mut [u8]| {
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
    Fingerprint::of(block_bytes, len.div_ceil(u64::from(block_bytes)), read).map(Some)
}

fn base_lacks(error: &pitr_snapshot::Error) -> bool {
    matches!(error, pitr_snapshot::Error::NoFile { .. })
}

struct Watch<'a> {
    clock: &'a dyn Clock,
    last: Duration,
}

impl Watch<'_> {
    fn lap(&mut self) -> Duration {
        let now = self.clock.monotonic();
        let lap = now.saturating_sub(self.last);
        self.last = now;
        lap
    }
}
