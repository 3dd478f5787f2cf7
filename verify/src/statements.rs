//! Objects that must exist because other objects refer to them.

use crate::Result;
use crate::error::unless_damaged;
use crate::report::Fault;
use pitr_archive::{Archive, Catalog, Lineage, LogName, SourceObject};
use pitr_format::{Epoch, Lsn, TimelineId};
use pitr_snapshot::Roots;
use std::collections::BTreeSet;

/// Missing parts of a history's log, sorted and disjoint, each with the object that shows it.
#[derive(Debug, Default)]
pub(crate) struct Holes(Vec<(Lsn, Lsn, String)>);

impl Holes {
    /// Adds a part. Parts that touch are joined.
    fn add(&mut self, from: Lsn, to: Lsn, shown_by: String) {
        match self.0.iter_mut().find(|hole| hole.0 <= to && from <= hole.1) {
            Some(hole) => (hole.0, hole.1) = (hole.0.min(from), hole.1.max(to)),
            None => self.0.push((from, to, shown_by)),
        }
    }

    pub(crate) fn meets(&self, from: Lsn, to: Lsn) -> bool {
        self.0.iter().any(|hole| hole.0 <= to && from <= hole.1)
    }

    /// The parts, each with a description.
    pub(crate) fn told(self) -> impl Iterator<Item = ((Lsn, Lsn), String)> {
        self.0.into_iter().map(|(from, to, shown_by)| {
            let what = format!(
                "the log from LSN {from} to {to} is missing, as {shown_by} shows: what was committed there can't be restored"
            );
            ((from, to), what)
        })
    }
}

/// Positions on the path to a timeline that are archived, or that retention has removed.
struct Accounted {
    ranges: Vec<(Lsn, Lsn)>,
    /// Start of the path.
    start: Lsn,
}

impl Accounted {
    fn new(catalog: &Catalog, lineage: &Lineage) -> Self {
        let mut ranges: Vec<(Lsn, Lsn)> = Vec::new();
        for leg in lineage.legs() {
            let condemned = catalog.condemned().iter().filter(|name| name.timeline == leg.timeline);
            let there = catalog.logs(leg.timeline).iter().map(|(name, _)| name).chain(condemned);
            let pruned = catalog.pruned().iter().filter(|range| range.timeline == leg.timeline);
            let all =
                there.map(|name| (name.from, name.to)).chain(pruned.map(|range| (range.from, range.to)));
            ranges.extend(all.map(|(from, to)| (from.max(leg.from), to.min(leg.to))).filter(|r| r.0 < r.1));
        }
        ranges.sort_unstable();
        let start = lineage.legs().first().map_or(Lsn::ORIGIN, |leg| leg.from);
        Accounted { ranges, start }
    }

    /// The missing part that ends at `at`, if there is one.
    fn hole_before(&self, at: Lsn) -> Option<(Lsn, Lsn)> {
        let reached = self.ranges.iter().filter(|range| range.0 < at).map(|range| range.1).max();
        let reached = reached.unwrap_or(self.start);
        (reached < at).then_some((reached, at))
    }
}

/// Missing parts of the log of the last timeline of this path.
pub(crate) fn holes(archive: &Archive, catalog: &Catalog, lineage: &Lineage, roots: &Roots) -> Result<Holes> {
    let (timeline, accounted) = (lineage.timeline(), Accounted::new(catalog, lineage));
    let mut holes = Holes::default();
    let mut state = |at: Lsn, shown_by: String| {
        if let Some((from, to)) = accounted.hole_before(at) {
            holes.add(from, to, shown_by);
        }
    };
    for (name, _) in catalog.logs(timeline) {
        if let Some((at, shown_by)) = stated_by_log(archive, &accounted, name)? {
            state(at, shown_by);
        }
    }
    for epoch in catalog.epochs().keys() {
        let fence = unless_damaged(archive.fence(*epoch))?.flatten();
        let ends = fence.iter().flat_map(pitr_archive::Fence::ends);
        for (_, end) in ends.filter(|(fenced, _)| *fenced == timeline) {
            state(end, format!("the fence of epoch {epoch}"));
        }
    }
    for (child, history) in catalog.timelines() {
        if history.parent == Some(timeline) {
            state(history.fork, format!("timeline {child}, which left this one there,"));
        }
    }
    let sound = roots.snapshots.iter().map(|s| (s.meta.timeline, s.meta.consistent_at));
    let damaged = roots.damaged.iter().map(|root| (root.name.timeline, root.name.consistent_at));
    for (_, at) in sound.chain(damaged).filter(|(of, _)| *of == timeline) {
        state(at, format!("the snapshot at LSN {at}"));
    }
    Ok(holes)
}

