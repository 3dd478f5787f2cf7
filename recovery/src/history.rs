//! A history of a source: the path of timelines to a given one, with its log, its snapshots and its
//! restorable states.

use crate::around::Avoided;
use crate::error::{Error, Result};
use crate::plan::{BaseSnapshot, Plan, plan};
use crate::target::{Point, RecoveryTarget, Stop, Target};
use pitr_archive::{
    Archive, Base, Catalog, CheckpointEntry, Coverage, Gap, Interval, Lineage, Piece, Run, Search,
    Transactions, coverage, runs,
};
use pitr_format::{Lsn, SourceName, TimelineId, Timestamp, TxId};
use pitr_objects::{Objects, parallel};
use pitr_snapshot::{DamagedRoot, Roots, Snapshot, load_all};
use std::sync::Arc;

/// A span of a history in which every commit can be restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restorable {
    /// The oldest state.
    pub from: Point,
    /// The newest state.
    pub to: Point,
    /// End of the known log.
    pub end: Lsn,
    /// No later commit has a time before this.
    pub watermark: Timestamp,
}

/// A checkpoint that the engine logged, in the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogCheckpoint {
    /// Timeline of the record.
    pub timeline: TimelineId,
    /// The record.
    pub entry: CheckpointEntry,
}

/// A history, as of one listing. While the value lives, nothing in it is deleted.
#[derive(Debug)]
pub struct History {
    archive: Archive,
    catalog: Catalog,
    lineage: Lineage,
    pieces: Vec<Piece>,
    /// Snapshots of this history, by consistent point.
    snapshots: Vec<Snapshot>,
    /// Roots of this history that can't be read.
    damaged: Vec<Arc<DamagedRoot>>,
    /// Timelines and consistent points of the snapshots of other histories.
    outside: Vec<(TimelineId, Lsn)>,
    coverage: Coverage,
    pub(crate) avoided: Avoided,
}

impl History {
    /// Lists the repository and takes the history that leads to `timeline`, or to the newest one.
    ///
    /// Snapshots with damaged roots can't be restored. A target that needs such a snapshot gives
    /// [`Error::Damaged`].
    ///
    /// # Errors
    /// Those of listing and reading; as [`new`](Self::new).
    pub fn load(objects: &Objects, source: &SourceName, timeline: Option<TimelineId>) -> Result<Self> {
        Self::load_around(objects, source, timeline, Avoided::default())
    }

    /// Like [`load`](Self::load), without what is avoided. As of a new listing, if log is avoided.
    pub(crate) fn load_around(
        objects: &Objects,
        source: &SourceName,
        timeline: Option<TimelineId>,
        avoided: Avoided,
    ) -> Result<Self> {
        let objects = match avoided.logs.is_empty() {
            true => objects.view(),
            false => objects.view_without(&avoided.logs),
        };
        let objects = objects.map_err(pitr_archive::Error::from)?;
        let mut roots = load_all(&objects, source)?;
        roots.snapshots.retain(|snapshot| !avoided.snapshots.contains(&snapshot.id));
        let archive = Archive::new(objects, source.clone());
        let catalog = archive.catalog()?;
        Ok(History { avoided, ..Self::new(archive, catalog, roots, timeline)? })
    }

    /// The history in which `target` is looked for: that of the point's timeline for a recovery
    /// point, and the newest one for every other target.
    ///
    /// # Errors
    /// Those of [`load`](Self::load), and of reading the point.
    pub fn load_for(objects: &Objects, source: &SourceName, target: &Target) -> Result<Self> {
        let timeline = match &target.moment {
            RecoveryTarget::RecoveryPoint(name) => {
                let point = Archive::new(objects.clone(), source.clone()).named_point(name)?;
                point.map(|point| point.timeline)
            }
            _ => None,
        };
        Self::load(objects, source, timeline)
    }

