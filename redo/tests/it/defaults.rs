//! An engine that implements only what it must.

use pitr_format::{Lsn, PartitionId, TxId};
use pitr_redo::{BoxError, LogicalRecord, Redo};

struct Least;

impl Redo for Least {
    fn apply(&self, _: &LogicalRecord<'_>) -> Result<(), BoxError> {
        Err("this record is unknown".into())
    }
}

#[test]
fn an_engine_without_batches_and_barriers_applies_every_record() {
    let (partition, payload) = (PartitionId::FIRST, &b"a row"[..]);
    let record =
        LogicalRecord { lsn: Lsn::new(5), commit: Lsn::new(9), tx: TxId::new(1), partition, payload };
    assert_eq!(Least.applied(partition).unwrap(), Lsn::ORIGIN, "nothing is known to be applied");
    assert!(!Least.is_barrier(&record));
    Least.begin(partition).unwrap();
    assert_eq!(Least.apply(&record).unwrap_err().to_string(), "this record is unknown");
    Least.end(partition, Lsn::new(6)).unwrap();
    Least.finish().unwrap();
}