/// The end of the previous log according to a log object, if the log before that end is missing.
fn stated_by_log(archive: &Archive, accounted: &Accounted, name: &LogName) -> Result<Option<(Lsn, String)>> {
    if accounted.hole_before(name.from).is_none() {
        return Ok(None);
    }
    let Some(footer) = unless_damaged(archive.footer(name))? else { return Ok(None) };
    Ok(match (footer.gap, footer.before) {
        (false, _) => Some((name.from, format!("{name}, which goes on from there,"))),
        // After a gap, only the last commit before the gap was certainly archived.
        (true, Some(before)) => {
            Some((before.lsn, format!("{name}, which names transaction {} before it,", before.tx)))
        }
        (true, None) => None,
    })
}

/// True if a later writer that stored something has taken over the instance of this epoch's writer.
/// An epoch whose claim is lost may be anyone's.
fn has_successor(archive: &Archive, epoch: Epoch, stored: &BTreeSet<Epoch>) -> Result<bool> {
    for later in stored.iter().rev().take_while(|later| **later > epoch) {
        if archive.takes_over(*later, epoch)? != Some(false) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Missing claims, fences and timeline histories. Their numbers are consecutive.
pub(crate) fn objects_lost(archive: &Archive, catalog: &Catalog, roots: &Roots) -> Result<Vec<Fault>> {
    let mut lost = Vec::new();
    let mut expect = |name: SourceObject, why: String| -> Result<()> {
        let path = archive.folder().path(&name);
        if !archive.objects().exists(&path)? {
            lost.push(Fault::missing(&path, why));
        }
        Ok(())
    };
    let logs = |id: &TimelineId| catalog.logs(*id).iter().map(|(name, _)| name);
    let counting = catalog.logged().flat_map(|id| logs(&id).copied().collect::<Vec<_>>());
    let all = counting.chain(catalog.fenced_off().iter().chain(catalog.condemned()).copied());
    let all: Vec<LogName> = all.chain(catalog.replaced().iter().map(|(name, _)| *name)).collect();
    let snapshots: Vec<(TimelineId, Epoch)> = {
        let sound = roots.snapshots.iter().map(|s| (s.meta.timeline, s.meta.epoch));
        sound.chain(roots.damaged.iter().map(|root| (root.name.timeline, root.name.epoch))).collect()
    };

    let newest_claim = catalog.epochs().keys().max().copied();
    let newest = newest_claim.max(all.iter().map(|name| name.epoch).max());
    // A writer fences all earlier writers of its instance before it stores anything.
    let stored: BTreeSet<Epoch> =
        all.iter().map(|name| name.epoch).chain(snapshots.iter().map(|(_, epoch)| *epoch)).collect();
    let fenced: BTreeSet<Epoch> = catalog.epochs().keys().copied().collect();
    for number in 1..=newest.map_or(0, Epoch::get) {
        let epoch = Epoch::new(number);
        if !fenced.contains(&epoch) || newest_claim.is_some_and(|newest| epoch < newest) {
            let why = format!("it is missing: epoch {number} has log, or later epochs were claimed");
            expect(SourceObject::Claim(epoch), why)?;
        }
        let unfenced = !matches!(catalog.epochs().get(&epoch), Some(Some(_)));
        if unfenced && has_successor(archive, epoch, &stored)? {
            let why = format!("it is missing: a writer after epoch {number} has stored objects");
            expect(SourceObject::Fence(epoch), why)?;
        }
    }

    let mut shown: BTreeSet<TimelineId> = catalog.timelines().keys().copied().collect();
    shown.extend(all.iter().map(|name| name.timeline));
    for epoch in catalog.epochs().keys() {
        let fence = unless_damaged(archive.fence(*epoch))?.flatten();
        shown.extend(fence.iter().flat_map(pitr_archive::Fence::ends).map(|(timeline, _)| timeline));
    }
    // A source without a log has snapshots and no timelines.
    if !shown.is_empty() {
        shown.extend(snapshots.iter().map(|(timeline, _)| *timeline));
    }
    for number in 1..=shown.last().map_or(0, |last| last.get()) {
        let timeline = TimelineId::new(number);
        if !catalog.timelines().contains_key(&timeline) {
            let why = "it is missing: nothing of this timeline, or of those that left it, can be restored";
            expect(SourceObject::Timeline(timeline), why.to_owned())?;
        }
    }
    Ok(lost)
}
