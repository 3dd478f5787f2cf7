//! The contents of a source's archive, derived from object names, fences and timelines.
//!
//! # Promises
//! - An object beyond its epoch's fence does not count (FAILURES 21).
//! - No position of a timeline counts twice. Objects that overlap are refused, unless one was
//!   merged from the other (`cover.rs`), or they are the same range with the same content; the
//!   loader must verify that ([`Catalog::twins`], FAILURES 13).
//! - Foreign names are listed, never read.

use super::cover::{Cover, meeting};
use super::intervals::cover;
use super::lineage::{Leg, Lineage, Piece};
use crate::error::Error;
use crate::stored::{Fence, Timeline};
use pitr_format::{Epoch, Lsn, TimelineId};
use pitr_objects::layout::{LogName, PrunedRange};
use std::collections::BTreeMap;

/// The listing of a source's archive.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Log objects with their sizes in bytes, in any order.
    pub logs: Vec<(LogName, u64)>,
    /// The claimed epochs, with their fences. The fence of an epoch without log objects may be any
    /// value.
    pub epochs: BTreeMap<Epoch, Option<Fence>>,
    /// The claimed timelines.
    pub timelines: BTreeMap<TimelineId, Timeline>,
    /// The ranges that retention removed.
    pub pruned: Vec<PrunedRange>,
    /// Paths with foreign names.
    pub foreign: Vec<String>,
}

/// The archive of one source, as of one listing.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    timelines: BTreeMap<TimelineId, Timeline>,
    epochs: BTreeMap<Epoch, Option<Fence>>,
    logs: BTreeMap<TimelineId, Vec<(LogName, u64)>>,
    twins: Vec<(LogName, LogName)>,
    replaced: Vec<(LogName, u64)>,
    fenced_off: Vec<LogName>,
    pruned: Vec<PrunedRange>,
    condemned: Vec<LogName>,
    foreign: Vec<String>,
}

impl Catalog {
    /// The catalog of a listing.
    ///
    /// # Errors
    /// [`Error::Overlap`] if two objects that count share a position and are not the same range.
    pub fn new(found: Found) -> Result<Self, Error> {
        let Found { mut logs, epochs, timelines, pruned, foreign } = found;
        logs.sort_unstable();
        let mut catalog = Catalog { timelines, epochs, pruned, foreign, ..Catalog::default() };
        let mut counting: BTreeMap<TimelineId, Vec<(LogName, u64)>> = BTreeMap::new();
        for (name, bytes) in logs {
            if catalog.pruned.iter().any(|range| range.holds(&name)) {
                catalog.condemned.push(name);
            } else if catalog.counts(&name) {
                counting.entry(name.timeline).or_default().push((name, bytes));
            } else {
                catalog.fenced_off.push(name);
            }
        }
        for (timeline, found) in counting {
            let Cover { line, twins, replaced } = Cover::of(found)?;
            catalog.logs.insert(timeline, line);
            catalog.twins.extend(twins);
            catalog.replaced.extend(replaced);
        }
        Ok(catalog)
    }

    fn counts(&self, name: &LogName) -> bool {
        match self.epochs.get(&name.epoch) {
            Some(Some(fence)) => fence.admits(name),
            // An epoch without a fence is the newest one, or its successor was claimed just now.
            Some(None) => true,
            None => false,
        }
    }

    /// The claimed epochs, with their fences; an epoch without log objects has an empty one.
    #[must_use]
    pub fn epochs(&self) -> &BTreeMap<Epoch, Option<Fence>> {
        &self.epochs
    }

    /// The claimed timelines.
    #[must_use]
    pub fn timelines(&self) -> &BTreeMap<TimelineId, Timeline> {
        &self.timelines
    }

    /// The newest timeline, if there is one.
    #[must_use]
    pub fn newest_timeline(&self) -> Option<TimelineId> {
        self.timelines.keys().chain(self.logs.keys()).max().copied()
    }

    /// The timelines with log objects that count.
    pub fn logged(&self) -> impl Iterator<Item = TimelineId> {
        self.logs.keys().copied()
    }

    /// The newest timeline with log objects that count, if there is one.
    #[must_use]
    pub fn newest_logged(&self) -> Option<TimelineId> {
        self.logs.keys().max().copied()
    }

    /// The log objects of a timeline that count, with their sizes in bytes. They ascend and do not
    /// overlap.
    #[must_use]
    pub fn logs(&self, timeline: TimelineId) -> &[(LogName, u64)] {
        self.logs.get(&timeline).map_or(&[], Vec::as_slice)
    }

