//! What a restore reports and reads: progress, times, the fingerprint, and single blocks.

use crate::lab::{OneFile, history, meta, options, restore_on};
use crate::world::{BLOCK, World, commit, content, options as ship_options};
use pitr_archive::Fingerprint;
use pitr_dedup::ChunkStore;
use pitr_format::record::Record;
use pitr_format::{FileId, Lsn, PartitionId, Timestamp, TxId};
use pitr_recovery::{
    Error, FilePlace, FolderLayout, History, Layout, Phase, Progress, RestoreOptions, RestoreState,
    RestoreTarget, Restorer, Target,
};
use pitr_snapshot::{BlockSource, BoxError, FileShape, write_full};
use pitr_testkit::{files_below, noise};
use pitr_vfs::sim::{Op, SimFs};
use pitr_vfs::{Access, Clock, FileSystem, OsFs};
use pitr_wal::BatchBuilder;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A clock that is a millisecond later each time that it is asked.
#[derive(Debug, Default)]
struct Ticking(AtomicU64);

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(0)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// A file that is cut by its content.
const UNCUT: FileId = FileId::new(9);

/// A source of blocks, and of a file without blocks.
struct Two(Vec<u8>, Vec<u8>);

impl BlockSource for Two {
    fn files(&self) -> Vec<FileShape> {
        let shape = |file: FileId, bytes: &[u8], block_bytes| {
            let (name, len) = (file.get().to_string(), bytes.len() as u64);
            FileShape { file, name, len, block_bytes }
        };
        vec![shape(FileId::FIRST, &self.0, BLOCK as u32), shape(UNCUT, &self.1, 0)]
    }

    fn read_at(&self, file: FileId, offset: u64, buf: &mut [u8]) -> Result<(), BoxError> {
        let bytes = if file == UNCUT { &self.1 } else { &self.0 };
        buf.copy_from_slice(&bytes[offset as usize..offset as usize + buf.len()]);
        Ok(())
    }
}

/// Both files in a folder. Remembers the blocks of the first one that it read for its layout.
#[derive(Debug, Default)]
struct Folder {
    blocks: Mutex<BTreeMap<u64, Option<Vec<u8>>>>,
}

impl RestoreTarget for Folder {
    fn lay_out(&self, state: &RestoreState<'_>) -> Result<Layout, Error> {
        for block in (0..12).chain([u64::MAX]) {
            let read = state.block(FileId::FIRST, block, BLOCK as u32)?;
            self.blocks.lock().unwrap().insert(block, read);
        }
        assert_eq!(state.block(FileId::new(77), 0, BLOCK as u32)?, None, "there is no such file");
        let files = state.files().into_iter().map(|file| FilePlace::new(file, file.get().to_string()));
        Ok(Layout::Folder(FolderLayout { folders: Vec::new(), files: files.collect() }))
    }
}

/// Takes a snapshot of both files after the first commit, logs some more, and ships it.
fn prepared(dir: &Path, blocks: Vec<u8>, uncut: Vec<u8>, log: impl FnOnce(&World)) -> History {
    let mut world = World::new(dir, 3, 1, ship_options(1 << 16, 1 << 14));
    let first = commit(&world.wal, 1, &[(0, 1)], None);
    let chunks = ChunkStore::open(world.archive.objects().clone()).unwrap();
    let meta = meta(&world.archive, first.lsn, first.lsn, first.time, first.tx);
    write_full(&chunks, &Two(blocks, uncut), meta, None).unwrap().publish(&chunks).unwrap();
    log(&world);
    world.shipper.ship(&world.wal).unwrap();
    history(&world.archive)
}

#[test]
fn progress_comes_to_the_total_of_each_phase_and_the_times_to_the_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (blocks, uncut) = (noise(1, 3 << 20), noise(2, 5 << 20));
    let history = prepared(dir.path(), blocks, uncut.clone(), |world| {
        commit(&world.wal, 2, &[(1, 2), (2, 2), (9_000, 3)], None);
    });
    let chunks = ChunkStore::open(history.archive().objects().clone()).unwrap();
    let seen: Mutex<Vec<Progress>> = Mutex::default();
    let (clock, target) = (Ticking::default(), Folder::default());
    let progress = |progress: Progress| seen.lock().unwrap().push(progress);
    let restorer = Restorer {
        history: &history,
        chunks: &chunks,
        target: &target,
        fs: &OsFs,
        clock: &clock,
        progress: &progress,
    };
    let output = dir.path().join("out");
    let plan = history.plan_for(&Target::latest()).unwrap();
    let done = restorer.restore(&plan, &RestoreOptions::to(&output)).unwrap();
    assert!(std::fs::read(output.join("9")).unwrap() == uncut);
    let of = |phase| -> Vec<(u64, u64)> {
        let seen = seen.lock().unwrap();
        seen.iter().filter(|seen| seen.phase == phase).map(|seen| (seen.done, seen.total)).collect()
    };
    assert_eq!(of(Phase::Index), [(0, plan.pieces.len() as u64)]);
    assert_eq!(of(Phase::Log), [(3, 3)], "three images");
    // 4.4 MiB of blocks, and a file that is cut into smaller extents.
    let [(extents, total)] = of(Phase::Base)[..] else { panic!("{:?}", of(Phase::Base)) };
    assert!(extents == total && total > 5 + 5, "{extents} of {total}");
    assert_eq!(of(Phase::Finish), [(0, 1)]);

    // Without the two blocks of the log that replace some of it.
    assert_eq!(done.stats.base_bytes, (8 << 20) - 2 * BLOCK as u64);
    let phases = done.stats.phases;
    let passed = Duration::from_millis(clock.0.load(Ordering::Relaxed) - 1);
    assert_eq!(phases.total(), passed, "{phases:?}");
    for part in [phases.index, phases.log, phases.base, phases.redo, phases.finish] {
        assert!(!part.is_zero(), "{phases:?}");
    }
}

