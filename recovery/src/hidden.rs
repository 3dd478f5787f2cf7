//! Targets that may be lost with a damaged snapshot: "there is no such state" would be a wrong
//! answer (FAILURES 55).
//!
//! The name of a root contains the snapshot's position, which determines the part of the log that
//! can be replayed from it. A target in this part that no sound snapshot reaches may be lost. If
//! the source has no log, a damaged snapshot may be any state between its sound neighbours.

use crate::error::{Error, Result, Why};
use crate::history::{History, Restorable};
use crate::target::{RecoveryTarget, Stop, Target};
use pitr_archive::{CommitPoint, Search, runs};
use pitr_format::{Lsn, Timestamp, TxId};
use pitr_snapshot::{DamagedRoot, Snapshot};
use std::sync::Arc;

impl History {
    /// A damaged root that may be the target, if its state may differ from the state that was
    /// `found`.
    pub(crate) fn hidden(
        &self,
        target: &Target,
        found: &Result<Stop>,
        spans: &[Restorable],
    ) -> Result<Option<Arc<DamagedRoot>>> {
        let end = spans.last().map_or(Lsn::ORIGIN, |span| span.end);
        for root in self.damaged() {
            let hides = match found {
                // The damaged root is newer than the newest state that can be read.
                Ok(_) => target.moment == RecoveryTarget::Latest && root.name.consistent_at > end,
                Err(Error::TargetUnreachable(found)) => match found.why {
                    Why::Uncertain { .. } | Why::ClockSetBack { .. } => false,
                    _ if self.has_no_log() => self.hides_between(root, target),
                    _ => self.hides_log(root, target)?,
                },
                Err(_) => false,
            };
            if hides {
                return Ok(Some(Arc::clone(root)));
            }
        }
        Ok(None)
    }

    /// True if the target may be the state of a root without a log: it is between the states of the
    /// root's neighbours.
    fn hides_between(&self, root: &DamagedRoot, target: &Target) -> bool {
        let at = root.name.consistent_at;
        let (before, after): (Vec<&Snapshot>, Vec<&Snapshot>) =
            self.snapshots().iter().partition(|snapshot| snapshot.meta.consistent_at < at);
        let (before, after) = (before.last().map(|s| &s.meta), after.first().map(|s| &s.meta));
        match &target.moment {
            RecoveryTarget::Latest => after.is_none(),
            RecoveryTarget::Lsn(lsn) => *lsn == at,
            RecoveryTarget::RecoveryPoint(name) => self.position_of(target, name).is_ok_and(|lsn| lsn == at),
            RecoveryTarget::Snapshot(id) => root.name.id == id.front(),
            RecoveryTarget::Transaction(tx) => {
                before.is_none_or(|m| m.tx < *tx) && after.is_none_or(|m| *tx < m.tx)
            }
            RecoveryTarget::Timestamp(time) => {
                before.is_none_or(|m| m.time < *time) && after.is_none_or(|m| *time < m.time)
            }
        }
    }

    /// True if the target is in the part of the log that can be replayed from a root.
    fn hides_log(&self, root: &DamagedRoot, target: &Target) -> Result<bool> {
        let at = root.name.consistent_at;
        let run = runs(self.pieces()).into_iter().find(|run| run.from <= at && at <= run.to);
        let (begin, end) = run.map_or((at, at), |run| (run.from, run.to));
        let newest = self.pieces().last().map_or(Lsn::ORIGIN, |piece| piece.to);
        let search = Search::new(self.archive(), self.pieces_in(begin, end));
        // The state of the root itself: the state of the last commit before it, or the first state.
        let own = || -> Result<Option<CommitPoint>> { Ok(search.split(|commit| commit.lsn <= at)?.before) };
        Ok(match &target.moment {
            RecoveryTarget::Latest => end >= newest,
            RecoveryTarget::Lsn(lsn) => at <= *lsn && *lsn <= end,
            RecoveryTarget::RecoveryPoint(name) => {
                self.position_of(target, name).is_ok_and(|lsn| at <= lsn && lsn <= end)
            }
            RecoveryTarget::Snapshot(id) => root.name.id == id.front(),
            RecoveryTarget::Transaction(TxId::NONE) => own()?.is_none(),
            RecoveryTarget::Transaction(tx) => {
                let within = search.transaction(*tx)?.is_some_and(|found| found.commit.lsn > at);
                within || own()?.is_some_and(|commit| commit.tx == *tx && commit.lsn > begin)
            }
            RecoveryTarget::Timestamp(time) => {
                let since = own()?.map_or(Timestamp::MIN, |commit| commit.time);
                since <= *time && search.watermark()?.is_none_or(|until| *time <= until)
            }
        })
    }
}
