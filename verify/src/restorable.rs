//! Commits that are archived but can't be restored, because no snapshot precedes them.
//!
//! Retention removes every log object that no kept snapshot needs, except the last one of each
//! timeline. It always keeps the newest state. So retention explains commits without a snapshot in
//! two places only: in the last object of an older timeline, and in an object that the next
//! snapshot needs.

use crate::Result;
use crate::error::unless_damaged;
use pitr_archive::{Archive, Base, Catalog, CommitEntry, Lineage, coverage};
use pitr_format::{Lsn, TimelineId};
use pitr_snapshot::{Roots, Snapshot};

/// Commits from which no state can be restored, between two restorable states.
#[derive(Debug)]
pub(crate) struct Stretch {
    pub(crate) timeline: TimelineId,
    /// The last restorable state before these commits, or the start of the history.
    pub(crate) from: Lsn,
    /// The first restorable state after them, or the end of the log.
    pub(crate) to: Lsn,
    /// True if the range reaches the end of the log.
    pub(crate) is_open: bool,
    /// True if retention may explain the range.
    pub(crate) is_explained: bool,
    /// Description of the commits.
    pub(crate) what: String,
}

/// The commits of the last timeline of this path that no snapshot makes restorable.
pub(crate) fn unrestorable(
    archive: &Archive,
    catalog: &Catalog,
    lineage: &Lineage,
    roots: &Roots,
) -> Result<Vec<Stretch>> {
    let timeline = lineage.timeline();
    let Some(end) = catalog.end(timeline) else { return Ok(Vec::new()) };
    let bases: Vec<Base> = roots.snapshots.iter().map(base).collect();
    let intervals = coverage(lineage, &catalog.pieces(lineage), &bases).intervals;
    let begins = std::iter::once(Lsn::ORIGIN).chain(intervals.iter().map(|interval| interval.to));
    let ends = intervals.iter().map(|interval| interval.from).chain([Lsn::MAX]);
    let mut out = Vec::new();
    for (from, next) in begins.zip(ends) {
        let needed = bases.iter().filter(|base| base.consistent_at == next).map(|base| base.redo_from).min();
        let (mut commits, mut is_explained) = (Commits::default(), true);
        let between = |name: &pitr_archive::LogName| name.from < next && from < name.to;
        for (name, _) in catalog.logs(timeline).iter().filter(|(name, _)| between(name)) {
            let Some(footer) = unless_damaged(archive.footer(name))? else { continue };
            let lost = footer.commits.iter().filter(|commit| from < commit.lsn && commit.lsn < next);
            if commits.take(lost) {
                is_explained &= name.to == end || needed.is_some_and(|needed| needed < name.to);
            }
        }
        if let Some(what) = commits.told() {
            let (is_open, to) = (next > end, next.min(end));
            out.push(Stretch { timeline, from, to, is_open, is_explained, what });
        }
    }
    Ok(out)
}

#[derive(Default)]
struct Commits {
    ends: Option<(CommitEntry, CommitEntry)>,
    count: u64,
}

impl Commits {
    /// Adds later commits. Returns false if there are none.
    fn take<'c>(&mut self, commits: impl Iterator<Item = &'c CommitEntry>) -> bool {
        let before = self.count;
        for commit in commits {
            self.ends = Some((self.ends.map_or(*commit, |(first, _)| first), *commit));
            self.count += 1;
        }
        self.count > before
    }

    fn told(&self) -> Option<String> {
        let (first, last) = self.ends?;
        Some(format!(
            "{} commits can't be restored, from transaction {} at {} to transaction {} at {}: no snapshot leads to them",
            self.count, first.tx, first.time, last.tx, last.time
        ))
    }
}

fn base(snapshot: &Snapshot) -> Base {
    let meta = &snapshot.meta;
    Base { consistent_at: meta.consistent_at, redo_from: meta.redo_from, timeline: meta.timeline }
}