#[test]
fn a_layout_can_read_the_blocks_of_the_state() {
    let dir = tempfile::tempdir().unwrap();
    let base = noise(4, 3 * BLOCK + 100);
    let history = prepared(dir.path(), base.clone(), Vec::new(), |world| {
        commit(&world.wal, 2, &[(1, 2), (5, 3)], None);
    });
    let target = Folder::default();
    let chunks = ChunkStore::open(history.archive().objects().clone()).unwrap();
    let plan = history.plan_for(&Target::latest()).unwrap();
    let restorer = Restorer::new(&history, &chunks, &target);
    restorer.restore(&plan, &RestoreOptions::to(dir.path().join("out"))).unwrap();
    let blocks = target.blocks.lock().unwrap();
    assert_eq!(blocks[&0].as_deref(), Some(&base[..BLOCK]), "from the snapshot");
    assert_eq!(blocks[&1], Some(content(FileId::FIRST, 1, 2)), "from the log");
    assert_eq!(blocks[&2].as_deref(), Some(&base[2 * BLOCK..3 * BLOCK]), "the last whole one");
    assert_eq!(blocks[&3], None, "its end is past the end of the snapshot's file");
    assert_eq!((&blocks[&4], &blocks[&u64::MAX]), (&None, &None));
    assert_eq!(blocks[&5], Some(content(FileId::FIRST, 5, 3)), "past the end, from the log");
}

#[test]
fn a_file_that_only_the_log_has_is_restored_next_to_those_of_the_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let (base, uncut, added) = (noise(1, 4 * BLOCK), noise(2, 100), FileId::new(5));
    let block = content(added, 2, 3);
    let history = prepared(dir.path(), base.clone(), uncut.clone(), |world| {
        let mut batch = BatchBuilder::new();
        let image = Record::Image { file: added, block: 2, data: &block };
        batch.push(PartitionId::FIRST, TxId::new(2), &image).unwrap();
        batch.push_commit(PartitionId::FIRST, TxId::new(2), None, None, b"").unwrap();
        world.wal.commit(batch).unwrap();
    });
    let (target, output) = (Folder::default(), dir.path().join("out"));
    let chunks = ChunkStore::open(history.archive().objects().clone()).unwrap();
    let plan = history.plan_for(&Target::latest()).unwrap();
    let done =
        Restorer::new(&history, &chunks, &target).restore(&plan, &RestoreOptions::to(&output)).unwrap();
    let read = |name: &str| std::fs::read(output.join(name)).unwrap();
    assert!(read("0") == base && read("9") == uncut);
    assert!(read("5") == [&[0; 2 * BLOCK][..], &block].concat());
    assert_eq!((done.files, done.bytes), (3, (4 + 3) * BLOCK as u64 + 100));
    assert_eq!(done.stats.base_bytes, 4 * BLOCK as u64 + 100);
}

/// A file of four extents with two holes, in a folder.
#[derive(Debug)]
struct Holes;

const MIB: u64 = 1 << 20;

impl RestoreTarget for Holes {
    fn lay_out(&self, _: &RestoreState<'_>) -> Result<Layout, Error> {
        let holes = Some(vec![(MIB + 8192, 2 * MIB), (3 * MIB, 4 * MIB)]);
        let files = vec![FilePlace { holes, ..FilePlace::new(FileId::FIRST, "file") }];
        Ok(Layout::Folder(FolderLayout { folders: Vec::new(), files }))
    }
}

