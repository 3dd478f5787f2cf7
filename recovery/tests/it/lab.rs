//! Snapshots of model states, and restores of them.

use crate::world::{BLOCK, State, TestClock};
use pitr_archive::Archive;
use pitr_codec::Codec;
use pitr_dedup::ChunkStore;
use pitr_format::{Epoch, FileId, Lsn, TimelineId, Timestamp, TxId};
use pitr_recovery::{
    Error, History, Layout, Plan, RestoreOptions, RestoreState, RestoreTarget, Restored, Restorer, Target,
};
use pitr_snapshot::{BlockSource, BoxError, FileShape, Manifest, SnapshotMeta, write_full};
use pitr_vfs::{FileSystem, OsFs};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The restore target of an engine of one file, with a journal beside it and a mark in its head.
#[derive(Debug)]
pub(crate) struct OneFile;

impl RestoreTarget for OneFile {
    fn lay_out(&self, state: &RestoreState<'_>) -> Result<Layout, Error> {
        state.single_file()
    }

    fn companions(&self) -> &'static [&'static str] {
        &["-wal", "-shm", "-journal"]
    }

    fn mark(&self) -> Option<&'static [u8]> {
        Some(b"unfinished, not a database\n")
    }
}

/// A file in memory.
pub(crate) struct Held(pub(crate) Vec<u8>);

impl BlockSource for Held {
    fn files(&self) -> Vec<FileShape> {
        vec![shape(self.0.len() as u64)]
    }

    fn read_at(&self, _: FileId, offset: u64, buf: &mut [u8]) -> Result<(), BoxError> {
        let at = offset as usize;
        buf.copy_from_slice(self.0.get(at..at + buf.len()).ok_or("past the end")?);
        Ok(())
    }
}

pub(crate) fn shape(len: u64) -> FileShape {
    FileShape { file: FileId::FIRST, name: "app.db".to_owned(), len, block_bytes: BLOCK as u32 }
}

pub(crate) fn bytes(state: &State) -> Vec<u8> {
    state.files.get(&FileId::FIRST).cloned().unwrap_or_default()
}

pub(crate) fn meta(archive: &Archive, redo_from: Lsn, lsn: Lsn, time: Timestamp, tx: TxId) -> SnapshotMeta {
    SnapshotMeta {
        source: archive.source().clone(),
        engine: "test".to_owned(),
        timeline: TimelineId::FIRST,
        epoch: Epoch::FIRST,
        redo_from,
        consistent_at: lsn,
        time,
        tx,
        codec: Codec::default(),
        created: time,
        attributes: None,
    }
}

/// Takes a full snapshot that holds `content`.
pub(crate) fn take(archive: &Archive, content: Vec<u8>, meta: SnapshotMeta) -> Manifest {
    let chunks = ChunkStore::open(archive.objects().clone()).unwrap();
    let manifest = write_full(&chunks, &Held(content), meta, None).unwrap();
    manifest.publish(&chunks).unwrap()
}

pub(crate) fn history(archive: &Archive) -> History {
    History::load(archive.objects(), archive.source(), None).unwrap()
}

pub(crate) fn options(output: &Path, workers: usize) -> RestoreOptions {
    let workers = NonZeroUsize::new(workers);
    RestoreOptions { workers, ..RestoreOptions::to(output) }
}

pub(crate) fn restore_on(
    fs: &dyn FileSystem,
    history: &History,
    plan: &Plan,
    options: &RestoreOptions,
) -> Result<Restored, Error> {
    with_restorer(fs, history, |restorer| restorer.restore(plan, options))
}

pub(crate) fn with_restorer<T>(
    fs: &dyn FileSystem,
    history: &History,
    work: impl FnOnce(&Restorer<'_>) -> T,
) -> T {
    let chunks = ChunkStore::open(history.archive().objects().clone()).unwrap();
    let (clock, progress) = (TestClock::default(), |_| {});
    let target = &OneFile;
    work(&Restorer { history, chunks: &chunks, target, fs, clock: &clock, progress: &progress })
}

/// The differences between a file and the state of a plan.
pub(crate) fn compared(history: &History, plan: &Plan, file: &Path) -> Vec<Range<u64>> {
    let compared = with_restorer(&OsFs, history, |restorer| restorer.compare(plan, file));
    let compared = compared.unwrap().expect("a log without logical records");
    assert_eq!(compared.count, compared.differences.len() as u64);
    compared.differences.into_iter().map(|difference| difference.range).collect()
}

/// The bytes of a state, after a restore in `dir`.
pub(crate) fn restored(dir: &Path, history: &History, target: &Target, workers: usize) -> Vec<u8> {
    let stop = history.resolve(target).unwrap_or_else(|error| panic!("{error}"));
    let plan = history.plan(&stop).unwrap();
    let output: PathBuf = dir.join("restored.db");
    let done = restore_on(&OsFs, history, &plan, &options(&output, workers)).unwrap();
    assert_eq!(done.reached(), stop.reached);
    let bytes = std::fs::read(&output).unwrap();
    assert_eq!(done.bytes, bytes.len() as u64);
    assert_eq!(compared(history, &plan, &output), []);
    std::fs::remove_file(&output).unwrap();
    bytes
}
