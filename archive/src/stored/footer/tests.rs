use super::*;
use pitr_format::bytes::DecodeError;
use proptest::prelude::*;

const FROM: u64 = 1 << 20;
const TO: u64 = 9 << 20;

fn lsns(most: usize) -> impl Strategy<Value = Vec<u64>> {
    prop::collection::btree_set(FROM + 1..TO, 0..most).prop_map(|set| set.into_iter().collect())
}

fn commits() -> impl Strategy<Value = Vec<CommitEntry>> {
    let fields = (any::<u64>(), 0i64..1 << 40, any::<Option<u32>>(), any::<u32>());
    (lsns(40), prop::collection::vec(fields, 40)).prop_map(|(lsns, mut fields)| {
        fields.sort_by_key(|f| f.1);
        let entry = |(lsn, (tx, time, earliest, back)): (u64, (u64, i64, Option<u32>, u32))| CommitEntry {
            tx: TxId::new(tx),
            lsn: Lsn::new(lsn),
            time: Timestamp::from_micros(time),
            earliest: earliest.map_or(Timestamp::MIN, |d| Timestamp::from_micros(time - i64::from(d))),
            first_lsn: Lsn::new(lsn - u64::from(back) % lsn),
            blocks: u64::from(back) / 7,
            bytes: u64::from(back),
        };
        lsns.into_iter().zip(fields).map(entry).collect()
    })
}

fn files() -> impl Strategy<Value = Vec<FileImages>> {
    let image = (0u64..1 << 40, 1..TO, any::<u64>());
    let images = prop::collection::vec(image, 0..60).prop_map(|list| {
        let mut list: Vec<_> = list
            .into_iter()
            .map(|(block, lsn, tx)| ImageEntry { block, lsn: Lsn::new(lsn), tx: TxId::new(tx) })
            .collect();
        list.sort_unstable();
        list.dedup();
        list
    });
    prop::collection::btree_map((any::<u32>(), 1u32..1 << 20), images, 0..3).prop_map(|map| {
        map.into_iter()
            .map(|((file, block_bytes), images)| FileImages { file: FileId::new(file), block_bytes, images })
            .collect()
    })
}

fn marks() -> impl Strategy<Value = Vec<Mark>> {
    prop::collection::vec((FROM..TO, any::<bool>(), any::<i64>(), any::<i64>()), 0..4).prop_map(|list| {
        let mark = |(lsn, step, a, b)| {
            let (a, b) = (Timestamp::from_micros(a), Timestamp::from_micros(b));
            let gap = MarkKind::Gap { reason: GapReason::LogFull, since: a, until: b };
            Mark { lsn: Lsn::new(lsn), what: if step { MarkKind::ClockStep { from: a, to: b } } else { gap } }
        };
        list.into_iter().map(mark).collect()
    })
}

fn cut() -> impl Strategy<Value = Option<CutRecord>> {
    prop::option::of((FROM..TO, any::<u8>(), 1u32..1 << 20, any::<[u8; RECORD_HEAD_BYTES]>())).prop_map(
        |cut| {
            cut.map(|(lsn, kind, seen, mut head)| {
                head[RECORD_HEAD_BYTES.min(seen as usize)..].fill(0);
                let (partition, tx) = (PartitionId::new(3), TxId::new(9));
                CutRecord { lsn: Lsn::new(lsn), kind, partition, tx, total_len: seen + 7, seen, head }
            })
        },
    )
}

prop_compose! {
    fn footers()(
        frames in lsns(9), commits in commits(), files in files(), spans in lsns(8), lengths in lsns(8),
        marks in marks(), cut in cut(), logical in lsns(5), checkpoints in lsns(8), open in prop::collection::btree_map(any::<u64>(), 1..TO, 0..5), gap: bool, mark: i64,
    ) -> Footer {
        let entry = |(no, lsn): (usize, &u64)| SetLengthEntry {
            lsn: Lsn::new(*lsn), file: FileId::new(no as u32), len: lsn * 3, tx: TxId::new(lsn % 5),
        };
        Footer {
            timeline: TimelineId::new(3),
            epoch: Epoch::new(7),
            from: Lsn::new(FROM),
            to: Lsn::new(TO),
            segment_size: SegmentSize::new(1 << 20).unwrap(),
            log_id: [9; 16],
            gap,
            watermark: Timestamp::from_micros(mark),
            before: gap.then_some(CommitPoint { tx: TxId::new(5), lsn: Lsn::new(77), time: Timestamp::from_micros(mark) }),
            step_before: (mark > 0).then_some(Lsn::new(99)),
            checkpoint_before: (mark < 0).then_some(Lsn::new(98)),
            frames: frames.iter().map(|lsn| FrameStart { lsn: Lsn::new(*lsn), incarnation: Incarnation::new(2) }).collect(),
            commits,
            files,
            spans: spans.chunks_exact(2).map(|s| Span { lsn: Lsn::new(s[0]), end: Lsn::new(s[1]) }).collect(),
            set_lengths: lengths.iter().enumerate().map(entry).collect(),
            marks,
            partitions: vec![PartitionId::new(0), PartitionId::new(5)],
            open: open.into_iter().map(|(tx, lsn)| OpenTx { tx: TxId::new(tx), first_lsn: Lsn::new(lsn), blocks: lsn, bytes: tx }).collect(),
            cut,
            logical: logical.iter().map(|lsn| LogicalEntry { lsn: Lsn::new(*lsn), tx: TxId::new(lsn % 3), partition: PartitionId::new((lsn % 7) as u32) }).collect(),
            checkpoints: checkpoints.chunks_exact(2).map(|c| CheckpointEntry {
                lsn: Lsn::new(c[0]), end: Lsn::new(c[1]), redo_from: Lsn::new(c[0] - c[1] % 999), bytes: c[1] - c[0],
            }).collect(),
        }
    }
}

