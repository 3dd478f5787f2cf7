//! A storage engine built on `pitr-wal` as an external team would build it.
//!
//! It keeps pages in memory and logs an image of each changed page. A checkpoint removes log
//! whether or not it was archived. Segments have the minimum size, so that images cross segment
//! boundaries: after most checkpoints, the log begins within a record.

use pitr_format::record::Record;
use pitr_format::{FileId, Lsn, PartitionId, SegmentSize, TxId};
use pitr_vfs::sim::Rng;
use pitr_vfs::{Clock, Env};
use pitr_wal::{BatchBuilder, Committed, Start, Wal, WalOptions};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The engine's only file.
const FILE: FileId = FileId::FIRST;
const LOG_ID: [u8; 16] = *b"an outside engin";

/// A storage engine with pages in memory; see the module documentation.
#[derive(Debug)]
pub struct PageEngine {
    wal: Wal,
    clock: Arc<dyn Clock>,
    pages: Vec<u8>,
    page_bytes: usize,
    rng: Rng,
    last_tx: u64,
}

impl PageEngine {
    /// Creates an engine with this many pages, all zeros, and its log in `dir`. `env` should have a
    /// simulated clock: each commit waits for a millisecond, so that no two have the same time.
    ///
    /// # Panics
    /// If the log cannot be created: the test then fails.
    #[must_use]
    pub fn create(env: &Env, dir: &Path, pages: usize, page_bytes: usize, seed: u64) -> Self {
        let segment_size = SegmentSize::new(16 << 10).expect("the smallest size");
        let start = Start { segment_size, ..Start::first(LOG_ID) };
        let options = WalOptions { background: false, ..WalOptions::default() };
        let wal = Wal::create(env, dir, &start, &options).expect("the folder is empty");
        let (pages, rng, clock) = (vec![0; pages * page_bytes], Rng::new(seed), Arc::clone(&env.clock));
        PageEngine { wal, clock, pages, page_bytes, rng, last_tx: 0 }
    }

    /// The log of the engine.
    #[must_use]
    pub fn wal(&self) -> &Wal {
        &self.wal
    }

    /// Identity of the log.
    #[must_use]
    pub fn log_id(&self) -> [u8; 16] {
        LOG_ID
    }

    /// The state after the last commit.
    #[must_use]
    pub fn pages(&self) -> &[u8] {
        &self.pages
    }

    /// Changes one to three pages in one transaction. Durable on return.
    ///
    /// # Panics
    /// If the log refuses the transaction.
    pub fn commit(&mut self) -> Committed {
        self.clock.sleep(Duration::from_millis(1));
        self.last_tx += 1;
        let (tx, mut batch) = (TxId::new(self.last_tx), BatchBuilder::new());
        for _ in 0..=self.rng.below(3) {
            let block = self.rng.below((self.pages.len() / self.page_bytes) as u64);
            let at = block as usize * self.page_bytes;
            let page = &mut self.pages[at..at + self.page_bytes];
            page.fill(self.rng.draw() as u8);
            page[..8].copy_from_slice(&self.last_tx.to_le_bytes());
            let image = Record::Image { file: FILE, block, data: page };
            batch.push(PartitionId::FIRST, tx, &image).expect("an image fits");
        }
        batch.push_commit(PartitionId::FIRST, tx, Some(self.clock.now()), None, b"").expect("a commit fits");
        self.wal.commit(batch).expect("the log accepts the commit").commits[0]
    }

    /// Simulates a checkpoint: removes the log below the durable LSN, whether or not it was
    /// archived. Returns the new first position.
    ///
    /// # Panics
    /// If the log refuses the removal.
    pub fn checkpoint(&mut self) -> Lsn {
        self.wal.remove_below(self.wal.durable()).expect("the log can be cut");
        self.wal.first()
    }
}
