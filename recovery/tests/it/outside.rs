//! An external engine that removes log before it archives it, and one that logs records which a
//! restore can't apply.

use crate::lab::{history, meta, options, restore_on};
use crate::world::{TestClock, first_timeline};
use pitr_archive::{Archive, Error as ArchiveError, Merged, ShipOptions, Shipper, Writer};
use pitr_codec::Codec;
use pitr_dedup::ChunkStore;
use pitr_format::record::Record;
use pitr_format::{FileId, Lsn, PartitionId, Severity, SourceName, TimelineId, Timestamp, TxId};
use pitr_objects::Objects;
use pitr_recovery::{Error, RecoveryTarget, Target};
use pitr_snapshot::{BlockSource, BoxError, FileShape, write_full};
use pitr_testkit::PageEngine;
use pitr_vfs::sim::{Op, SimClock, SimFs};
use pitr_vfs::{Env, FileSystem};
use pitr_wal::{BatchBuilder, Committed, Start, Wal, WalOptions};
use std::path::Path;
use std::sync::Arc;

const PAGE: usize = 4096;

struct Pages<'a>(&'a [u8], usize);

impl BlockSource for Pages<'_> {
    fn files(&self) -> Vec<FileShape> {
        let (len, block_bytes) = (self.0.len() as u64, self.1 as u32);
        vec![FileShape { file: FileId::FIRST, name: "pages".to_owned(), len, block_bytes }]
    }

    fn read_at(&self, _: FileId, offset: u64, buf: &mut [u8]) -> Result<(), BoxError> {
        let at = offset as usize;
        buf.copy_from_slice(self.0.get(at..at + buf.len()).ok_or("past the end")?);
        Ok(())
    }
}

fn machine() -> Env {
    let clock = SimClock::new(Timestamp::from_micros(1_000_000));
    Env::simulated(Arc::new(SimFs::new()), Arc::new(clock), 0)
}

fn archive() -> Archive {
    Archive::new(Objects::memory().unwrap(), SourceName::new("app").unwrap())
}

fn shipper(writer: &Writer, wal: &Wal, log_id: [u8; 16], object_bytes: u32) -> Shipper {
    let catalog = writer.archive().catalog().unwrap();
    let options =
        ShipOptions { codec: Codec::None, object_bytes, max_concurrent_uploads: 1, ..ShipOptions::default() };
    Shipper::new(writer.clone(), &catalog, wal, TimelineId::FIRST, log_id, options).unwrap()
}

/// Ships the log, with a gap if log was removed before it was shipped. True if there is a gap.
fn ship(shipper: &mut Shipper, wal: &Wal) -> bool {
    match shipper.ship(wal) {
        Ok(_) => false,
        Err(ArchiveError::Wal(pitr_wal::Error::Removed { .. })) => {
            shipper.accept_loss();
            shipper.ship(wal).unwrap();
            true
        }
        Err(other) => panic!("{other}"),
    }
}

fn take_base(archive: &Archive, engine: &PageEngine, page_bytes: usize, at: &Committed) {
    let chunks = ChunkStore::open(archive.objects().clone()).unwrap();
    let meta = meta(archive, at.lsn, at.lsn, at.time, at.tx);
    write_full(&chunks, &Pages(engine.pages(), page_bytes), meta, None).unwrap().publish(&chunks).unwrap();
}

