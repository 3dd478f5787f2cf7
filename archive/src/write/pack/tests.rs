use super::*;
use crate::history::Piece;
use crate::read::BlockSet;
use crate::stored::{CommitEntry, SetLengthEntry};
use pitr_format::log::{BATCH_HEADER_BYTES, BatchHeader, Frame, Part};
use pitr_format::record::Record;
use pitr_format::{Epoch, FileId, PartitionId, SegmentSize, TimelineId, Timestamp, TxId};
use proptest::prelude::*;

const FIRST: u64 = (1 << 20) + 4096;

fn identity() -> LogIdentity {
    LogIdentity {
        timeline: TimelineId::FIRST,
        epoch: Epoch::FIRST,
        segment_size: SegmentSize::new(1 << 20).unwrap(),
        log_id: [1; 16],
    }
}

/// Batches with at most `piece` bytes of each record in a body.
fn batches(records: &[Vec<u8>], piece: usize, per_batch: usize) -> Vec<LogBatch> {
    let mut frames: Vec<(Part, u32, &[u8])> = Vec::new();
    for payload in records {
        let parts: Vec<&[u8]> = payload.chunks(piece).collect();
        for (no, bytes) in parts.iter().enumerate() {
            let part = match (no, parts.len()) {
                (_, 1) => Part::Full,
                (0, _) => Part::First,
                (no, all) if no + 1 == all => Part::Last,
                _ => Part::Middle,
            };
            frames.push((part, payload.len() as u32, bytes));
        }
    }
    let seed = Seed::new(TimelineId::FIRST, SegmentNo::FIRST, Incarnation::FIRST);
    let (mut lsn, mut out) = (FIRST, Vec::new());
    for some in frames.chunks(per_batch) {
        let mut body = Vec::new();
        for (part, total_len, bytes) in some {
            let (partition, tx) = (PartitionId::FIRST, TxId::FIRST);
            Frame { lsn: Lsn::ORIGIN, kind: 1, part: *part, partition, tx, total_len: *total_len, bytes }
                .encode(&mut body);
        }
        let header = BatchHeader {
            lsn: Lsn::new(lsn),
            prev: Lsn::ORIGIN,
            durable: Lsn::ORIGIN,
            time: Timestamp::from_micros(7),
            body_len: body.len() as u32,
            frames: some.len() as u32,
            body_crc: seed.crc(&body),
        };
        let mut bytes = header.encode(seed).to_vec();
        bytes.extend_from_slice(&body);
        assert_eq!(bytes.len(), BATCH_HEADER_BYTES + body.len());
        lsn += header.span();
        out.push(LogBatch {
            header,
            timeline: TimelineId::FIRST,
            segment: SegmentNo::FIRST,
            incarnation: Incarnation::FIRST,
            bytes,
            follows: None,
        });
    }
    out
}

fn image(block: u64, len: usize) -> Vec<u8> {
    let mut payload = Vec::new();
    Record::Image { file: FileId::FIRST, block, data: &vec![block as u8; len] }.encode(&mut payload);
    payload
}

fn packer(from: Lsn, carry: Carry, frame_bytes: usize) -> Packer {
    Packer::new(identity(), from, false, carry, frame_bytes)
}

fn archive() -> Archive {
    Archive::new(pitr_objects::Objects::memory().unwrap(), pitr_format::SourceName::new("app").unwrap())
}

fn index(archive: &Archive, built: &Built) -> ObjectIndex {
    let (path, kind) = archive.path_and_kind(&SourceObject::Log(built.name));
    archive.objects().index_of(&path, kind, &built.bytes).unwrap()
}

/// The same batch as the first of a segment.
fn first_of(batch: &LogBatch, segment: SegmentNo) -> LogBatch {
    let seed = Seed::new(TimelineId::FIRST, segment, Incarnation::FIRST);
    let lsn = identity().segment_size.start_of(segment).unwrap().checked_add(4096).unwrap();
    let body = &batch.bytes[BATCH_HEADER_BYTES..];
    let header = BatchHeader { lsn, body_crc: seed.crc(body), ..batch.header };
    let bytes = [&header.encode(seed)[..], body].concat();
    LogBatch { header, segment, bytes, ..batch.clone() }
}