#[test]
fn nothing_is_written_into_a_hole_and_zeros_elsewhere_are() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = noise(8, 4 << 20);
    bytes[MIB as usize + 8192..].fill(0);
    let history = prepared(dir.path(), bytes.clone(), Vec::new(), |_| ());
    let fs = SimFs::new();
    fs.create_dir_all(Path::new("/out")).unwrap();
    let chunks = ChunkStore::open(history.archive().objects().clone()).unwrap();
    let (clock, chunks) = (Ticking::default(), &chunks);
    let restorer =
        Restorer { history: &history, chunks, target: &Holes, fs: &fs, clock: &clock, progress: &|_| {} };
    let plan = history.plan_for(&Target::latest()).unwrap();
    assert!(plan.snapshot.is_some());
    restorer.restore(&plan, &options(Path::new("/out/folder"), 2)).unwrap();
    let file = fs.open(Path::new("/out/folder/file"), Access::Read).unwrap();
    let mut read = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut read, 0).unwrap();
    assert!(read == bytes);
    let mut written = vec![false; read.len()];
    for op in &fs.trace().ops {
        if let Op::Write { offset, bytes, .. } = op {
            written[*offset as usize..*offset as usize + bytes.len()].fill(true);
        }
    }
    let all = |from: u64, to: u64, is: bool| written[from as usize..to as usize].iter().all(|at| *at == is);
    assert!(all(0, MIB + 8192, true), "content");
    assert!(all(MIB + 8192, 2 * MIB, false), "the first hole");
    assert!(all(2 * MIB, 3 * MIB, true), "zeros that have storage, between two holes");
    assert!(all(3 * MIB, 4 * MIB, false), "the second hole");
}

#[test]
fn the_fingerprint_is_that_of_the_published_file() {
    // FAILURES 8
    for (len, blocks) in [
        (0, vec![]),
        (100, vec![]),
        (BLOCK + 1, vec![]),
        (4096, vec![]),
        (4097, vec![(2, 1)]),
        (9 * BLOCK, vec![(0, 5), (7, 1), (20, 2)]),
        (200 * BLOCK + 77, vec![(3, 3)]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut world = World::new(dir.path(), 3, 1, ship_options(1 << 16, 1 << 14));
        let first = commit(&world.wal, 1, &[(0, 1)], None);
        let meta = meta(&world.archive, first.lsn, first.lsn, first.time, first.tx);
        crate::lab::take(&world.archive, noise(5, len), meta);
        if !blocks.is_empty() {
            commit(&world.wal, 2, &blocks, None);
        }
        world.shipper.ship(&world.wal).unwrap();
        let history = history(&world.archive);
        let output = dir.path().join("out.db");
        let plan = history.plan_for(&Target::latest()).unwrap();
        assert!(plan.snapshot.is_some());
        let done = restore_on(&OsFs, &history, &plan, &options(&output, 2)).unwrap();
        let mut bytes = std::fs::read(&output).unwrap();
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        let expected = Fingerprint::of(BLOCK as u32, (bytes.len() / BLOCK) as u64, |number, out| {
            out.copy_from_slice(&bytes[number as usize * BLOCK..][..BLOCK]);
            Ok::<(), Error>(())
        });
        let expected = (!bytes.is_empty()).then(|| expected.unwrap());
        assert_eq!(done.fingerprint, expected, "{len} bytes in the snapshot");
    }
}

#[test]
fn an_extent_of_which_the_log_has_every_byte_is_not_read_from_the_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::new(dir.path(), 3, 1, ship_options(1 << 20, 1 << 16));
    let first = commit(&world.wal, 1, &[(0, 1)], None);
    let blocks = (1_u64 << 20) / BLOCK as u64;
    let base = noise(6, 1 << 20);
    let meta = meta(&world.archive, first.lsn, first.lsn, first.time, first.tx);
    crate::lab::take(&world.archive, base.clone(), meta);
    let write = |tx: u64, blocks: std::ops::Range<u64>| -> Lsn {
        commit(&world.wal, tx, &blocks.map(|block| (block, tx as u8)).collect::<Vec<_>>(), None).lsn
    };
    let all_but_one = write(2, 1..blocks);
    let all = write(3, 0..1);
    world.shipper.ship(&world.wal).unwrap();
    // The only chunk of the file is damaged.
    let needle = &base[500_000..500_064];
    let mut damaged = 0;
    for path in files_below(&dir.path().join("repo")) {
        let mut bytes = std::fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(needle.len()).position(|window| window == needle) {
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            damaged += 1;
        }
    }
    assert_eq!(damaged, 1);
    let history = history(&world.archive);
    let output = dir.path().join("out.db");
    let restore = |stop: Lsn| {
        let plan = history.plan_for(&Target::at(stop)).unwrap();
        assert!(plan.snapshot.is_some());
        restore_on(&OsFs, &history, &plan, &options(&output, 1))
    };
    assert!(matches!(restore(all_but_one), Err(Error::Snapshot(_))), "one block is that of the snapshot");
    assert_eq!(restore(all).unwrap().bytes, 1 << 20);
    let restored = std::fs::read(&output).unwrap();
    assert!(restored[..BLOCK] == content(FileId::FIRST, 0, 3));
    assert!(restored[BLOCK..2 * BLOCK] == content(FileId::FIRST, 1, 2));
    assert!(OneFile.mark().is_some_and(|mark| !restored.starts_with(mark)));
}
