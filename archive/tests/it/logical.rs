//! Logical records that count are never left out of a merge of images (FAILURES 52).

use crate::source::Source;
use crate::world::content;
use pitr_archive::{Archive, Error, Footer, Merged, Piece, SourceObject};
use pitr_codec::{Codec, ObjectKind, encode_frame};
use pitr_format::record::Record;
use pitr_format::{FileId, Lsn, PartitionId, TxId};
use pitr_wal::{Appended, BatchBuilder};
use std::path::Path;

const LOGICAL: PartitionId = PartitionId::new(5);
const A: TxId = TxId::new(1);
const B: TxId = TxId::new(2);
const C: TxId = TxId::new(3);

impl Source {
    fn add(&self, build: impl FnOnce(&mut BatchBuilder) -> Result<(), pitr_wal::Error>) -> Appended {
        let mut batch = BatchBuilder::new();
        build(&mut batch).unwrap();
        self.wal.commit(batch).unwrap()
    }

    fn merge(&mut self, after: Lsn, upto: Lsn) -> Result<Merged, Error> {
        self.shipper.ship(&self.wal).unwrap();
        Merged::new(&self.archive, &self.pieces(), after, upto)
    }
}

fn data(batch: &mut BatchBuilder, tx: TxId, bytes: &[u8]) -> Result<(), pitr_wal::Error> {
    batch.push(LOGICAL, tx, &Record::Data(bytes))
}

fn image(batch: &mut BatchBuilder, tx: TxId, block: u64) -> Result<(), pitr_wal::Error> {
    let data = content(FileId::FIRST, block, 7);
    batch.push(PartitionId::FIRST, tx, &Record::Image { file: FileId::FIRST, block, data: &data })
}

fn end(batch: &mut BatchBuilder, tx: TxId, first: Option<Lsn>) -> Result<(), pitr_wal::Error> {
    batch.push_commit(PartitionId::FIRST, tx, None, first, b"")
}

