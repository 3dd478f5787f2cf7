//! An engine whose transactions log their records as they go.

use crate::world::{Named, World};
use pitr::format::record::Record;
use pitr::format::{FileId, Lsn, PartitionId, SourceName, TxId};
use pitr::recovery::Target;
use pitr::snapshot::{BlockSource, BoxError, ConsistentAt, FileShape, Quiet};
use pitr::vfs::{Access, FileSystem};
use pitr::wal::{BatchBuilder, Start, Wal, WalOptions};
use pitr::{AttachOptions, Hint};
use std::path::Path;
use std::sync::Arc;

const BLOCK: usize = 4096;

struct Pages(Vec<u8>);

impl BlockSource for Pages {
    fn files(&self) -> Vec<FileShape> {
        let (name, len) = ("pages".to_owned(), self.0.len() as u64);
        vec![FileShape { file: FileId::FIRST, name, len, block_bytes: BLOCK as u32 }]
    }

    fn read_at(&self, _: FileId, offset: u64, buf: &mut [u8]) -> Result<(), BoxError> {
        buf.copy_from_slice(&self.0[offset as usize..][..buf.len()]);
        Ok(())
    }
}

/// Logs an image, and the commit if `commit` is set. Returns the position of the first record.
fn log(wal: &Wal, tx: u64, image: Option<(u64, u8)>, commit: Option<Option<Lsn>>) -> Lsn {
    let (tx, mut batch) = (TxId::new(tx), BatchBuilder::new());
    if let Some((block, value)) = image {
        let data = [value; BLOCK];
        batch
            .push(PartitionId::FIRST, tx, &Record::Image { file: FileId::FIRST, block, data: &data })
            .unwrap();
    }
    if let Some(first) = commit {
        batch.push_commit(PartitionId::FIRST, tx, None, first, b"").unwrap();
    }
    wal.commit(batch).unwrap().first
}

#[test]
fn a_snapshot_from_the_log_keeps_the_records_of_open_transactions() {
    // law 5
    let mut world = World::begin();
    world.pitr.register(Arc::new(Named("pages", true))).unwrap();
    let options = WalOptions { background: false, ..WalOptions::default() };
    let wal = Wal::create(&world.env, Path::new("/log"), &Start::first([1; 16]), &options).unwrap();
    let source = SourceName::new("pages").unwrap();
    let attached = world.pitr.attach(&wal, &source, AttachOptions::new("pages")).unwrap();
    log(&wal, 1, Some((0, 1)), Some(None));
    let pages = Pages([[1; BLOCK], [0; BLOCK]].concat());
    let at = ConsistentAt { lsn: wal.durable(), tx: TxId::new(1), time: wal.last_time() };
    attached.snapshot(&Quiet::new(&pages, at), Hint::Full).unwrap();

    let first = log(&wal, 2, Some((1, 2)), None);
    log(&wal, 3, Some((0, 3)), Some(None));
    let snapshot = attached.snapshot(&Quiet::new(&pages, at), Hint::Log).unwrap();
    assert!(snapshot.parent.is_some() && snapshot.meta.redo_from <= first, "{snapshot:?}");
    assert_eq!(snapshot.meta.tx, TxId::new(3));
    log(&wal, 2, None, Some(Some(first)));
    attached.stop().unwrap();

    for (tx, expected) in [(3, [3, 0]), (2, [3, 2])] {
        let output = format!("/restored-{tx}");
        let plan = world.pitr.restore_to(&source, &Target::at(TxId::new(tx)), &output).unwrap();
        assert_eq!(plan.stats.snapshot, Some(snapshot.id));
        let file = world.fs.open(Path::new(&output), Access::Read).unwrap();
        let mut bytes = vec![0; 2 * BLOCK];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!([bytes[0], bytes[BLOCK]], expected, "transaction {tx}");
    }
}
