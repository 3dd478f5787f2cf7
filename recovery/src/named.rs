//! Creation of named recovery points.
//!
//! A point that exists is restorable, also if a prune runs at the same time. The creator
//!
//! 1. resolves the target, as a restore does;
//! 2. puts the point. From now on every prune that begins keeps what the point needs;
//! 3. waits for the end of each prune that has begun before, since that prune may have missed the
//!    point;
//! 4. resolves the point again. If a prune has removed the state, it withdraws the point.
//!
//! A prune takes its lease as a collector before it lists the points. So a prune whose lease step 3
//! does not find has ended, or it begins later and lists the point. If a prune takes
//! longer, the point is withdrawn too. A creator that dies between steps 2 and 4 may leave a point
//! without a state. `pitr verify` reports it, and no prune runs until it is deleted.

use crate::error::{Error, Result};
use crate::history::History;
use crate::target::{RecoveryTarget, Target};
use pitr_archive::{Archive, NamedPoint, PointName};
use pitr_format::{Lsn, SourceName, TimelineId};
use pitr_objects::{LEASE_EXPIRY, Objects};
use std::time::Duration;

/// A recovery point to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPoint {
    /// Its name.
    pub name: PointName,
    /// A text for people, at most [`NamedPoint::NOTE_BYTES_MAX`] bytes.
    pub note: String,
    /// The state that the point names.
    pub target: Target,
    /// The timeline of the history in which the target is looked for; `None` for the newest one.
    pub timeline: Option<TimelineId>,
    /// Time without a renewal after which the lease of a prune has lapsed. For tests: less than
    /// [`LEASE_EXPIRY`] ends the leases of living processes.
    pub lease_expiry: Duration,
}

impl NewPoint {
    /// A point of the last archived commit, without a note.
    #[must_use]
    pub fn latest(name: PointName) -> Self {
        let (note, target, timeline) = (String::new(), Target::latest(), None);
        NewPoint { name, note, target, timeline, lease_expiry: LEASE_EXPIRY }
    }
}

impl From<&NamedPoint> for RecoveryTarget {
    /// The point. It belongs to the history of the point's timeline.
    fn from(point: &NamedPoint) -> Self {
        RecoveryTarget::RecoveryPoint(point.name.clone())
    }
}

/// Creates a named recovery point. On return, its state stays restorable until the point is
/// deleted.
///
/// # Errors
/// [`Error::PointExists`]; [`Error::NoteTooLong`]; [`Error::Pruning`]; [`Error::TargetUnreachable`]
/// if the target is not exactly a restorable state; those of [`History::load`] and
/// [`History::resolve`].
pub fn create_point(objects: &Objects, source: &SourceName, new: &NewPoint) -> Result<NamedPoint> {
    if new.note.len() > NamedPoint::NOTE_BYTES_MAX {
        return Err(Error::NoteTooLong { bytes: new.note.len() });
    }
    let objects = &objects.live(); // it is looked at what a collector left
    let point = resolved(objects, source, new)?;
    let archive = Archive::new(objects.clone(), source.clone());
    if !archive.put_point(&point)? {
        return Err(Error::PointExists { name: point.name });
    }
    match stays(objects, source, &point, new.lease_expiry) {
        Ok(()) => Ok(point),
        Err(error) => {
            if let Err(also) = archive.delete_point(&point.name) {
                tracing::warn!("the new point {} could not be withdrawn: {also}", point.name);
            }
            Err(error)
        }
    }
}

fn resolved(objects: &Objects, source: &SourceName, new: &NewPoint) -> Result<NamedPoint> {
    // The history's lease ends with this function: a prune waits for it.
    let history = History::load(objects, source, new.timeline)?;
    let stop = history.resolve(&new.target)?;
    history.plan(&stop)?;
    let reached = stop.reached;
    Ok(NamedPoint {
        name: new.name.clone(),
        timeline: reached.timeline,
        lsn: reached.lsn,
        tx: reached.tx,
        time: reached.time,
        created: objects.env().clock.now(),
        note: new.note.clone(),
    })
}

/// Steps 3 and 4 of the module's head.
fn stays(objects: &Objects, source: &SourceName, point: &NamedPoint, expiry: Duration) -> Result<()> {
    let collector = objects.other_collector(None, expiry).map_err(pitr_archive::Error::from)?;
    if let Some(lease) = collector {
        return Err(Error::Pruning { lease });
    }
    let history = History::load(objects, source, Some(point.timeline))?;
    let stop = history.resolve(&Target::at(point))?;
    let lsn: Lsn = stop.reached.lsn;
    match history.plan(&stop) {
        Ok(_) if lsn == point.lsn => Ok(()),
        Ok(_) => Err(Error::NoBaseSnapshot { stop: point.lsn }),
        Err(error) => Err(error),
    }
}
