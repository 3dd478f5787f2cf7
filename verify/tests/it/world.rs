//! A small repository with objects of every kind.

use pitr_archive::{Archive, ForkReason, NamedPoint, PointName, ShipOptions, Shipper, Timeline, Writer};
use pitr_codec::{Codec, KeyWrap, RawKey, Secret};
use pitr_dedup::ChunkStore;
use pitr_format::record::Record;
use pitr_format::{Epoch, FileId, Lsn, PartitionId, SourceName, TimelineId, Timestamp, TxId};
use pitr_objects::Objects;
use pitr_snapshot::{
    BlockSource, BoxError, FileShape, Manifest, SnapshotMeta, SnapshotReader, load_all, write_full,
};
use pitr_testkit::noise;
use pitr_vfs::Env;
use pitr_wal::{BatchBuilder, Start, Wal, WalOptions};
use std::path::PathBuf;

const BLOCK: usize = 4096;

/// A file in memory.
pub(crate) struct Held(pub(crate) Vec<u8>);

impl BlockSource for Held {
    fn files(&self) -> Vec<FileShape> {
        let (file, name, len) = (FileId::FIRST, "held".to_owned(), self.0.len() as u64);
        // Enough further files for a snapshot to store its files in leaves.
        let more = (1..70).map(|number| {
            let (file, name) = (FileId::new(number), number.to_string());
            FileShape { file, name, len: 0, block_bytes: BLOCK as u32 }
        });
        [FileShape { file, name, len, block_bytes: BLOCK as u32 }].into_iter().chain(more).collect()
    }

    fn read_at(&self, _: FileId, offset: u64, buf: &mut [u8]) -> Result<(), BoxError> {
        buf.copy_from_slice(&self.0[offset as usize..][..buf.len()]);
        Ok(())
    }
}

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    encrypted: bool,
    /// Expected content of each snapshot, by source and id.
    pub(crate) contents: Vec<(SourceName, Manifest, Vec<u8>)>,
}

fn key() -> impl KeyWrap {
    RawKey(Secret::new([4; 32]))
}

pub(crate) fn name(name: &str) -> SourceName {
    SourceName::new(name).unwrap()
}

impl World {
    /// Two sources: one with a full snapshot and two increments, one with a full snapshot and a
    /// log.
    pub(crate) fn new(encrypted: bool) -> World {
        let mut world = World::empty(encrypted);
        let mut content = noise(1, 3 << 20);
        content[1 << 20..2 << 20].fill(0);
        world.snapshot("one", 1, &content, None);
        for at in 2..4 {
            (0..5).for_each(|n| content[at as usize * 77_777 + n * 400_000] ^= 1);
            let parent = world.contents.last().map(|(_, manifest, _)| manifest.clone());
            world.snapshot("one", at, &content, parent.as_ref());
        }
        world.snapshot("two", 1, &noise(2, 1 << 20), None);
        world.log("two", 9);
        world.points();
        // A prune that waits for a lease.
        let pruned = ["packs/00/none".to_owned()].into();
        world.open().unwrap().condemn(pruned, [].into()).unwrap();
        world
    }

    fn empty(encrypted: bool) -> World {
        let dir = tempfile::tempdir().unwrap();
        let objects = Objects::create_local(dir.path().join("repo")).unwrap();
        match encrypted {
            true => objects.init_encrypted(Timestamp::MIN, &key()).unwrap(),
            false => objects.init_repository(Timestamp::MIN).unwrap(),
        };
        World { dir, encrypted, contents: Vec::new() }
    }

    /// One source with these contents, each snapshot the parent of the next, and one with a log.
    pub(crate) fn of(encrypted: bool, contents: &[Vec<u8>], transactions: u64) -> World {
        let mut world = World::empty(encrypted);
        for (at, content) in (1..).zip(contents) {
            let parent = world.contents.last().map(|(_, manifest, _)| manifest.clone());
            world.snapshot("one", at, content, parent.as_ref());
        }
        if transactions > 0 {
            world.log("two", transactions);
        }
        world
    }

    pub(crate) fn repository(&self) -> PathBuf {
        self.dir.path().join("repo")
    }

    /// A new handle.
    pub(crate) fn open(&self) -> pitr_objects::Result<Objects> {
        let objects = Objects::local(self.repository())?;
        let repository = objects.open_repository()?;
        if self.encrypted {
            objects.unlock(&repository, &[&key()])?;
        }
        Ok(objects)
    }