    /// The history that leads to `timeline`, or to the newest one, from listings that the caller
    /// made under its own lease.
    ///
    /// # Errors
    /// [`pitr_archive::Error::UnknownTimeline`]; [`pitr_archive::Error::TimelineLost`].
    pub fn new(
        archive: Archive,
        catalog: Catalog,
        roots: Roots,
        timeline: Option<TimelineId>,
    ) -> Result<Self> {
        let Roots { mut snapshots, mut damaged } = roots;
        let of_damaged = damaged.iter().map(|root| root.name.timeline);
        let of_snapshots = snapshots.iter().map(|s| s.meta.timeline).chain(of_damaged).max();
        // A claimed timeline without log or snapshots has no newest state.
        let newest = || -> Result<Option<TimelineId>> {
            let followed = archive.followed(&catalog)?;
            // A timeline of which only snapshots are left.
            let unlogged = of_snapshots.filter(|newest| Some(*newest) > catalog.newest_logged());
            Ok(unlogged.or(followed).or(catalog.newest_timeline()))
        };
        let timeline = match timeline {
            None => newest()?.unwrap_or(TimelineId::FIRST),
            Some(timeline) => timeline,
        };
        let lineage = match catalog.lineage(timeline) {
            // The timeline's snapshot proves that the timeline existed.
            Err(pitr_archive::Error::UnknownTimeline { .. }) if of_snapshots >= Some(timeline) => {
                return Err(pitr_archive::Error::TimelineLost { timeline }.into());
            }
            other => other?,
        };
        let pieces = catalog.pieces(&lineage);
        damaged.retain(|root| lineage.holds(root.name.timeline, root.name.consistent_at));
        let place = |snapshot: &Snapshot| (snapshot.meta.timeline, snapshot.meta.consistent_at);
        let is_outside = |(timeline, lsn): &(TimelineId, Lsn)| !lineage.holds(*timeline, *lsn);
        let outside = snapshots.iter().map(place).filter(is_outside).collect();
        snapshots.retain(|s| lineage.holds(s.meta.timeline, s.meta.consistent_at));
        snapshots.sort_by_key(|s| (s.meta.consistent_at, s.meta.created));
        let bases: Vec<Base> = snapshots.iter().map(base).collect();
        let mut coverage = coverage(&lineage, &pieces, &bases);
        if catalog.timelines().is_empty() {
            // A source without a log has no states between its snapshots.
            coverage.gaps.clear();
        }
        let damaged = damaged.into_iter().map(Arc::new).collect();
        let avoided = Avoided::default();
        Ok(History { archive, catalog, lineage, pieces, snapshots, damaged, outside, coverage, avoided })
    }

    /// True for a source that has snapshots and no log, such as a folder.
    #[must_use]
    pub fn has_no_log(&self) -> bool {
        self.catalog.timelines().is_empty()
    }

    /// The archive.
    #[must_use]
    pub fn archive(&self) -> &Archive {
        &self.archive
    }

    /// The content of the archive at the time of the listing.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The path of timelines.
    #[must_use]
    pub fn lineage(&self) -> &Lineage {
        &self.lineage
    }

    /// The log objects, ascending.
    #[must_use]
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The snapshots, ascending.
    #[must_use]
    pub fn snapshots(&self) -> &[Snapshot] {
        &self.snapshots
    }

    /// Roots of this history that can't be read.
    pub(crate) fn damaged(&self) -> &[Arc<DamagedRoot>] {
        &self.damaged
    }

    /// Timelines and consistent points of the snapshots of other histories.
    pub(crate) fn outside(&self) -> &[(TimelineId, Lsn)] {
        &self.outside
    }