/// The object of these batches, with a changed footer.
fn with_footer(archive: &Archive, batches: &[LogBatch], change: impl FnOnce(&mut Footer)) -> LogName {
    let mut packer = packer(Lsn::new(FIRST), Carry::nothing(), 3000);
    batches.iter().for_each(|batch| packer.push(batch, Lsn::MAX).unwrap());
    let frames = packer.frames.clone();
    let built = packer.build(archive, Codec::default()).unwrap();
    let mut footer = Footer::decode(&index(archive, &built).footer).unwrap();
    change(&mut footer);
    let (path, kind) = archive.path_and_kind(&SourceObject::Log(built.name));
    let mut builder = archive.objects().builder(&path, kind, Codec::default()).unwrap();
    frames.iter().for_each(|raw| {
        builder.push(&encode_frame(Codec::default(), raw).unwrap()).unwrap();
    });
    archive.objects().put_new(&path, builder.finish(&footer.encode()).unwrap()).unwrap();
    built.name
}

#[test]
fn an_index_that_differs_from_its_records_is_found() {
    type Change = fn(&mut Footer);
    let changes: [(&str, Change); 7] = [
        ("nothing", |_| {}),
        ("a missing image", |footer| {
            footer.files[0].images.pop();
        }),
        ("another block", |footer| footer.files[0].images[0].block += 7),
        ("another file", |footer| footer.files[1].file = FileId::new(9)),
        ("another transaction", |footer| footer.files[0].images[0].tx = TxId::new(9)),
        ("an extra commit", |footer| {
            let lsn = footer.files[0].images[0].lsn;
            let (tx, time) = (TxId::FIRST, Timestamp::MIN);
            let commit =
                CommitEntry { tx, lsn, time, earliest: time, first_lsn: footer.from, blocks: 1, bytes: 1 };
            footer.commits.push(commit);
        }),
        ("a record that it lacks", |footer| {
            let (lsn, tx) = (footer.files[0].images[0].lsn, TxId::FIRST);
            footer.set_lengths.push(SetLengthEntry { lsn, file: FileId::FIRST, len: 1, tx });
        }),
    ];
    let all = batches(&[image(1, 3000), image(2, 3000), image(5, 800)], 1000, 2);
    for (what, change) in changes {
        let archive = archive();
        let name = with_footer(&archive, &all, change);
        let piece = Piece { name, stored_bytes: 1, to: name.to };
        let checked = archive.check_range(&[piece], Lsn::ORIGIN, Lsn::MAX, &|| {});
        match what {
            "nothing" => checked.unwrap(),
            _ => assert!(matches!(checked, Err(Error::Index { object, .. }) if object == name), "{what}"),
        }
    }
}

#[test]
fn an_object_may_hold_the_end_of_a_segment_and_the_next_one() {
    let all = batches(&[image(1, 3000), image(2, 3000)], 1000, 2);
    let archive = archive();
    let check = |batches: &[&LogBatch]| {
        let mut packer = packer(Lsn::new(FIRST), Carry::nothing(), 1 << 20);
        batches.iter().for_each(|batch| packer.push(batch, Lsn::MAX).unwrap());
        let built = packer.build(&archive, Codec::default()).unwrap();
        archive.check_log(&built.name, &built.bytes, true)
    };
    let segment = |number| SegmentNo::new(SegmentNo::FIRST.get() + number);
    check(&[&all[0], &all[1]]).unwrap();
    check(&[&all[0], &first_of(&all[1], segment(1))]).unwrap();
    // A segment without a batch in between.
    check(&[&all[0], &all[1], &first_of(&all[2], segment(2)), &first_of(&all[3], segment(3))]).unwrap();
    // A batch that is not the first of its segment: one before it is missing.
    let mut late = first_of(&all[1], segment(1));
    let seed = Seed::new(TimelineId::FIRST, late.segment, Incarnation::FIRST);
    late.header.lsn = late.end();
    let header = late.header.encode(seed);
    late.bytes[..BATCH_HEADER_BYTES].copy_from_slice(&header);
    assert!(matches!(check(&[&all[0], &late]), Err(Error::Malformed { .. })));
}