    fn snapshot(&mut self, source: &str, at: u64, content: &[u8], parent: Option<&Manifest>) {
        let objects = self.open().unwrap();
        let source = name(source);
        objects.register_source(&source).unwrap();
        let meta = SnapshotMeta {
            source: source.clone(),
            engine: "test".to_owned(),
            timeline: TimelineId::FIRST,
            epoch: Epoch::FIRST,
            redo_from: Lsn::new(at),
            consistent_at: Lsn::new(at),
            time: Timestamp::MIN,
            tx: TxId::new(at),
            codec: Codec::default(),
            created: Timestamp::MIN,
            attributes: None,
        };
        let store = ChunkStore::open(objects.clone()).unwrap();
        let manifest = write_full(&store, &Held(content.to_vec()), meta, parent).unwrap();
        self.contents.push((source, manifest.publish(&store).unwrap(), content.to_vec()));
    }

    /// A few transactions, shipped in objects of three.
    fn log(&self, source: &str, transactions: u64) {
        let archive = Archive::new(self.open().unwrap(), name(source));
        let writer = Writer::claim(&archive, Timestamp::MIN).unwrap();
        let first = Timeline {
            parent: None,
            fork: Lsn::ORIGIN,
            reason: ForkReason::First,
            created: Timestamp::MIN,
            ambiguous: None,
            root: None,
        };
        let timeline = writer.claim_timeline(&first).unwrap();
        let start = Start { timeline, ..Start::first([1; 16]) };
        let wal = Wal::create(&Env::system(), &self.dir.path().join("log"), &start, &WalOptions::default());
        let wal = wal.unwrap();
        let catalog = archive.catalog().unwrap();
        let options = ShipOptions::default();
        let mut shipper = Shipper::new(writer, &catalog, &wal, timeline, [1; 16], options).unwrap();
        for tx in 1..=transactions {
            let mut batch = BatchBuilder::new();
            let data = noise(tx, BLOCK);
            let image = Record::Image { file: FileId::FIRST, block: tx, data: &data };
            batch.push(PartitionId::FIRST, TxId::new(tx), &image).unwrap();
            batch.push_commit(PartitionId::FIRST, TxId::new(tx), None, None, &[]).unwrap();
            wal.append(batch).unwrap();
            if tx % 3 == 0 || tx == transactions {
                wal.sync().unwrap();
                shipper.ship(&wal).unwrap();
            }
        }
    }

    /// Points of a snapshot without a log, and of the ends of a log.
    fn points(&self) {
        let objects = self.open().unwrap();
        let point = |source: &str, text: &str, lsn, tx| {
            let (name, note) = (PointName::new(text).unwrap(), "for tests".to_owned());
            let (time, timeline) = (Timestamp::MIN, TimelineId::FIRST);
            let point = NamedPoint { name, timeline, lsn, tx: TxId::new(tx), time, created: time, note };
            assert!(Archive::new(objects.clone(), self::name(source)).put_point(&point).unwrap());
        };
        point("one", "the second snapshot", Lsn::new(2), 2);
        let archive = Archive::new(objects.clone(), name("two"));
        let end = archive.catalog().unwrap().end(TimelineId::FIRST).unwrap();
        point("two", "before the first commit", Lsn::ORIGIN, 0);
        point("two", "移行前", end, 9);
    }

    /// True if the snapshot can be read and has the stored content.
    pub(crate) fn reads(&self, no: usize) -> bool {
        let (source, manifest, content) = &self.contents[no];
        let read = || -> Option<Vec<u8>> {
            let objects = self.open().ok()?;
            let (store, _) = ChunkStore::open_readable(objects.clone()).ok()?;
            let roots = load_all(&objects, source).ok()?;
            let found = roots.snapshots.into_iter().find(|found| found.id == manifest.snapshot.id)?;
            let reader = SnapshotReader::open(store.clone(), found.manifest(&store).ok()?);
            let mut bytes = vec![0; content.len()];
            reader.read_at(FileId::FIRST, 0, &mut bytes).ok()?;
            Some(bytes)
        };
        read().is_some_and(|bytes| {
            assert!(bytes == *content, "wrong bytes");
            true
        })
    }
}
