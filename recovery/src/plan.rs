//! The reads that a restore of a state needs. Pure: computed from names alone.

use crate::target::{Point, Stop};
use pitr_archive::{Base, Piece, Start, runs, start_for};
use pitr_format::{Lsn, TimelineId};
use pitr_snapshot::SnapshotId;

/// The parts of a snapshot that a plan uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BaseSnapshot {
    /// Identity of the snapshot.
    pub id: SnapshotId,
    /// Position of the snapshot in the log.
    pub base: Base,
    /// Bytes of the snapshot's files.
    pub bytes: u64,
}

/// How to restore a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The snapshot to start from; `None` for the empty base.
    pub snapshot: Option<SnapshotId>,
    /// Images at or after this position count.
    pub redo_from: Lsn,
    /// Commits at or before this position count.
    pub stop: Lsn,
    /// The resulting state.
    pub reached: Point,
    /// The log objects to read, ascending.
    pub pieces: Vec<Piece>,
    /// Timelines of the log objects, oldest first.
    pub timelines: Vec<TimelineId>,
    /// Bytes of the snapshot's files.
    pub base_bytes: u64,
    /// Bytes of the log objects in the repository. A difference of positions is no byte count,
    /// because positions skip unused parts of segments and timelines.
    /// [`History::log_bytes`](crate::History::log_bytes) counts the bytes of log.
    pub stored_log_bytes: u64,
}

/// The plan for a state: the newest snapshot from which the log leads to it without a hole, or else
/// the empty base. `None` if neither leads to it. Snapshots and pieces belong to one history;
/// pieces ascend.
#[must_use]
pub fn plan(stop: &Stop, snapshots: &[BaseSnapshot], pieces: &[Piece]) -> Option<Plan> {
    let runs = runs(pieces);
    let bases: Vec<Base> = snapshots.iter().map(|snapshot| snapshot.base).collect();
    let best = match start_for(&bases, stop.lsn, &runs)? {
        Start::Base(at) => snapshots.get(at),
        Start::Origin => None,
    };
    let redo_from = best.map_or(Lsn::ORIGIN, |snapshot| snapshot.base.redo_from);
    let overlaps = |piece: &&Piece| piece.to > redo_from && piece.from() < stop.lsn;
    let needed: Vec<Piece> = pieces.iter().filter(overlaps).copied().collect();
    let mut timelines: Vec<TimelineId> = needed.iter().map(|piece| piece.name.timeline).collect();
    timelines.dedup();
    if timelines.is_empty() {
        timelines.push(stop.reached.timeline);
    }
    Some(Plan {
        snapshot: best.map(|s| s.id),
        redo_from,
        stop: stop.lsn,
        reached: stop.reached,
        timelines,
        base_bytes: best.map_or(0, |s| s.bytes),
        stored_log_bytes: needed.iter().map(|piece| piece.stored_bytes).sum(),
        pieces: needed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitr_archive::LogName;
    use pitr_archive::reaches;
    use pitr_format::{Epoch, Timestamp, TxId};
    use proptest::prelude::*;

    fn piece(from: u64, to: u64) -> Piece {
        let (from, to) = (Lsn::new(from), Lsn::new(to));
        let name = LogName { timeline: TimelineId::FIRST, from, to, epoch: Epoch::FIRST, level: 0 };
        Piece { name, stored_bytes: 10, to }
    }

    fn snapshot(no: u8, redo_from: u64, consistent_at: u64) -> BaseSnapshot {
        let (consistent_at, redo_from) = (Lsn::new(consistent_at), Lsn::new(redo_from));
        let base = Base { consistent_at, redo_from, timeline: TimelineId::FIRST };
        BaseSnapshot { id: SnapshotId([no; 16]), base, bytes: 100 }
    }

    fn stop(lsn: u64) -> Stop {
        let (lsn, timeline) = (Lsn::new(lsn), TimelineId::FIRST);
        Stop { lsn, reached: Point { timeline, lsn, tx: TxId::NONE, time: Timestamp::MIN, named: true } }
    }

    #[test]
    fn the_newest_snapshot_whose_log_is_whole_is_taken() {
        let pieces = [piece(0, 10), piece(10, 20), piece(30, 40)];
        let snapshots = [snapshot(1, 5, 5), snapshot(2, 12, 14), snapshot(3, 25, 32), snapshot(4, 33, 33)];
        let chosen = |lsn| plan(&stop(lsn), &snapshots, &pieces).map(|p| p.snapshot.map(|id| id.0[0]));
        assert_eq!(chosen(3), Some(None), "the empty base");
        assert_eq!(chosen(13), Some(Some(1)), "the second is not consistent yet");
        assert_eq!(chosen(14), Some(Some(2)));
        assert_eq!(chosen(32), None, "the third needs log that is missing");
        assert_eq!(chosen(40), Some(Some(4)));
        let found = plan(&stop(14), &snapshots, &pieces).unwrap();
        assert_eq!(found.pieces, [piece(10, 20)]);
        assert_eq!((found.redo_from, found.stored_log_bytes, found.base_bytes), (Lsn::new(12), 10, 100));
    }

    proptest! {
        /// A plan exists exactly for restorable states, its log has no hole, and no newer snapshot
        /// leads there.
        #[test]
        fn plans_are_whole_and_newest(
            cuts in prop::collection::btree_set(0u64..60, 2..12), holes: u16, at in 0u64..64,
            raw in prop::collection::vec((0u64..60, 0u64..8), 0..5),
        ) {
            let cuts: Vec<u64> = cuts.into_iter().collect();
            let pieces: Vec<Piece> = cuts.windows(2).map(|w| piece(w[0], w[1])).enumerate()
                .filter(|(no, _)| holes >> no & 1 == 0).map(|(_, piece)| piece).collect();
            let snapshots: Vec<BaseSnapshot> = raw.iter().enumerate()
                .map(|(no, (at, back))| snapshot(no as u8, at.saturating_sub(*back), *at)).collect();
            let runs = runs(&pieces);
            let from_origin = runs.iter().any(|run| run.from == Lsn::ORIGIN && Lsn::new(at) <= run.to);
            let usable = snapshots.iter().filter(|s| reaches(&s.base, Lsn::new(at), &runs));
            let newest = usable.map(|s| s.base.consistent_at).max();
            let found = plan(&stop(at), &snapshots, &pieces);
            prop_assert_eq!(found.is_some(), newest.is_some() || from_origin);
            let Some(found) = found else { return Ok(()) };
            let id = found.snapshot.map(|id| snapshots[usize::from(id.0[0])].base.consistent_at);
            prop_assert_eq!(id, newest);
            let mut at = found.redo_from;
            for piece in &found.pieces {
                prop_assert!(piece.from() <= at);
                at = piece.to;
            }
            prop_assert!(found.redo_from >= found.stop || at >= found.stop);
        }
    }
}
