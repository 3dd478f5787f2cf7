//! Checkpoints of an engine, in the archived log.

use crate::source::Source;
use pitr_archive::{Error, Piece, Search};
use pitr_format::record::Record;
use pitr_format::{Lsn, PartitionId, TxId};
use pitr_wal::{BatchBuilder, Checkpoint};

impl Source {
    fn commit(&mut self, tx: u64) {
        let mut batch = BatchBuilder::new();
        batch.push(PartitionId::FIRST, TxId::new(tx), &Record::Data(&[tx as u8; 500])).unwrap();
        batch.push_commit(PartitionId::FIRST, TxId::new(tx), None, None, b"").unwrap();
        self.wal.commit(batch).unwrap();
        self.shipper.ship(&self.wal).unwrap();
    }

    /// Takes a checkpoint. Other objects end before and after it.
    fn checkpoint(&mut self, state: &[u8]) -> Checkpoint {
        let redo_from = self.wal.redo_point();
        self.commit(1_000);
        let taken = self.wal.checkpoint(redo_from, state).unwrap();
        self.shipper.ship(&self.wal).unwrap();
        taken
    }
}

fn state(nth: usize) -> Vec<u8> {
    // The second fills several segments, frames and, with small objects, objects.
    (0..[0, 40_000, 100, 9_000][nth % 4]).map(|at| (at * nth) as u8).collect()
}

#[test]
fn every_checkpoint_is_found_and_read_wherever_objects_end() {
    for object_bytes in [1, 5_000, 1 << 20] {
        let dir = tempfile::tempdir().unwrap();
        let mut source = Source::new(dir.path(), object_bytes, 3_000);
        let mut taken = Vec::new();
        for nth in 0..8 {
            (0..nth as u64).for_each(|tx| source.commit(tx + 1));
            taken.push(source.checkpoint(&state(nth)));
        }
        source.commit(99);
        let pieces = source.pieces();
        let search = Search::new(&source.archive, &pieces);
        assert!(search.checkpoint(taken[0].end.before(), |_| true).unwrap().is_none());
        for (nth, made) in taken.iter().enumerate() {
            let upto = taken.get(nth + 1).map_or(Lsn::MAX, |next| next.end.before());
            for upto in [made.end, upto] {
                let found = search.checkpoint(upto, |_| true).unwrap().unwrap();
                let expected = (made.lsn, made.end, made.redo_from, made.bytes);
                assert_eq!((found.lsn, found.end, found.redo_from, found.bytes), expected);
                assert_eq!(source.archive.read_checkpoint(&pieces, &found).unwrap(), state(nth));
            }
        }
        let oldest = search.checkpoint(Lsn::MAX, |found| found.redo_from < taken[1].redo_from).unwrap();
        assert_eq!(oldest.map(|found| found.lsn), Some(taken[0].lsn));
    }
}

#[test]
fn a_checkpoint_that_the_log_does_not_hold_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut source = Source::new(dir.path(), 1, 3_000);
    source.checkpoint(b"state");
    let (pieces, archive) = (source.pieces(), &source.archive);
    let found = Search::new(archive, &pieces).checkpoint(Lsn::MAX, |_| true).unwrap().unwrap();
    let mut moved = found;
    moved.lsn = found.lsn.before();
    assert!(
        matches!(archive.read_checkpoint(&pieces, &moved), Err(Error::Index { lsn, .. }) if lsn == moved.lsn)
    );
    let before: Vec<Piece> = pieces.into_iter().filter(|piece| piece.to <= found.lsn).collect();
    assert!(matches!(archive.read_checkpoint(&before, &found), Err(Error::NoCheckpoint { .. })));
}
