//! Prints the records of a segment of the log, with this crate alone.
//!
//! `cargo run -p pitr-format --example dump -- FILE` reads a segment file of `pitr-wal`. Without a
//! file the program builds a segment in memory, prints it, damages a byte, and prints it again.

use pitr_format::bytes::DecodeError;
use pitr_format::index::SegmentIndex;
use pitr_format::log::{Assembler, BATCH_HEADER_BYTES, Batch, BatchHeader, Follows, Frame, Part};
use pitr_format::log::{SEGMENT_HEADER_BYTES, SegmentHeader};
use pitr_format::record::{Commit, Record};
use pitr_format::{FileId, Incarnation, Lsn, PartitionId, SegmentNo, SegmentSize};
use pitr_format::{TimelineId, Timestamp, TxId};

/// Prints everything up to the first bytes that are no batch. Returns why they are none.
fn dump(segment: &[u8]) -> Result<DecodeError, DecodeError> {
    let header = SegmentHeader::decode(segment)?;
    println!("timeline {}, segment {}, incarnation {}", header.timeline, header.segment, header.incarnation);
    let mut offset = SEGMENT_HEADER_BYTES as usize;
    let mut records = Assembler::new();
    loop {
        let rest = segment.get(offset..).unwrap_or_default();
        let batch = match Batch::decode(rest, header.seed()) {
            Ok(batch) => batch,
            Err(end) => return Ok(end),
        };
        println!("batch at {}, durable up to {}", batch.header.lsn, batch.header.durable);
        for frame in batch.frames() {
            if let Some(record) = records.push(&frame?)? {
                let (lsn, tx) = (record.lsn, record.tx);
                match Record::decode(record.kind, record.payload)? {
                    Record::Commit(commit) => {
                        println!("  {lsn}: transaction {tx} commits at {}", commit.time)
                    }
                    Record::Image { file, block, data } => {
                        println!(
                            "  {lsn}: transaction {tx}, file {file}, block {block}, {} bytes",
                            data.len()
                        );
                    }
                    other => println!("  {lsn}: transaction {tx}, {:?}", other.kind()),
                }
            }
        }
        offset += batch.header.span() as usize; // at most the bytes that were decoded, and padding
    }
}

/// A segment with one transaction in one batch.
fn segment() -> Vec<u8> {
    let header = SegmentHeader {
        timeline: TimelineId::FIRST,
        segment: SegmentNo::FIRST,
        incarnation: Incarnation::FIRST,
        segment_size: SegmentSize::DEFAULT,
        log_id: *b"sixteen random b",
        follows: Follows { end: Lsn::ORIGIN, segment: None, last_batch: Lsn::ORIGIN, gap: false },
        time: Timestamp::MIN,
        checkpoint: None,
        recycled: false,
    };
    let lsn = header.first_batch().expect("the first segment is within the range");
    let first_lsn = lsn.checked_add(BATCH_HEADER_BYTES as u64).expect("so is its first batch");
    let time = Timestamp::from_micros(1_795_271_526_000_001);
    let records = [
        Record::Image { file: FileId::FIRST, block: 7, data: &[5; 512] },
        Record::Data(b"a logical record"),
        Record::Commit(Commit { time, earliest: time, first_lsn, note: b"" }),
    ];
    let (mut body, mut payload) = (Vec::new(), Vec::new());
    for record in &records {
        payload.clear();
        record.encode(&mut payload);
        let (kind, total_len) = (record.kind() as u8, payload.len() as u32);
        let (partition, tx) = (PartitionId::FIRST, TxId::new(1));
        Frame { lsn, kind, part: Part::Full, partition, tx, total_len, bytes: &payload }.encode(&mut body);
    }
    let batch = BatchHeader {
        lsn,
        prev: Lsn::ORIGIN,
        durable: lsn,
        time,
        body_len: body.len() as u32,
        frames: records.len() as u32,
        body_crc: header.seed().crc(&body),
    };
    [header.encode(&SegmentIndex::default()), batch.encode(header.seed()).to_vec(), body].concat()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if let Some(path) = std::env::args_os().nth(1) {
        let end = dump(&std::fs::read(path)?)?;
        println!("end: {end}");
        return Ok(());
    }
    let mut segment = segment();
    println!("end: {}\n", dump(&segment)?);
    let last = segment.len() - 1;
    segment[last] ^= 1;
    println!("end: {}", dump(&segment)?);
    Ok(())
}
