//! Numbers that stand for another state on a timeline outside a history.
//!
//! After a fork both sides go on from the same LSN, and two writers may give one number to two
//! transactions. Then only a timeline tells which one is meant.

use crate::error::Result;
use crate::history::History;
use crate::target::RecoveryTarget;
use pitr_archive::{Piece, Search};
use pitr_format::{Lsn, TimelineId};

impl History {
    /// The timelines that have the LSN or the transaction number of `moment` outside this history,
    /// ascending; none for other moments. Whether the state can be restored there is not checked.
    ///
    /// Expects transaction numbers to ascend on each timeline. Reads a few footers of each timeline
    /// for a transaction, and none for an LSN.
    ///
    /// # Errors
    /// Those of reading footers.
    pub fn elsewhere(&self, moment: &RecoveryTarget) -> Result<Vec<TimelineId>> {
        let mut found = Vec::new();
        match *moment {
            RecoveryTarget::Lsn(lsn) => {
                let at = |snapshot: &&(TimelineId, Lsn)| snapshot.1 == lsn;
                found.extend(self.outside().iter().filter(at).map(|(timeline, _)| *timeline));
                for timeline in self.catalog().logged() {
                    let (shared, pieces) = self.pieces_outside(timeline);
                    if pieces.iter().any(|piece| piece.from().max(shared) < lsn && lsn <= piece.to) {
                        found.push(timeline);
                    }
                }
            }
            RecoveryTarget::Transaction(tx) => {
                for timeline in self.catalog().logged() {
                    let (shared, pieces) = self.pieces_outside(timeline);
                    // The part of an object before the fork belongs to this history.
                    let shares = |lsn: Lsn| lsn <= shared;
                    let near = Search::new(self.archive(), &pieces)
                        .split(|commit| shares(commit.lsn) || commit.tx < tx)?
                        .after;
                    if near.is_some_and(|found| found.commit.tx == tx) {
                        found.push(timeline);
                    }
                }
            }
            RecoveryTarget::Latest
            | RecoveryTarget::Timestamp(_)
            | RecoveryTarget::RecoveryPoint(_)
            | RecoveryTarget::Snapshot(_) => {}
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// The log of a timeline that does not belong to this history, and the position at which the
    /// part of the timeline that does ends.
    fn pieces_outside(&self, timeline: TimelineId) -> (Lsn, Vec<Piece>) {
        let leg = self.lineage().legs().iter().find(|leg| leg.timeline == timeline);
        let shared = leg.map_or(Lsn::ORIGIN, |leg| leg.to);
        let logs = self.catalog().logs(timeline).iter().filter(|(name, _)| name.to > shared);
        let piece = |(name, bytes): &(_, u64)| {
            let name: pitr_archive::LogName = *name;
            Piece { name, stored_bytes: *bytes, to: name.to }
        };
        (shared, logs.map(piece).collect())
    }
}
