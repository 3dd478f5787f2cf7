//! Checks the bytes of a log against `docs/format/wal.md`.

use crate::help::{P, env, options, start};
use pitr_format::record::Record;
use pitr_format::{FileId, Lsn, Timestamp, TxId};
use pitr_testkit::Bytes;
use pitr_vfs::sim::{SimClock, SimFs};
use pitr_wal::{BatchBuilder, Wal};
use std::path::Path;
use std::sync::Arc;

const SIZE: u64 = 16 << 10;

#[test]
fn the_format_page_tells_the_bytes() {
    let fs = SimFs::new();
    let clock = Arc::new(SimClock::new(Timestamp::from_micros(777)));
    let wal =
        Wal::create(&env(Arc::new(fs.clone()), clock), Path::new("/log"), &start(SIZE as u32), &options())
            .unwrap();
    let mut batch = BatchBuilder::new();
    let image = Record::Image { file: FileId::new(3), block: 9, data: &[0xee; 600] };
    batch.push(P, TxId::new(5), &image).unwrap();
    batch.push_commit(P, TxId::new(5), Some(Timestamp::from_micros(700)), None, b"note").unwrap();
    let appended = wal.commit(batch).unwrap();
    let seal = wal.durable().get();
    let checkpoint = wal.checkpoint(Lsn::new(SIZE + 4096), b"state").unwrap();
    let end = wal.durable().get();
    wal.skip().unwrap();

    let disk = fs.durable_disk();
    let names: Vec<&Path> = disk.names().collect();
    assert_eq!(names, [Path::new("/log/0000000000000001.seg"), Path::new("/log/0000000000000003.seg")]);
    let first = Bytes(disk.read(names[0]).unwrap());
    let third = Bytes(disk.read(names[1]).unwrap());
    assert_eq!((first.0.len() as u64, third.0.len() as u64), (SIZE, SIZE));

    // The segment header.
    assert_eq!(&third.0[..8], b"PITRSEG1");
    assert_eq!((third.u16(8), third.u16(10), first.u16(10)), (1, 1 | 4, 0));
    assert_eq!((third.u32(12), third.u32(16), third.u32(20)), (SIZE as u32, 1, 1));
    assert_eq!((third.u64(24), third.u64(32), third.u32(40), third.u32(44)), (3, 1, 1, 0));
    assert_eq!((third.u64(48), third.u64(56), third.u64(64)), (end, seal, 777));
    assert_eq!(&third.0[72..88], &[7; 16]);
    assert_eq!(third.u64(88), checkpoint.lsn.get());
    assert!(first.u64(88) == 0 && third.0[96..108].iter().all(|byte| *byte == 0));
    assert_ne!(third.u32(108), 0);

    // The index of the first segment, in the header of the second: a stretch with one commit, and
    // one without.
    assert_ne!(third.u32(112), 0);
    assert_eq!((third.u32(116), third.u32(120), third.u64(124)), (2, 4096, 777));
    assert_eq!((third.u64(132), third.u64(140)), (5, 5));
    assert_eq!((third.u32(148), third.u64(152)), ((seal - SIZE) as u32, 777));
    assert!(third.u64(160) > third.u64(168));
    assert!(third.0[176..4096].iter().all(|byte| *byte == 0));
    assert_eq!(first.u32(116), 0);
    assert_eq!((first.u64(24), first.u64(32), first.u64(48), first.u64(56)), (1, 0, 0, 0));

    // The batch header.
    let begin = 4096;
    assert_eq!(&first.0[begin..begin + 4], b"PBAT");
    let [lsn, prev, durable, time] = [8, 16, 24, 32].map(|at| first.u64(begin + at));
    assert_eq!((lsn, prev, durable, time), (SIZE + 4096, 0, SIZE + 4096, 777));
    let body_len = 24 + 16 + 600 + 24 + 24 + 4;
    assert_eq!((first.u32(begin + 40), first.u32(begin + 44)), (body_len, 2));
    assert!(first.0[begin + 52..begin + 64].iter().all(|byte| *byte == 0));

    // The frames: an image, then the commit.
    let image = begin + 64;
    assert_eq!((first.u32(image), first.u32(image + 4)), (616, 616));
    assert_eq!((first.0[image + 8], first.0[image + 9], first.u16(image + 10)), (1, 0, 0));
    assert_eq!((first.u32(image + 12), first.u64(image + 16)), (0, 5));
    assert_eq!((first.u32(image + 24), first.u32(image + 28), first.u64(image + 32)), (3, 600, 9));
    let commit = image + 24 + 616;
    assert_eq!((first.u32(commit), first.0[commit + 8]), (28, 4));
    assert_eq!((first.u64(commit + 24), first.u64(commit + 32)), (777, 700));
    assert_eq!(first.u64(commit + 40), appended.first.get());
    assert_eq!(&first.0[commit + 48..commit + 52], b"note");
    assert_eq!(
        (appended.first, appended.end),
        (Lsn::new(SIZE + image as u64), Lsn::new(SIZE + commit as u64 + 52))
    );

    // The next batch: a checkpoint.
    assert_eq!(seal, (SIZE + commit as u64 + 52).next_multiple_of(8));
    let frame = (seal - SIZE) as usize + 64;
    assert_eq!((first.u32(frame), first.0[frame + 8], first.u64(frame + 16)), (21, 10, 0));
    assert_eq!((first.u64(frame + 24), first.u64(frame + 32)), (SIZE + 4096, 0));
    assert_eq!(&first.0[frame + 40..frame + 45], b"state");

    // The rest of the segment, from the padding on.
    assert_eq!(end, (SIZE + frame as u64 + 45).next_multiple_of(8));
    assert!(first.0[frame + 45..].iter().all(|byte| *byte == 0));
}
