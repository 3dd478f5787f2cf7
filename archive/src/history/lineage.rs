//! The path of timelines that leads to a timeline, and the part of each that belongs to it.

use pitr_format::{Lsn, TimelineId};
use pitr_objects::layout::LogName;

/// The part of a timeline that belongs to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leg {
    /// The timeline.
    pub timeline: TimelineId,
    /// Start of the part: the timeline's fork point, or [`Lsn::ORIGIN`].
    pub from: Lsn,
    /// End of the part: the next timeline's fork point, or [`Lsn::MAX`] on the last. Commits up to
    /// this position count.
    pub to: Lsn,
}

/// The path of timelines from the first one to a given timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lineage {
    legs: Vec<Leg>,
}

impl Lineage {
    /// The path of these legs, oldest first.
    ///
    /// A child may fork from its parent before the point where the parent forked from the
    /// grandparent. Nothing after the child's fork point belongs to its history.
    pub(crate) fn new(mut legs: Vec<Leg>) -> Self {
        let mut upto = Lsn::MAX;
        for leg in legs.iter_mut().rev() {
            leg.to = leg.to.min(upto);
            upto = upto.min(leg.from);
        }
        let last = legs.len().saturating_sub(1);
        let mut no = 0;
        legs.retain(|leg| {
            no += 1;
            leg.from < leg.to || no > last
        });
        Lineage { legs }
    }

    /// The legs, oldest first; never empty.
    #[must_use]
    pub fn legs(&self) -> &[Leg] {
        &self.legs
    }

    /// The timeline that the path leads to.
    #[must_use]
    pub fn timeline(&self) -> TimelineId {
        self.legs.last().map_or(TimelineId::FIRST, |leg| leg.timeline)
    }

    /// True if the state of `timeline` at `lsn` is part of this history.
    #[must_use]
    pub fn holds(&self, timeline: TimelineId, lsn: Lsn) -> bool {
        self.legs.iter().any(|leg| leg.timeline == timeline && leg.from <= lsn && lsn <= leg.to)
    }

    /// The timeline of `lsn` on this path; a fork point belongs to the parent.
    #[must_use]
    pub fn timeline_at(&self, lsn: Lsn) -> TimelineId {
        let leg = self.legs.iter().find(|leg| lsn <= leg.to);
        leg.map_or(self.timeline(), |leg| leg.timeline)
    }
}

/// The part of a log object that belongs to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// The object.
    pub name: LogName,
    /// Size of the object in the repository, bytes.
    pub stored_bytes: u64,
    /// End of the part that counts: `name.to`, or earlier where the path leaves the timeline.
    pub to: Lsn,
}

impl Piece {
    /// Start of the object.
    #[must_use]
    pub fn from(&self) -> Lsn {
        self.name.from
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leg(timeline: u32, from: u64, to: u64) -> Leg {
        Leg { timeline: TimelineId::new(timeline), from: Lsn::new(from), to: Lsn::new(to) }
    }

    #[test]
    fn a_fork_before_the_parents_own_fork_point_skips_the_parent() {
        let max = Lsn::MAX.get();
        let path = Lineage::new(vec![leg(1, 0, 100), leg(2, 100, 60), leg(3, 60, max)]);
        assert_eq!(path.legs(), [leg(1, 0, 60), leg(3, 60, max)]);
        assert_eq!(path.timeline(), TimelineId::new(3));
    }

    #[test]
    fn a_fork_point_belongs_to_both_timelines_and_is_attributed_to_the_parent() {
        let path = Lineage::new(vec![leg(1, 0, 100), leg(2, 100, Lsn::MAX.get())]);
        let at = Lsn::new(100);
        assert!(path.holds(TimelineId::new(1), at) && path.holds(TimelineId::new(2), at));
        assert!(!path.holds(TimelineId::new(1), Lsn::new(101)));
        assert_eq!(path.timeline_at(at), TimelineId::new(1));
        assert_eq!(path.timeline_at(Lsn::new(101)), TimelineId::new(2));
    }
}
