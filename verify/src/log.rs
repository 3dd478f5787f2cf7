//! The log of a source: missing parts, and commits that can't be restored (FAILURES 55).

use crate::Result;
use crate::report::Fault;
use crate::restorable::{Stretch, unrestorable};
use crate::statements::{Holes, holes, objects_lost};
use pitr_archive::{Archive, Catalog};
use pitr_format::{Severity, TimelineId};
use pitr_snapshot::Roots;

/// Findings about one source.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) faults: Vec<Fault>,
    pub(crate) pending: Vec<String>,
}

/// Checks the log of a source. `writers` is true if other processes use the repository.
pub(crate) fn check(archive: &Archive, roots: &Roots, writers: bool) -> Result<Found> {
    let first = look(archive, roots, writers)?;
    if first.faults.is_empty() {
        return Ok(first);
    }
    // An object that is put between two listings can make an earlier one look missing. A second
    // check shows that.
    let second = look(archive, roots, writers)?;
    let faults = first.faults.into_iter().filter(|fault| second.faults.contains(fault)).collect();
    Ok(Found { faults, ..second })
}

fn look(archive: &Archive, roots: &Roots, writers: bool) -> Result<Found> {
    let [folder, _] = archive.folder().logs();
    let mut found = Found::default();
    let catalog = match archive.catalog() {
        Ok(catalog) => catalog,
        Err(error) if error.severity() == Severity::Fatal => {
            found.faults.push(Fault::new(&folder, error));
            return Ok(found);
        }
        Err(error) => return Err(error.into()),
    };
    found.faults = objects_lost(archive, &catalog, roots)?;
    for timeline in catalog.timelines().keys() {
        let lineage = match catalog.lineage(*timeline) {
            Err(pitr_archive::Error::TimelineLost { .. }) => continue, // already reported
            other => other?,
        };
        let missing: Holes = holes(archive, &catalog, &lineage, roots)?;
        for stretch in unrestorable(archive, &catalog, &lineage, roots)? {
            // Missing log and damaged snapshots are already reported.
            if missing.meets(stretch.from, stretch.to) || is_damaged(&stretch, roots) {
                continue;
            }
            let is_open = stretch.is_open && is_newest(&catalog, roots, *timeline);
            match is_open && writers {
                true => found.pending.push(format!("{folder}: {}; a writer is at work", stretch.what)),
                false if stretch.is_explained && !is_open => {}
                false => found.faults.push(Fault::unrestorable(&folder, &stretch.what)),
            }
        }
        let end = catalog.end(*timeline);
        for (hole, what) in missing.told() {
            // A snapshot may be stored before the log that leads to it is shipped.
            let is_ahead = end.is_none_or(|end| hole.0 >= end) && is_newest(&catalog, roots, *timeline);
            match is_ahead && writers {
                true => found.pending.push(format!("{folder}: {what}; a writer is at work")),
                false => found.faults.push(Fault::missing(&folder, &what)),
            }
        }
    }
    found.faults.sort_by(|a, b| (&a.object, &a.what).cmp(&(&b.object, &b.what)));
    found.faults.dedup();
    Ok(found)
}

/// True if a restore of the latest state uses this timeline.
fn is_newest(catalog: &Catalog, roots: &Roots, timeline: TimelineId) -> bool {
    let of_snapshots = roots.snapshots.iter().map(|snapshot| snapshot.meta.timeline).max();
    catalog.newest_logged().max(of_snapshots).is_none_or(|newest| newest <= timeline)
}

fn is_damaged(stretch: &Stretch, roots: &Roots) -> bool {
    roots.damaged.iter().any(|root| {
        let name = &root.name;
        name.timeline == stretch.timeline
            && stretch.from <= name.consistent_at
            && name.consistent_at <= stretch.to
    })
}
