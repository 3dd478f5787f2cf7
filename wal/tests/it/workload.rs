//! Transactions whose content follows from their number, so that each one in a log can be verified
//! on its own.

use crate::help::P;
use pitr_format::record::{Commit, Record};
use pitr_format::{Lsn, Timestamp, TxId};
use pitr_vfs::sim::Rng;
use pitr_wal::{BatchBuilder, Error, LogBatch, LogReader, Records};
use std::collections::{BTreeMap, BTreeSet};

/// The payloads of transaction `tx`: empty, a few bytes, some thousand, sometimes more than a
/// segment of 64 KiB.
pub(crate) fn payloads(tx: u64) -> Vec<Vec<u8>> {
    let mut rng = Rng::new(tx);
    (0..rng.below(4))
        .map(|_| {
            let len = match rng.below(400) {
                0..60 => 0,
                60..300 => rng.below(100),
                300..399 => rng.below(2_500),
                _ => 66_000 + rng.below(120_000),
            };
            let words = len.div_ceil(8);
            let mut bytes = Vec::with_capacity(8 * words as usize);
            (0..words).for_each(|_| bytes.extend_from_slice(&rng.draw().to_le_bytes()));
            bytes.truncate(len as usize);
            bytes
        })
        .collect()
}

/// The records and the commit of `tx`.
pub(crate) fn transaction(tx: u64) -> BatchBuilder {
    let mut batch = BatchBuilder::new();
    for payload in payloads(tx) {
        batch.push(P, TxId::new(tx), &Record::Data(&payload)).unwrap();
    }
    batch.push_commit(P, TxId::new(tx), None, None, &tx.to_le_bytes()).unwrap();
    batch
}

/// The committed transactions in a part of a log.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct History {
    /// Transactions with the ends of their commit records.
    pub(crate) visible: BTreeMap<u64, Lsn>,
    /// Position and bytes of each batch.
    pub(crate) batches: BTreeMap<Lsn, Vec<u8>>,
    /// The batches that follow a gap.
    pub(crate) behind_gaps: BTreeSet<Lsn>,
}

/// Reads the rest of a log from `reader`'s position on. Every visible transaction must be whole,
/// and the times in order. Skips a transaction that started earlier.
pub(crate) fn history(reader: &mut LogReader) -> Result<History, Error> {
    let from = reader.position();
    let (mut records, mut history) = (Records::from_anywhere(), History::default());
    let mut open: BTreeMap<u64, Vec<(Lsn, Vec<u8>)>> = BTreeMap::new();
    let mut time = Timestamp::MIN;
    while let Some(batch) = reader.next_batch()? {
        records.feed::<Error>(&batch, |record| {
            let tx = record.tx.get();
            match Record::decode(record.kind, record.payload).unwrap() {
                Record::Commit(commit) => {
                    assert!(commit.time >= time, "times go back");
                    time = commit.time;
                    let logged = open.remove(&tx).unwrap_or_default();
                    if commit.first_lsn < from {
                        return Ok(());
                    }
                    check_commit(tx, &commit, &logged, record.lsn);
                    assert_eq!(history.visible.insert(tx, record.end), None, "{tx} was committed twice");
                }
                _ => open.entry(tx).or_default().push((record.lsn, record.payload.to_vec())),
            }
            Ok(())
        })?;
        let LogBatch { header, bytes, follows, .. } = batch;
        assert!(header.time >= time);
        if follows.is_some_and(|follows| follows.gap) {
            history.behind_gaps.insert(header.lsn);
        }
        history.batches.insert(header.lsn, bytes);
    }
    Ok(history)
}

/// Checks that the records from the commit's first LSN on are the transaction's, byte for byte.
/// Earlier records belong to a transaction of the same number that a crash ended.
fn check_commit(tx: u64, commit: &Commit<'_>, logged: &[(Lsn, Vec<u8>)], lsn: Lsn) {
    assert!(commit.earliest <= commit.time && commit.note == tx.to_le_bytes());
    let begin = logged.iter().position(|(lsn, _)| *lsn >= commit.first_lsn).unwrap_or(logged.len());
    let own: Vec<&[u8]> = logged[begin..].iter().map(|(_, payload)| payload.as_slice()).collect();
    let first = logged.get(begin).map_or(lsn, |(lsn, _)| *lsn);
    assert_eq!(commit.first_lsn, first, "transaction {tx} is not there from its begin");
    assert!(own == payloads(tx), "transaction {tx} is half visible or changed");
}

/// Numbers of the visible transactions.
pub(crate) fn numbers(history: &History) -> BTreeSet<u64> {
    history.visible.keys().copied().collect()
}