/// The restored bytes of a target.
fn restore(archive: &Archive, target: &Target) -> Vec<u8> {
    let (history, fs, output) = (history(archive), SimFs::new(), Path::new("/out/pages"));
    fs.create_dir_all(Path::new("/out")).unwrap();
    let plan = history.plan(&history.resolve(target).unwrap()).unwrap();
    restore_on(&fs, &history, &plan, &options(output, 1)).unwrap();
    let (file, mut bytes) = (fs.open(output, pitr_vfs::Access::Read).unwrap(), Vec::new());
    bytes.resize(file.len().unwrap() as usize, 0);
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

#[test]
fn archiving_begins_at_any_of_a_thousand_positions() {
    // FAILURES 53
    let mut engine = PageEngine::create(&machine(), Path::new("/log"), 12, PAGE, 7);
    let (mut gaps, mut begins) = (0, std::collections::BTreeSet::new());
    for position in 0..1_000u64 {
        let base = engine.commit();
        begins.insert(engine.checkpoint());
        let archive = archive();
        let writer = Writer::claim(&archive, base.time).unwrap();
        writer.claim_timeline(&first_timeline(0)).unwrap();
        // Objects of these sizes end at arbitrary positions in a record.
        let mut shipper = shipper(&writer, engine.wal(), engine.log_id(), 1 + (position as u32 % 7) * 3_000);
        gaps += u32::from(ship(&mut shipper, engine.wal()));
        take_base(&archive, &engine, PAGE, &base);
        let wanted = engine.commit();
        let pages = engine.pages().to_vec();
        engine.commit();
        assert!(!ship(&mut shipper, engine.wal()));
        assert!(
            restore(&archive, &Target::at(RecoveryTarget::Transaction(wanted.tx))) == pages,
            "position {position}"
        );
        assert!(
            restore(&archive, &Target::at(RecoveryTarget::Latest)) == engine.pages(),
            "position {position}"
        );
        let coverage = history(&archive).coverage().clone();
        let claimed = coverage.intervals.iter().map(|i| i.from).min();
        assert!(gaps == 0 || claimed == Some(base.lsn), "nothing before the base is claimed");
    }
    assert!(gaps > 990 && begins.len() > 300, "{gaps} gaps, {} begins", begins.len());
}

#[test]
fn archiving_goes_on_within_a_record_that_is_longer_than_a_segment() {
    // FAILURES 53: objects with only the middle of a lost record, and a new writer after each.
    const LONG: usize = 64 << 10;
    let mut engine = PageEngine::create(&machine(), Path::new("/log"), 3, LONG, 1);
    let archive = archive();
    let writer = Writer::claim(&archive, Timestamp::from_micros(1)).unwrap();
    writer.claim_timeline(&first_timeline(0)).unwrap();
    for round in 0..20 {
        let lost = (0..=round % 3).map(|_| engine.commit()).last().unwrap();
        // All log is removed except the middle of the second to last record.
        engine.wal().remove_below(Lsn::new(lost.lsn.get().saturating_sub(40 << 10))).unwrap();
        let mut begun = shipper(&writer, engine.wal(), engine.log_id(), 1);
        while match begun.ship_some(engine.wal(), engine.wal().durable()) {
            Ok(shipped) => shipped.is_some(),
            Err(ArchiveError::Wal(pitr_wal::Error::Removed { .. })) => {
                begun.accept_loss();
                begun.ship_some(engine.wal(), engine.wal().durable()).unwrap().is_some()
            }
            Err(other) => panic!("round {round}: {other}"),
        } {
            begun = shipper(&writer, engine.wal(), engine.log_id(), 1);
        }
        take_base(&archive, &engine, LONG, &lost);
        engine.commit();
        assert!(!ship(&mut begun, engine.wal()));
        assert!(restore(&archive, &Target::at(RecoveryTarget::Latest)) == engine.pages(), "round {round}");
    }
}

#[test]
fn a_loss_that_is_accepted_where_nothing_is_lost_leaves_no_gap() {
    // FAILURES 53
    let mut engine = PageEngine::create(&machine(), Path::new("/log"), 12, PAGE, 3);
    let archive = archive();
    let writer = Writer::claim(&archive, Timestamp::from_micros(1)).unwrap();
    writer.claim_timeline(&first_timeline(0)).unwrap();
    let mut shipper = shipper(&writer, engine.wal(), engine.log_id(), 1 << 20);
    for _ in 0..4 {
        engine.commit();
        shipper.accept_loss();
        shipper.ship(engine.wal()).unwrap();
    }
    let history = history(&archive);
    assert!(history.coverage().gaps.is_empty(), "{:?}", history.coverage());
    // From the empty base, the file ends after the last page that was ever written.
    let restored = restore(&archive, &Target::at(RecoveryTarget::Latest));
    let (written, rest) = engine.pages().split_at(restored.len());
    assert!(restored == written && rest.iter().all(|byte| *byte == 0));
}

#[test]
fn a_log_with_logical_records_is_refused_before_anything_is_written() {
    // FAILURES 52
    let (partition, tx) = (PartitionId::new(5), TxId::new(2));
    let clock = Arc::new(TestClock::default());
    let options_of_log = WalOptions { background: false, ..WalOptions::default() };
    let start = Start::first([3; 16]);
    let wal = Wal::create(
        &Env::system().with_fs(Arc::new(SimFs::new())).with_clock(clock),
        Path::new("/log"),
        &start,
        &options_of_log,
    )
    .unwrap();
    let commit = |tx, record: &Record<'_>| {
        let mut batch = BatchBuilder::new();
        batch.push(partition, tx, record).unwrap();
        batch.push_commit(PartitionId::FIRST, tx, None, None, b"").unwrap();
        wal.commit(batch).unwrap().commits[0]
    };
    let image = commit(TxId::new(1), &Record::Image { file: FileId::FIRST, block: 0, data: &[1; PAGE] });
    let row = commit(tx, &Record::Data(b"a row"));
    let archive = archive();
    let writer = Writer::claim(&archive, Timestamp::from_micros(1)).unwrap();
    writer.claim_timeline(&first_timeline(0)).unwrap();
    shipper(&writer, &wal, [3; 16], 1 << 20).ship(&wal).unwrap();

    assert_eq!(
        restore(&archive, &Target::at(RecoveryTarget::Transaction(image.tx))),
        [1; PAGE],
        "the state before it"
    );
    let (history, fs) = (history(&archive), SimFs::new());
    fs.create_dir_all(Path::new("/out")).unwrap();
    let done = fs.trace().ops.len();
    let plan = history.plan(&history.resolve(&Target::at(RecoveryTarget::Latest)).unwrap()).unwrap();
    let error = restore_on(&fs, &history, &plan, &options(Path::new("/out/pages"), 1)).unwrap_err();
    assert_eq!(error.severity(), Severity::Fix);
    match error {
        Error::Archive(ArchiveError::Logical { partition: named, tx: of, .. }) => {
            assert_eq!((named, of), (partition, tx));
        }
        other => panic!("{other}"),
    }
    let writes = |op: &&Op| !matches!(op, Op::Sync { .. });
    assert_eq!(fs.trace().ops[done..].iter().filter(writes).count(), 0, "nothing was written");
    // An increment would lack that row too.
    let merged = Merged::new(&archive, history.pieces(), image.lsn, row.lsn);
    assert!(matches!(merged, Err(ArchiveError::Logical { .. })));
}