proptest! {
    #[test]
    fn footers_come_back(footer in footers()) {
        prop_assert_eq!(Footer::decode(&footer.encode()).unwrap(), footer);
    }

    #[test]
    fn any_bytes_are_a_footer_or_an_error(footer in footers(), at: prop::sample::Index, with: u8, cut: prop::sample::Index) {
        let mut bytes = footer.encode();
        let at = at.index(bytes.len());
        bytes[at] = with;
        if let Ok(decoded) = Footer::decode(&bytes) {
            prop_assert_eq!(Footer::decode(&decoded.encode()).unwrap(), decoded);
        }
        prop_assert!(Footer::decode(&bytes[..cut.index(bytes.len())]).is_err());
    }

    #[test]
    fn signs_fold_and_unfold(value: i64) {
        prop_assert_eq!(unzigzag(zigzag(value)), value);
    }
}

#[test]
fn a_count_beyond_the_input_takes_no_memory() {
    // FAILURES 31
    let empty = Footer {
        timeline: TimelineId::new(1),
        epoch: Epoch::new(1),
        from: Lsn::new(0),
        to: Lsn::new(8),
        segment_size: SegmentSize::DEFAULT,
        log_id: [0; 16],
        gap: false,
        watermark: Timestamp::MIN,
        before: None,
        step_before: None,
        checkpoint_before: None,
        frames: vec![],
        commits: vec![],
        files: vec![],
        spans: vec![],
        set_lengths: vec![],
        marks: vec![],
        partitions: vec![],
        open: vec![],
        cut: None,
        logical: vec![],
        checkpoints: vec![],
    };
    let bytes = empty.encode();
    let head = bytes.len() - 8; // eight empty counts
    let mut bomb = bytes[..head].to_vec();
    bomb.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0x1f]); // 1 TiB of frames
    assert!(matches!(Footer::decode(&bomb), Err(DecodeError::Range { what: "frames", .. })));
}

#[test]
fn the_bytes_are_those_of_the_format_page() {
    // Change these bytes only on purpose, together with the version and docs/format/archive.md.
    let time = Timestamp::from_micros;
    let footer = Footer {
        timeline: TimelineId::new(2),
        epoch: Epoch::new(3),
        from: Lsn::new(20_480),
        to: Lsn::new(21_480),
        segment_size: SegmentSize::new(16 << 10).unwrap(),
        log_id: [0xaa; 16],
        gap: true,
        watermark: time(5000),
        before: Some(CommitPoint { tx: TxId::new(6), lsn: Lsn::new(20_000), time: time(4000) }),
        step_before: Some(Lsn::new(19_000)),
        checkpoint_before: None,
        frames: vec![FrameStart { lsn: Lsn::new(20_480), incarnation: Incarnation::new(1) }],
        commits: vec![CommitEntry {
            tx: TxId::new(7),
            lsn: Lsn::new(21_400),
            time: time(5000),
            earliest: time(4990),
            first_lsn: Lsn::new(20_544),
            blocks: 2,
            bytes: 1024,
        }],
        files: vec![FileImages {
            file: FileId::new(0),
            block_bytes: 512,
            images: vec![
                ImageEntry { block: 3, lsn: Lsn::new(20_544), tx: TxId::new(7) },
                ImageEntry { block: 4, lsn: Lsn::new(20_470), tx: TxId::new(7) },
            ],
        }],
        spans: vec![Span { lsn: Lsn::new(20_470), end: Lsn::new(20_500) }],
        set_lengths: vec![SetLengthEntry {
            lsn: Lsn::new(21_000),
            file: FileId::new(0),
            len: 2560,
            tx: TxId::new(7),
        }],
        marks: vec![Mark {
            lsn: Lsn::new(20_490),
            what: MarkKind::Gap { reason: GapReason::StateLost, since: time(1), until: time(2) },
        }],
        partitions: vec![PartitionId::new(0)],
        open: vec![OpenTx { tx: TxId::new(8), first_lsn: Lsn::new(21_430), blocks: 1, bytes: 512 }],
        cut: None,
        logical: vec![],
        checkpoints: vec![],
    };
    let hex =
        |footer: &Footer| -> String { footer.encode().iter().map(|byte| format!("{byte:02x}")).collect() };
    let fixed = "01000d0e020380a001e807";
    let log_id = "aa".repeat(16);
    let head = "881300000000000006a09c01a00f000000000000b89401";
    let tables = concat!(
        "010001",
        "010e9807904e0ad80602800801",
        "008004020380010e019301000",
        "1d4071e",
        "01e0030080140701de0703010000000000000002000000000000000100010832018004",
    );
    assert_eq!(hex(&footer), format!("{fixed}{log_id}{head}{tables}"));
    // The footer has one more flag, and a list at the end.
    let entry = LogicalEntry { lsn: Lsn::new(21_380), tx: TxId::new(7), partition: PartitionId::new(9) };
    let logical = hex(&Footer { logical: vec![entry], ..footer.clone() });
    assert_eq!(logical, format!("01001d{}{log_id}{head}{tables}01640709", &fixed[6..]));
    // Two more flags, the place of the checkpoint before, and a list at the end.
    let (lsn, end, redo_from) = (Lsn::new(21_300), Lsn::new(21_380), Lsn::new(21_290));
    let checkpoints = vec![CheckpointEntry { lsn, end, redo_from, bytes: 40 }];
    let with = hex(&Footer { checkpoints, checkpoint_before: Some(Lsn::new(100)), ..footer });
    assert_eq!(with, format!("01006d{}{log_id}{head}64{tables}0164500a28", &fixed[6..]));
}