    /// Every archived commit, oldest first. Commits in or before a gap may not be restorable.
    #[must_use]
    pub fn transactions(&self) -> Transactions<'_> {
        Search::new(&self.archive, &self.pieces).transactions(Lsn::ORIGIN)
    }

    /// The plan for a target: [`resolve`](Self::resolve), then [`plan`](Self::plan).
    ///
    /// # Errors
    /// As both.
    pub fn plan_for(&self, target: &Target) -> Result<Plan> {
        self.plan(&self.resolve(target)?)
    }

    /// The restorable spans and the gaps, by position.
    #[must_use]
    pub fn coverage(&self) -> &Coverage {
        &self.coverage
    }

    /// The restorable spans, with the commits at their ends. Reads a few footers.
    ///
    /// # Errors
    /// Those of reading footers.
    pub fn restorable(&self) -> Result<Vec<Restorable>> {
        let spans: Vec<(usize, &Interval)> = self.coverage.intervals.iter().enumerate().collect();
        let spawn = self.archive.objects().env().spawn;
        parallel::requests(spawn, &spans, |(no, interval)| self.span(*no == 0, interval))
    }

    /// A restorable span; `is_first` for the one that no other comes before.
    fn span(&self, is_first: bool, interval: &Interval) -> Result<Restorable> {
        let mut from = self.first_point(interval.from);
        from.named = self.is_named(&from, is_first)?;
        let pieces = self.pieces_in(interval.from, interval.to);
        let search = Search::new(&self.archive, pieces);
        let last = search.split(|commit| commit.lsn <= interval.to)?.before;
        let to = last.filter(|commit| commit.lsn > from.lsn).map_or(from, |commit| self.point(&commit));
        let promised = search.watermark()?.unwrap_or(Timestamp::MIN);
        Ok(Restorable { from, to, end: interval.to, watermark: promised.max(to.time) })
    }

    /// The gaps, each with its reason. Reads the footer after each.
    ///
    /// # Errors
    /// Those of reading footers.
    pub fn gaps(&self) -> Result<Vec<Gap>> {
        let explain =
            |gap: &Gap| Ok(Gap { cause: self.archive.cause(&self.catalog, &self.lineage, gap)?, ..*gap });
        parallel::requests(self.archive.objects().env().spawn, &self.coverage.gaps, explain)
    }

    /// The plan for a state. Reads nothing.
    ///
    /// # Errors
    /// [`Error::NoBaseSnapshot`].
    pub fn plan(&self, stop: &Stop) -> Result<Plan> {
        let snapshots: Vec<BaseSnapshot> = self
            .snapshots
            .iter()
            .map(|s| BaseSnapshot { id: s.id, base: base(s), bytes: s.sizes.logical })
            .collect();
        plan(stop, &snapshots, &self.pieces).ok_or(Error::NoBaseSnapshot { stop: stop.lsn })
    }

    /// The newest checkpoint that the engine logged at or before `stop`, and from whose redo point
    /// the archived log leads to `stop` without a hole: the base of a replay for an engine that has
    /// no snapshot. `None` if there is none. Reads a few footers.
    ///
    /// # Errors
    /// Those of reading footers.
    pub fn find_base_checkpoint(&self, stop: Lsn) -> Result<Option<LogCheckpoint>> {
        let whole = |run: &Run| run.from <= stop && stop <= run.to;
        let Some(run) = runs(&self.pieces).into_iter().find(whole) else { return Ok(None) };
        let search = Search::new(&self.archive, self.pieces_in(run.from, stop));
        let entry = search.checkpoint(stop, |found| run.from <= found.redo_from)?;
        Ok(entry.map(|entry| LogCheckpoint { timeline: self.lineage.timeline_at(entry.end), entry }))
    }

    /// The engine's state in a checkpoint of this history.
    ///
    /// # Errors
    /// Those of reading the log.
    pub fn read_checkpoint(&self, checkpoint: &LogCheckpoint) -> Result<Vec<u8>> {
        let LogCheckpoint { entry, .. } = checkpoint;
        Ok(self.archive.read_checkpoint(self.pieces_in(entry.lsn, entry.end), entry)?)
    }

    /// The log objects between two positions.
    pub(crate) fn pieces_in(&self, from: Lsn, to: Lsn) -> &[Piece] {
        let begin = self.pieces.partition_point(|piece| piece.to <= from);
        let end = self.pieces.partition_point(|piece| piece.from() < to);
        self.pieces.get(begin..end).unwrap_or_default()
    }

    /// True if the number of a base's last transaction identifies the base's state: there is no gap
    /// between the two. The number 0 identifies the `first` state if no transaction came before it.
    fn is_named(&self, base: &Point, first: bool) -> Result<bool> {
        if self.has_no_log() {
            return Ok(base.tx != TxId::NONE);
        }
        if base.tx == TxId::NONE {
            return Ok(first);
        }
        let pieces = self.pieces_in(Lsn::ORIGIN, base.lsn);
        if pieces.last().is_none_or(|piece| piece.to < base.lsn) {
            return Ok(false);
        }
        // Only log without a hole before the base proves this.
        let seams = pieces.windows(2).rposition(|pair| pair[0].to != pair[1].from());
        let unbroken = &pieces[seams.map_or(0, |seam| seam + 1)..];
        let last = Search::new(&self.archive, unbroken).split(|commit| commit.lsn <= base.lsn)?.before;
        // A footer may name a commit before its own range. Log between the two may be missing.
        let begin = unbroken.first().map_or(Lsn::MAX, Piece::from);
        Ok(last.is_some_and(|commit| commit.tx == base.tx && commit.lsn > begin))
    }

    /// Bytes of log that a plan reads, after decoding. Reads the footers of its log objects.
    ///
    /// # Errors
    /// Errors of reading footers.
    pub fn log_bytes(&self, plan: &Plan) -> Result<u64> {
        Ok(self.archive.log_bytes(&plan.pieces, plan.redo_from, plan.stop)?)
    }

    /// The first state of an interval.
    fn first_point(&self, lsn: Lsn) -> Point {
        let snapshot = self.snapshots.iter().find(|s| s.meta.consistent_at == lsn);
        match snapshot.map(|s| &s.meta) {
            Some(meta) => Point { timeline: meta.timeline, lsn, tx: meta.tx, time: meta.time, named: false },
            None => {
                // The empty state before the log: as old as the timeline.
                let timeline = self.lineage.timeline_at(lsn);
                let time = self.catalog.timelines().get(&timeline).map_or(Timestamp::MIN, |t| t.created);
                Point { timeline, lsn, tx: TxId::NONE, time, named: false }
            }
        }
    }

    pub(crate) fn point(&self, commit: &pitr_archive::CommitPoint) -> Point {
        let timeline = self.lineage.timeline_at(commit.lsn);
        Point { timeline, lsn: commit.lsn, tx: commit.tx, time: commit.time, named: true }
    }
}

fn base(snapshot: &Snapshot) -> Base {
    let meta = &snapshot.meta;
    Base { consistent_at: meta.consistent_at, redo_from: meta.redo_from, timeline: meta.timeline }
}
