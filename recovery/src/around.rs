//! Going around damage: another way to the same state.
//!
//! Often more than one way leads to a state: an older snapshot and more log, or the log objects
//! that a merged one was made from, until a prune deletes them. A restore takes the way that is
//! read fastest. If something on it is damaged or missing, it begins again on the next one.
//!
//! # Promises
//! - Without what is avoided, the log has no other hole and no earlier end. A snapshot is avoided
//!   after the position to stop at is known. So another way leads to the same state, and no other
//!   state is ever taken.
//! - A target that no way leads to is refused with the first damage that was found.
//! - What was damaged is told: in the log, and in [`Restored::avoided`](crate::Restored::avoided).
//! - There are finitely many ways, because each begins without one more snapshot or log object.
//! - A verification goes around nothing.

use crate::error::{Error, Result, Unreachable};
use crate::history::History;
use crate::plan::Plan;
use crate::target::{Stop, Target};
use pitr_archive::{Run, runs};
use pitr_objects::ErrorKind;
use pitr_objects::layout::SourceObject;
use pitr_snapshot::SnapshotId;
use std::collections::BTreeSet;

/// What the way to a state avoids.
#[derive(Debug, Clone, Default)]
pub(crate) struct Avoided {
    /// Snapshots of which something is damaged.
    pub(crate) snapshots: BTreeSet<SnapshotId>,
    /// Paths of merged log objects.
    pub(crate) logs: BTreeSet<String>,
    /// What was found, in this order.
    pub(crate) found: Vec<String>,
}

impl History {
    /// The damage that this history avoids.
    #[must_use]
    pub fn avoided(&self) -> &[String] {
        &self.avoided.found
    }

    /// Reads something of the history, around merged log objects that can't be read. Returns the
    /// history that was read.
    ///
    /// # Errors
    /// Those of `read`; of several damages the first.
    pub fn reading<T>(self, read: impl Fn(&Self) -> Result<T>) -> Result<(Self, T)> {
        let first = match read(&self) {
            Ok(found) => return Ok((self, found)),
            Err(error) => error,
        };
        let mut next = self.without(None, &first);
        while let Some(history) = next {
            match read(&history) {
                Ok(found) => {
                    history.tell_avoided();
                    return Ok((history, found));
                }
                Err(error) => next = history.without(None, &error),
            }
        }
        Err(first)
    }

    /// The history and the plan for a target: [`plan_or_before`](Self::plan_or_before), by
    /// [`reading`](Self::reading).
    ///
    /// # Errors
    /// Those of both.
    pub fn into_plan(self, target: &Target, or_before: bool) -> Result<(Self, Plan, Option<Unreachable>)> {
        let (history, (plan, instead)) = self.reading(|history| history.plan_or_before(target, or_before))?;
        Ok((history, plan, instead))
    }

    /// Another way to the state of a plan, after `error` has ended a restore. `None` if the error
    /// is no damage, or if there is no other way.
    #[must_use]
    pub fn other_way(&self, plan: &Plan, error: &Error) -> Option<(Self, Plan)> {
        let history = self.without(Some(plan), error)?;
        let plan = history.plan(&Stop { lsn: plan.stop, reached: plan.reached }).ok()?;
        history.tell_avoided();
        Some((history, plan))
    }

    fn tell_avoided(&self) {
        if let Some(last) = self.avoided.found.last() {
            tracing::warn!("{last}; another way to the same state is taken");
        }
    }

    /// This history without what the error is about.
    fn without(&self, plan: Option<&Plan>, error: &Error) -> Option<Self> {
        let mut avoided = self.avoided.clone();
        let is_new = match error {
            Error::Snapshot(damage) if matches!(damage.kind(), ErrorKind::Corrupt | ErrorKind::Missing) => {
                avoided.snapshots.insert(plan?.snapshot?)
            }
            Error::Archive(damage) if damage.is_damage() => {
                let folder = self.archive().folder();
                let name = damage.log_object(folder).filter(|name| name.level > 0)?;
                avoided.logs.insert(folder.path(&SourceObject::Log(name)))
            }
            _ => false,
        };
        if !is_new {
            return None;
        }
        avoided.found.push(error.to_string());
        let (objects, source) = (self.archive().objects(), self.archive().source());
        let found = History::load_around(objects, source, Some(self.lineage().timeline()), avoided);
        let found = found.inspect_err(|other| tracing::warn!("no other way is looked for: {other}")).ok()?;
        let (before, now) = (runs(self.pieces()), runs(found.pieces()));
        let is_held = |run: &Run| now.iter().any(|held| held.from <= run.from && run.to <= held.to);
        before.iter().all(is_held).then_some(found)
    }
}
