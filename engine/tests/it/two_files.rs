//! A storage engine with a heap and an index, in blocks of different sizes. Every commit logs the
//! lengths of both files and the images of their changed blocks.

use pitr_engine::Engine;
use pitr_format::record::Record;
use pitr_format::{FileId, PartitionId, SegmentSize, Timestamp, TxId};
use pitr_recovery::{
    Error, FilePlace, Finished, FolderLayout, Layout, RestoreState, RestoreTarget, Result, Unfinished,
};
use pitr_snapshot::{BlockSource, BoxError, FileShape};
use pitr_vfs::sim::{Rng, SimClock, SimFs};
use pitr_vfs::{Clock, Env};
use pitr_wal::{BatchBuilder, Committed, Start, Wal, WalOptions};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const NAME: &str = "two-files";
pub(crate) const LOG_ID: [u8; 16] = *b"an engine of two";
pub(crate) const MARK: &[u8] = b"two-files: unfinished restore\n";
/// The two files: number, path below the output, block size in bytes.
pub(crate) const FILES: [(FileId, &str, usize); 2] =
    [(FileId::new(3), "data/heap", 4096), (FileId::new(7), "index", 512)];
/// Name of the file that `finish` writes. It contains the LSN of the restored state.
pub(crate) const CURRENT: &str = "CURRENT";

/// The engine's interface to pitr.
#[derive(Debug)]
pub(crate) struct TwoFiles;

impl Engine for TwoFiles {
    fn name(&self) -> &'static str {
        NAME
    }

    fn detect(&self, path: &Path) -> bool {
        path.join("data").is_dir() && path.join("index").is_file()
    }

    fn restore_target(&self) -> Option<&dyn RestoreTarget> {
        Some(self)
    }
}

impl RestoreTarget for TwoFiles {
    fn lay_out(&self, state: &RestoreState<'_>) -> Result<Layout> {
        let known = state.files().into_iter().filter_map(|file| FILES.iter().find(|(id, ..)| *id == file));
        let files = known.map(|(file, path, _)| FilePlace::new(*file, *path)).collect();
        Ok(Layout::Folder(FolderLayout { folders: vec!["data".into()], files }))
    }

    fn mark(&self) -> Option<&'static [u8]> {
        Some(MARK)
    }

    fn finish(&self, unfinished: &Unfinished<'_>) -> Result<Finished> {
        let path = unfinished.path.join(CURRENT);
        let write = || {
            let file = unfinished.fs.create_private(&path)?;
            file.write_all_at(&unfinished.reached.lsn.get().to_le_bytes(), 0)
        };
        write().map_err(|source| Error::Io { op: "write", path: path.clone(), source })?;
        Ok(Finished::default())
    }
}

/// The contents of both files after a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State(pub(crate) [Vec<u8>; 2]);

impl BlockSource for State {
    fn files(&self) -> Vec<FileShape> {
        let shape = |((file, name, block), bytes): (&(FileId, &str, usize), &Vec<u8>)| FileShape {
            file: *file,
            name: (*name).to_owned(),
            len: bytes.len() as u64,
            block_bytes: *block as u32,
        };
        FILES.iter().zip(&self.0).map(shape).collect()
    }

    fn read_at(&self, file: FileId, offset: u64, buf: &mut [u8]) -> std::result::Result<(), BoxError> {
        let number = FILES.iter().position(|(id, ..)| *id == file).ok_or("no such file")?;
        let at = offset as usize;
        buf.copy_from_slice(self.0[number].get(at..at + buf.len()).ok_or("past the end")?);
        Ok(())
    }
}

/// The running engine.
pub(crate) struct Database {
    pub(crate) wal: Wal,
    pub(crate) state: State,
    clock: Arc<SimClock>,
    rng: Rng,
    last_tx: u64,
}

impl Database {
    pub(crate) fn create(seed: u64) -> Self {
        let (fs, clock) = (SimFs::new(), Arc::new(SimClock::new(Timestamp::from_micros(1_000_000))));
        let env = Env::system().with_fs(Arc::new(fs)).with_clock(Arc::clone(&clock) as Arc<dyn Clock>);
        let start = Start { segment_size: SegmentSize::new(16 << 10).unwrap(), ..Start::first(LOG_ID) };
        let options = WalOptions { background: false, ..WalOptions::default() };
        let wal = Wal::create(&env, Path::new("/log"), &start, &options).unwrap();
        Database { wal, state: State([Vec::new(), Vec::new()]), clock, rng: Rng::new(seed), last_tx: 0 }
    }

    /// Grows or shrinks both files, and changes some of their blocks, in one transaction.
    pub(crate) fn commit(&mut self) -> Committed {
        self.clock.pass(Duration::from_millis(1));
        self.last_tx += 1;
        let (tx, mut batch) = (TxId::new(self.last_tx), BatchBuilder::new());
        for ((file, _, block_bytes), content) in FILES.iter().zip(&mut self.state.0) {
            let blocks = 1 + self.rng.below(20);
            content.resize(blocks as usize * block_bytes, 0);
            let len = content.len() as u64;
            batch.push(PartitionId::FIRST, tx, &Record::SetLength { file: *file, len }).unwrap();
            for _ in 0..self.rng.below(4) {
                let block = self.rng.below(blocks);
                let data = &mut content[block as usize * block_bytes..][..*block_bytes];
                data.fill(self.rng.draw() as u8);
                data[..8].copy_from_slice(&self.last_tx.to_le_bytes());
                batch.push(PartitionId::FIRST, tx, &Record::Image { file: *file, block, data }).unwrap();
            }
        }
        batch.push_commit(PartitionId::FIRST, tx, Some(self.clock.now()), None, b"").unwrap();
        self.wal.commit(batch).unwrap().commits[0]
    }
}