#[test]
fn batches_above_the_durable_lsn_are_not_packed() {
    // FAILURES 42
    let batch = &batches(&[image(1, 100)], 1000, 8)[0];
    let mut packer = packer(Lsn::new(FIRST), Carry::nothing(), 1 << 20);
    let short = batch.end().before();
    assert!(matches!(packer.push(batch, short), Err(Error::NotDurable { .. })));
    packer.push(batch, batch.end()).unwrap();
}

#[test]
fn an_object_that_does_not_decode_into_the_log_is_not_put() {
    // FAILURES 30
    let mut packer = packer(Lsn::new(FIRST), Carry::nothing(), 1 << 20);
    for batch in batches(&[image(1, 3000), image(2, 3000)], 1000, 2) {
        packer.push(&batch, Lsn::MAX).unwrap();
    }
    let name = LogName {
        timeline: TimelineId::FIRST,
        epoch: Epoch::FIRST,
        from: packer.from,
        to: packer.end,
        level: 0,
    };
    let raw = packer.frames.clone();
    let archive = archive();
    let built = packer.build(&archive, Codec::default()).unwrap();
    let index = index(&archive, &built);
    let footer = Footer::decode(&index.footer).unwrap();
    assert!(verify(Spawn::Threads, &index, &built.bytes, &raw, &footer, name).is_ok());
    let mut other = raw.clone();
    other[0][100] ^= 1;
    assert!(matches!(
        verify(Spawn::Threads, &index, &built.bytes, &other, &footer, name),
        Err(Error::EncodingMismatch { .. })
    ));
    let mut damaged = built.bytes.to_vec();
    let middle = index.frames[0].range().start as usize + 40;
    damaged[middle] ^= 1;
    assert!(matches!(
        verify(Spawn::Threads, &index, &damaged, &raw, &footer, name),
        Err(Error::EncodingMismatch { .. })
    ));
}

proptest! {
    /// The index does not depend on how the log is divided into objects. It has each image once, in
    /// the object in which the image ends.
    #[test]
    fn an_index_does_not_depend_on_where_objects_end(
        blocks in prop::collection::vec(0u64..50, 1..12), piece in 24usize..2000, per_batch in 1usize..5,
        cuts: u16, frame_bytes in 64usize..4000,
    ) {
        let records: Vec<Vec<u8>> = blocks.iter().map(|block| image(*block, 1000 + *block as usize)).collect();
        let batches = batches(&records, piece, per_batch);
        let archive = archive();
        let (mut carry, mut footers) = (Carry::nothing(), Vec::new());
        let mut current: Option<Packer> = None;
        for (no, batch) in batches.iter().enumerate() {
            let packer = current.get_or_insert_with(|| packer(batch.header.lsn, carry.clone(), frame_bytes));
            packer.push(batch, Lsn::MAX).unwrap();
            if cuts >> (no % 16) & 1 == 1 || no + 1 == batches.len() {
                let built = current.take().unwrap().build(&archive, Codec::None).unwrap();
                footers.push(Footer::decode(&index(&archive, &built).footer).unwrap());
                carry = Carry::after(footers.last().unwrap());
            }
        }
        let mut found: Vec<(Lsn, u64)> = footers.iter()
            .flat_map(|f| f.files.iter().flat_map(|file| file.images.iter().map(|i| (i.lsn, i.block)))).collect();
        found.sort_unstable();
        prop_assert!(found.iter().map(|(_, block)| *block).eq(blocks.iter().copied()));
        let mut positions = BlockSet::default();
        prop_assert!(found.iter().all(|(lsn, _)| positions.insert(lsn.get())));
        for footer in &footers {
            prop_assert!(footer.frames.windows(2).all(|w| w[0].lsn < w[1].lsn));
            for span in &footer.spans {
                let last = footer.frame_of(span.end.before()).unwrap();
                prop_assert!(footer.frame_of(span.lsn) != Some(last), "a span lies in more than one frame");
            }
        }
        let open = &footers.last().unwrap().open;
        prop_assert_eq!(open.len(), 1);
        prop_assert_eq!(open[0].first_lsn, found[0].0);
        prop_assert_eq!(open[0].blocks as usize, blocks.len());
    }
}
