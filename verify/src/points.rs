//! Named recovery points: each must be readable, and its state restorable.

use crate::Result;
use crate::report::Fault;
use pitr_archive::{Archive, Base, NamedPoint, Points, runs, start_for};
use pitr_objects::Objects;
use pitr_snapshot::load_all;

/// The faults of a source's points.
pub(crate) fn check(objects: &Objects, archive: &Archive) -> Result<Vec<Fault>> {
    let first = look(objects, archive)?;
    if first.is_empty() {
        return Ok(first);
    }
    // A point may be created or deleted, and a base put, between two listings. A second check shows
    // that.
    let second = look(objects, archive)?;
    Ok(first.into_iter().filter(|fault| second.contains(fault)).collect())
}

fn look(objects: &Objects, archive: &Archive) -> Result<Vec<Fault>> {
    let Points { points, damaged } = archive.points()?;
    let mut faults: Vec<Fault> = damaged.into_iter().map(|(path, error)| Fault::new(&path, error)).collect();
    if points.is_empty() {
        return Ok(faults);
    }
    // The roots first: the log that a snapshot needs is older than its root.
    let roots = load_all(objects, archive.source())?;
    let catalog = match archive.catalog() {
        // Already reported as a fault of the log.
        Err(error) if error.severity() == pitr_format::Severity::Fatal => return Ok(faults),
        other => other?,
    };
    let is_restorable = |point: &NamedPoint| {
        let Ok(lineage) = catalog.lineage(point.timeline) else { return false };
        let bases = roots.snapshots.iter().map(|snapshot| &snapshot.meta);
        let bases: Vec<Base> = bases
            .filter(|meta| lineage.holds(meta.timeline, meta.consistent_at))
            .map(|meta| Base {
                consistent_at: meta.consistent_at,
                redo_from: meta.redo_from,
                timeline: meta.timeline,
            })
            .collect();
        start_for(&bases, point.lsn, &runs(&catalog.pieces(&lineage))).is_some()
    };
    for point in points.iter().filter(|point| !is_restorable(point)) {
        let NamedPoint { name, tx, time, lsn, .. } = point;
        let what = format!(
            "point {name:?} can't be restored: no snapshot and no whole log leads to transaction {tx} at {time} (LSN {lsn})",
            name = name.as_str()
        );
        faults.push(Fault::unrestorable(&archive.point_path(name), what));
    }
    Ok(faults)
}
