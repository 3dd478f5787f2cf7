//! A restored store that goes on under the name of its source.

use pitr_archive::{ForkReason, Timeline};
use pitr_format::{SourceName, TimelineId};
use pitr_recovery::Point;

use crate::{Pitr, Result};

impl Pitr {
    /// Claims a timeline for a restored store that goes on under the name of its source. Begin its
    /// log with it: [`Start::timeline`](pitr_wal::Start::timeline) is the new timeline, and
    /// [`Start::follows`](pitr_wal::Start::follows) the LSN of the restored state. Then
    /// [`attach`](Self::attach) archives it, and the writer of the original ends. States of both
    /// timelines stay restorable.
    ///
    /// Not needed for a store that is archived under a name of its own.
    ///
    /// # Errors
    /// Those of [`claim_timeline`](pitr_archive::Archive::claim_timeline).
    pub fn fork(&self, source: &SourceName, restored: &Point) -> Result<TimelineId> {
        let now = self.clock().now();
        let Point { timeline, lsn, time, .. } = *restored;
        let fork = Timeline {
            parent: Some(timeline),
            fork: lsn,
            reason: ForkReason::Restored,
            created: now,
            ambiguous: (now < time).then_some((now, time)),
            root: None,
        };
        Ok(self.archive(source).claim_timeline(&fork)?)
    }
}