#[track_caller]
fn refused(outcome: Result<Merged, Error>, tx: TxId, lsn: Lsn) {
    match outcome {
        Err(Error::Logical { partition, tx: named, lsn: at }) => {
            assert_eq!((partition, named, at), (LOGICAL, tx, lsn));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_committed_logical_record_in_the_range_refuses_the_merge() {
    for payload in [&b""[..], b"row", &[7; 40_000]] {
        for object_bytes in [1, 1 << 20] {
            let dir = tempfile::tempdir().unwrap();
            let mut source = Source::new(dir.path(), object_bytes, 1 << 16);
            let images = source.add(|b| image(b, A, 1).and_then(|()| end(b, A, None)));
            let record = source.add(|batch| data(batch, A, payload));
            let other = source.add(|b| image(b, B, 2).and_then(|()| end(b, B, None)));
            let commit = source.add(|batch| end(batch, A, Some(record.first))).end;
            let (origin, before) = (Lsn::ORIGIN, other.end);
            refused(source.merge(origin, commit), A, record.first);
            refused(source.merge(images.end, commit), A, record.first);
            assert_eq!(source.merge(origin, before).unwrap().survivors(), 2, "not committed by then");
            assert_eq!(source.merge(other.first, commit).unwrap().survivors(), 1, "the base has it");
            assert!(source.merge(commit, commit).is_ok(), "a snapshot alone needs no log");
        }
    }
}

#[test]
fn logical_records_of_aborted_and_open_transactions_are_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let mut source = Source::new(dir.path(), 1 << 20, 1 << 16);
    source.add(|batch| data(batch, A, b"aborted").and_then(|()| batch.push_abort(LOGICAL, A, None)));
    source.add(|batch| image(batch, C, 1).and_then(|()| end(batch, C, None)));
    // The number of an aborted transaction is reused for a transaction that stays open.
    let last = source.add(|batch| data(batch, A, b"undecided").and_then(|()| data(batch, B, b"so is this")));
    assert_eq!(source.merge(Lsn::ORIGIN, last.end).unwrap().survivors(), 1);
    let footer = source.archive.footer(&source.pieces()[0].name).unwrap();
    let entries: Vec<_> = footer.logical.iter().map(|entry| (entry.tx, entry.partition)).collect();
    assert_eq!(entries, [(A, LOGICAL), (A, LOGICAL), (B, LOGICAL)], "each use of a number has its own entry");
}

#[test]
fn a_reused_transaction_number_hides_no_logical_record() {
    let dir = tempfile::tempdir().unwrap();
    let mut source = Source::new(dir.path(), 1 << 20, 1 << 16);
    // An empty record: the commit's totals don't show it.
    let committed = source.add(|batch| data(batch, A, b"").and_then(|()| end(batch, A, None)));
    let last = source.add(|batch| data(batch, A, b"undecided"));
    refused(source.merge(Lsn::ORIGIN, last.end), A, committed.first);
}

/// Rewrites the object as it was before footers listed logical records.
fn as_before(dir: &Path, archive: &Archive, piece: &Piece) {
    rewrite(dir, archive, piece, |footer| footer.logical.clear());
}

/// Rewrites the object with another footer.
fn rewrite(dir: &Path, archive: &Archive, piece: &Piece, change: impl FnOnce(&mut Footer)) {
    let path = archive.folder().path(&SourceObject::Log(piece.name));
    let whole = archive.objects().get(&path).unwrap();
    let index = archive.objects().index_of(&path, ObjectKind::Log, &whole).unwrap();
    let mut builder = archive.objects().builder(&path, ObjectKind::Log, Codec::None).unwrap();
    for no in 0..index.frames.len() {
        let raw = index.decode_frame(&whole, no).unwrap();
        builder.push(&encode_frame(Codec::None, &raw).unwrap()).unwrap();
    }
    let mut footer = Footer::decode(&index.footer).unwrap();
    change(&mut footer);
    std::fs::write(dir.join("repo").join(&path), builder.finish(&footer.encode()).unwrap()).unwrap();
}

#[test]
fn logical_records_of_older_objects_are_found_by_the_commits_totals() {
    for object_bytes in [1, 1 << 20] {
        let dir = tempfile::tempdir().unwrap();
        let mut source = Source::new(dir.path(), object_bytes, 1 << 16);
        let images = source.add(|batch| {
            (0..9).try_for_each(|block| image(batch, A, block)).and_then(|()| end(batch, A, None))
        });
        let first = source.add(|batch| image(batch, B, 3)).first;
        let record = source.add(|batch| data(batch, B, b"row")).first;
        let commit = source.add(|batch| image(batch, B, 4).and_then(|()| end(batch, B, Some(first)))).end;
        source.merge(Lsn::ORIGIN, images.end).unwrap();
        source.pieces().iter().for_each(|piece| as_before(dir.path(), &source.archive, piece));
        let merge = |upto| Merged::new(&source.archive, &source.pieces(), Lsn::ORIGIN, upto);
        assert_eq!(merge(images.end).unwrap().survivors(), 9, "images alone are no reason to doubt");
        refused(merge(commit), B, record);
    }
}

#[test]
fn a_file_that_only_later_commits_touch_is_not_in_the_merge() {
    let dir = tempfile::tempdir().unwrap();
    let mut source = Source::new(dir.path(), 1 << 20, 1 << 16);
    let first = source.add(|batch| image(batch, A, 1).and_then(|()| end(batch, A, None))).end;
    let (file, block) = (FileId::new(7), content(FileId::new(7), 0, 7));
    let later = source.add(|batch| {
        batch.push(PartitionId::FIRST, B, &Record::Image { file, block: 0, data: &block })?;
        end(batch, B, None)
    });
    let files = |merged: Merged| merged.files().keys().copied().collect::<Vec<_>>();
    assert_eq!(files(source.merge(Lsn::ORIGIN, first).unwrap()), [FileId::FIRST]);
    assert_eq!(files(source.merge(Lsn::ORIGIN, later.end).unwrap()), [FileId::FIRST, file]);
    assert_eq!(files(source.merge(first, later.end).unwrap()), [file]);
}

/// A record as it is passed on: position, commit, transaction, payload.
type Passed = (Lsn, Lsn, TxId, Vec<u8>);

fn passed(source: &Source, after: Lsn, upto: Lsn) -> Result<Vec<Passed>, Error> {
    let merged = Merged::with_logical(&source.archive, &source.pieces(), after, upto)?;
    let mut passed = Vec::new();
    merged.for_each_logical::<Error>(|record| {
        assert_eq!(record.partition, LOGICAL);
        passed.push((record.lsn, record.commit, record.tx, record.payload.to_vec()));
        Ok(())
    })?;
    assert_eq!(merged.logical().is_empty(), passed.is_empty());
    Ok(passed)
}

/// Three transactions whose records interleave. Returns the records that count up to each commit.
fn interleaved(source: &mut Source) -> Vec<(Lsn, Vec<Passed>)> {
    let payloads: Vec<Vec<u8>> = [3, 0, 40_000, 20, 5_000, 1].map(|len| vec![len as u8; len]).into();
    let (mut records, mut first, mut upto) = (Vec::new(), [Lsn::MAX; 3], Vec::new());
    for (no, payload) in payloads.iter().enumerate() {
        for (tx, first) in [A, B, C].into_iter().zip(&mut first) {
            let lsn = source.add(|batch| data(batch, tx, payload)).first;
            *first = lsn.min(*first);
            records.push((lsn, tx, payload.clone()));
        }
        source
            .add(|batch| image(batch, TxId::new(9), no as u64).and_then(|()| end(batch, TxId::new(9), None)));
    }
    source.add(|batch| batch.push_abort(LOGICAL, C, Some(first[2])));
    let mut counts: Vec<Passed> = Vec::new();
    for (tx, first) in [(B, first[1]), (A, first[0])] {
        let commit = source.add(|batch| end(batch, tx, Some(first))).end;
        let own = records.iter().filter(|record| record.1 == tx);
        counts.extend(own.map(|(lsn, tx, payload)| (*lsn, commit, *tx, payload.clone())));
        counts.sort();
        upto.push((commit, counts.clone()));
    }
    source.shipper.ship(&source.wal).unwrap();
    upto
}

#[test]
fn committed_records_are_passed_on_whole_and_in_order() {
    for object_bytes in [1, 30_000, 1 << 20] {
        let dir = tempfile::tempdir().unwrap();
        let mut source = Source::new(dir.path(), object_bytes, 1 << 16);
        let states = interleaved(&mut source);
        for (upto, expected) in &states {
            assert!(passed(&source, Lsn::ORIGIN, *upto).unwrap() == *expected, "objects of {object_bytes}");
            // A base that has the first records, also in the middle of a long record.
            for (lsn, ..) in expected {
                for after in [*lsn, Lsn::new(lsn.get() + 100)] {
                    let left: Vec<_> = expected.iter().filter(|record| record.0 >= after).cloned().collect();
                    assert!(passed(&source, after, *upto).unwrap() == left, "after {after}");
                }
            }
        }
        let before = Lsn::new(states[0].0.get() - 8);
        assert_eq!(passed(&source, Lsn::ORIGIN, before).unwrap(), [], "nothing has committed");
    }
}

#[test]
fn records_of_older_objects_are_passed_on_too() {
    for object_bytes in [1, 30_000, 1 << 20] {
        let dir = tempfile::tempdir().unwrap();
        let mut source = Source::new(dir.path(), object_bytes, 1 << 16);
        let (upto, expected) = interleaved(&mut source).pop().unwrap();
        for (no, piece) in source.pieces().iter().enumerate() {
            if no % 3 < 2 {
                as_before(dir.path(), &source.archive, piece);
            }
        }
        assert!(passed(&source, Lsn::ORIGIN, upto).unwrap() == expected, "objects of {object_bytes}");
    }
}

#[test]
fn a_listed_record_that_is_not_there_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut source = Source::new(dir.path(), 1 << 20, 1 << 16);
    let (upto, _) = interleaved(&mut source).pop().unwrap();
    let wrong = |footer: &mut Footer| footer.logical[0].lsn = Lsn::new(footer.logical[0].lsn.get() - 8);
    rewrite(dir.path(), &source.archive, &source.pieces()[0], wrong);
    assert!(matches!(passed(&source, Lsn::ORIGIN, upto), Err(Error::Index { .. })));
}

#[test]
fn an_error_of_the_receiver_ends_the_pass() {
    let dir = tempfile::tempdir().unwrap();
    let mut source = Source::new(dir.path(), 1, 1 << 16);
    let (upto, _) = interleaved(&mut source).pop().unwrap();
    let merged = Merged::with_logical(&source.archive, &source.pieces(), Lsn::ORIGIN, upto).unwrap();
    let mut given = 0;
    let ended = merged.for_each_logical::<Error>(|record| {
        given += 1;
        Err(Error::WalGap { from: record.lsn, to: record.lsn })
    });
    assert!(matches!(ended, Err(Error::WalGap { .. })));
    assert_eq!(given, 1);
}