    /// Total size of the log objects that count, bytes.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        self.logs.values().flatten().map(|(_, bytes)| bytes).sum()
    }

    /// End of the archived log of a timeline; `None` if none of it was archived.
    #[must_use]
    pub fn end(&self, timeline: TimelineId) -> Option<Lsn> {
        self.logs(timeline).last().map(|(name, _)| name.to)
    }

    /// Pairs of objects with the same range. The first of each counts, if their content is the
    /// same.
    #[must_use]
    pub fn twins(&self) -> &[(LogName, LogName)] {
        &self.twins
    }

    /// Objects that do not count because merged objects hold their range, with their sizes in
    /// bytes.
    #[must_use]
    pub fn replaced(&self) -> &[(LogName, u64)] {
        &self.replaced
    }

    /// The objects that count and hold the range of this one, which does not count: one, or several
    /// if it was merged by another writer.
    #[must_use]
    pub fn holders(&self, name: &LogName) -> &[(LogName, u64)] {
        meeting(self.logs(name.timeline), name)
    }

    /// Objects that do not count because they lie beyond their epoch's fence or their epoch was
    /// never claimed.
    #[must_use]
    pub fn fenced_off(&self) -> &[LogName] {
        &self.fenced_off
    }

    /// The ranges that retention removed.
    #[must_use]
    pub fn pruned(&self) -> &[PrunedRange] {
        &self.pruned
    }

    /// Objects in pruned ranges that still exist. They do not count.
    #[must_use]
    pub fn condemned(&self) -> &[LogName] {
        &self.condemned
    }

    /// True if retention removed all of the log from `from` up to `to` on this path.
    #[must_use]
    pub fn is_pruned(&self, lineage: &Lineage, from: Lsn, to: Lsn) -> bool {
        let ranges = lineage.legs().iter().flat_map(|leg| {
            let on_leg = self.pruned.iter().filter(|range| range.timeline == leg.timeline);
            on_leg.map(|range| (range.from.max(leg.from), range.to.min(leg.to)))
        });
        cover(ranges, from, to)
    }

    /// True if retention removed all of a timeline's log from `from` up to `to`.
    pub(crate) fn is_pruned_within(&self, timeline: TimelineId, from: Lsn, to: Lsn) -> bool {
        let ranges = self.pruned.iter().filter(|range| range.timeline == timeline);
        cover(ranges.map(|range| (range.from, range.to)), from, to)
    }

    /// Paths in the archive's folders with foreign names.
    #[must_use]
    pub fn foreign(&self) -> &[String] {
        &self.foreign
    }

    /// The path of timelines that leads to `timeline`.
    ///
    /// # Errors
    /// [`Error::TimelineLost`] if the history object of this timeline or of an ancestor is missing
    /// (FAILURES 55); [`Error::UnknownTimeline`] if nothing shows that it ever existed.
    pub fn lineage(&self, timeline: TimelineId) -> Result<Lineage, Error> {
        let mut legs = Vec::new();
        let (mut at, mut to) = (timeline, Lsn::MAX);
        loop {
            let Some(history) = self.timelines.get(&at) else {
                // A source with snapshots and without a log has no timeline histories.
                if legs.is_empty() && self.timelines.is_empty() && self.logs.is_empty() {
                    legs.push(Leg { timeline: at, from: Lsn::ORIGIN, to });
                    break;
                }
                return Err(match self.proves(at) {
                    true => Error::TimelineLost { timeline: at },
                    false => Error::UnknownTimeline { timeline: at },
                });
            };
            legs.push(Leg { timeline: at, from: history.begin(), to });
            let Some(parent) = history.parent else { break };
            (at, to) = (parent, history.fork);
        }
        legs.reverse();
        Ok(Lineage::new(legs))
    }

    /// True if something proves that a timeline was claimed: its history, its log, or a later
    /// timeline, since numbers are assigned in order.
    #[must_use]
    pub fn proves(&self, timeline: TimelineId) -> bool {
        let fenced = self.epochs.values().flatten().flat_map(Fence::ends).map(|(fenced, _)| fenced);
        let logged = self.fenced_off.iter().chain(&self.condemned).map(|name| name.timeline);
        let known = self.timelines.keys().chain(self.logs.keys()).copied();
        timeline >= TimelineId::FIRST && known.chain(fenced).chain(logged).any(|known| known >= timeline)
    }

    /// The log objects along a path, ascending.
    #[must_use]
    pub fn pieces(&self, lineage: &Lineage) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for leg in lineage.legs() {
            let on_path = self
                .logs(leg.timeline)
                .iter()
                .filter(|(name, _)| leg.from <= name.from && name.from < leg.to);
            pieces.extend(on_path.map(|(name, bytes)| Piece {
                name: *name,
                stored_bytes: *bytes,
                to: name.to.min(leg.to),
            }));
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stored::ForkReason;
    use pitr_format::Timestamp;
    use proptest::prelude::*;

    fn name(timeline: u32, epoch: u64, from: u64, to: u64) -> (LogName, u64) {
        let (from, to) = (Lsn::new(from), Lsn::new(to));
        (
            LogName { timeline: TimelineId::new(timeline), from, to, epoch: Epoch::new(epoch), level: 0 },
            to.since(from),
        )
    }

    fn timeline(parent: u32, fork: u64) -> Timeline {
        Timeline {
            parent: (parent != 0).then_some(TimelineId::new(parent)),
            fork: Lsn::new(fork),
            reason: ForkReason::Restored,
            created: Timestamp::MIN,
            ambiguous: None,
            root: None,
        }
    }

    fn epochs(last: u64) -> BTreeMap<Epoch, Option<Fence>> {
        (1..=last).map(|e| (Epoch::new(e), None)).collect()
    }

    #[test]
    fn objects_beyond_the_fence_of_their_writer_are_not_read() {
        // FAILURES 21
        let logs = vec![name(1, 1, 0, 10), name(1, 1, 10, 20), name(1, 1, 20, 35), name(1, 2, 20, 30)];
        let mut epochs = epochs(2);
        let fence = Fence::behind([logs[0].0, logs[1].0]);
        epochs.insert(Epoch::new(1), Some(fence));
        let catalog = Catalog::new(Found { logs: logs.clone(), epochs, ..Found::default() }).unwrap();
        assert_eq!(catalog.end(TimelineId::new(1)), Some(Lsn::new(30)));
        assert_eq!(catalog.fenced_off(), [logs[2].0]);
    }

    #[test]
    fn objects_that_overlap_are_refused() {
        // FAILURES 13: a cloned machine's log.
        let logs = vec![name(1, 1, 0, 10), name(1, 2, 5, 15)];
        let found = Found { logs, epochs: epochs(2), ..Found::default() };
        assert!(matches!(Catalog::new(found), Err(Error::Overlap { .. })));
        let logs = vec![name(1, 1, 0, 10), name(1, 2, 0, 10)];
        let found = Found { logs: logs.clone(), epochs: epochs(2), ..Found::default() };
        assert_eq!(Catalog::new(found).unwrap().twins(), [(logs[0].0, logs[1].0)]);
    }

    #[test]
    fn what_was_merged_twice_may_have_several_holders() {
        // FAILURES 24
        let merged = |epoch, from, to| {
            let (name, bytes) = name(1, epoch, from, to);
            (LogName { level: 1, ..name }, bytes)
        };
        let shipped = name(1, 1, 30, 40);
        let logs = vec![merged(1, 0, 30), shipped, merged(2, 10, 40)];
        let catalog =
            Catalog::new(Found { logs: logs.clone(), epochs: epochs(2), ..Found::default() }).unwrap();
        assert_eq!(catalog.replaced(), [logs[2]]);
        assert_eq!(catalog.holders(&logs[2].0), [logs[0], shipped], "each must be sound");
        assert_eq!(catalog.holders(&name(1, 1, 40, 50).0), []);
    }

    #[test]
    fn an_epoch_that_nobody_claimed_does_not_count() {
        let found = Found { logs: vec![name(1, 9, 0, 10)], epochs: epochs(1), ..Found::default() };
        assert_eq!(Catalog::new(found).unwrap().end(TimelineId::new(1)), None);
    }

    #[test]
    fn a_path_goes_along_the_parent_to_the_fork() {
        let logs = vec![name(1, 1, 0, 10), name(1, 1, 10, 20), name(1, 1, 20, 30), name(2, 2, 15, 40)];
        let timelines = [(1, timeline(0, 0)), (2, timeline(1, 15))];
        let timelines = timelines.into_iter().map(|(id, t)| (TimelineId::new(id), t)).collect();
        let catalog = Catalog::new(Found { logs, epochs: epochs(2), timelines, ..Found::default() }).unwrap();
        let path = catalog.lineage(TimelineId::new(2)).unwrap();
        let spans: Vec<_> = catalog.pieces(&path).iter().map(|p| (p.from().get(), p.to.get())).collect();
        assert_eq!(spans, [(0, 10), (10, 15), (15, 40)]);
        assert!(matches!(catalog.lineage(TimelineId::new(3)), Err(Error::UnknownTimeline { .. })));
    }

    proptest! {
        #[test]
        fn any_names_give_pieces_that_do_not_overlap(
            raw in prop::collection::vec((1u32..4, 1u64..4, 0u64..30, 1u64..8), 0..20),
            parents in prop::collection::vec((0u32..3, 0u64..40), 3),
        ) {
            let logs = raw.iter().map(|(t, e, from, len)| name(*t, *e, *from, from + len)).collect();
            let timelines = parents.iter().zip(1u32..)
                .map(|((parent, fork), id)| (TimelineId::new(id), timeline(parent % id, *fork))).collect();
            let found = Found { logs, epochs: epochs(3), timelines, ..Found::default() };
            let Ok(catalog) = Catalog::new(found) else { return Ok(()) };
            for id in 1..4 {
                let path = catalog.lineage(TimelineId::new(id)).unwrap();
                let pieces = catalog.pieces(&path);
                for leg in path.legs() {
                    let on_leg: Vec<_> = pieces.iter().filter(|p| p.name.timeline == leg.timeline).collect();
                    prop_assert!(on_leg.windows(2).all(|w| w[0].to <= w[1].from()));
                    prop_assert!(on_leg.iter().all(|p| p.to <= leg.to));
                }
            }
        }
    }
}
