//! Incremental copies of a file while two threads write to it.
//!
//! A copy reads only the blocks that the tracker reports. Its last run happens after the writers
//! ended, so the copy then equals the file. The log is a counter here: `pitr-wal` is a real one.

use pitr_tracker::{
    BlockSize, Changes, Error, FileId, LogIdentity, Lsn, LsnRange, Store, TimelineId, Tracker,
};
use pitr_vfs::Env;
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

const FILE: FileId = FileId::FIRST;
const SIZE: BlockSize = BlockSize::DEFAULT;
const BLOCKS: u64 = 5_000;
const FILE_BYTES: u64 = BLOCKS * 4096;

/// One value for each block stands for its content.
struct Engine {
    tracker: Tracker,
    blocks: Mutex<Vec<u64>>,
    /// The end of the log, all of it durable.
    log: Mutex<u64>,
}

impl Engine {
    fn durable(&self) -> Lsn {
        Lsn::new(*self.log.lock().expect("no thread panics"))
    }

    fn write(&self, block: u64, value: u64) {
        let pass = self.tracker.enter(); // before the record gets its position
        let end = {
            let mut log = self.log.lock().expect("no thread panics");
            *log += 4096;
            Lsn::new(*log)
        };
        self.blocks.lock().expect("no thread panics")[block as usize] = value;
        pass.file(FILE, SIZE).mark(block);
        pass.done(end);
    }

    /// Copies what changed since the last call.
    fn copy_changes(&self, copy: &mut [u64]) -> Result<Changes, Error> {
        let changes = self.tracker.freeze(|| self.durable())?;
        let blocks = self.blocks.lock().expect("no thread panics");
        for block in changes.set.blocks(FILE, SIZE, FILE_BYTES) {
            copy[block as usize] = blocks[block as usize];
        }
        Ok(changes)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine = Engine {
        tracker: Tracker::new(Lsn::ORIGIN),
        blocks: Mutex::new(vec![0; BLOCKS as usize]),
        log: Mutex::new(0),
    };
    let temp = tempfile::tempdir()?;
    let identity = LogIdentity { timeline: TimelineId::FIRST, log_id: *b"sixteen random b" };
    let mut store = Store::open(Env::system().fs, temp.path(), identity, Lsn::ORIGIN)?;
    let mut copy = vec![0; BLOCKS as usize];
    let mut seen: BTreeSet<u64> = BTreeSet::new();
    let mut copy_once = || -> Result<bool, Error> {
        let changes = engine.copy_changes(&mut copy)?;
        store.put(&changes)?; // survives a crash
        let blocks: Vec<u64> = changes.set.blocks(FILE, SIZE, FILE_BYTES).collect();
        seen.extend(&blocks);
        println!("LSN {} to {}: {} blocks", changes.range.from(), changes.range.to(), blocks.len());
        Ok(*engine.blocks.lock().expect("no thread panics") == copy)
    };
    thread::scope(|scope| {
        for writer in 0..2 {
            let engine = &engine;
            scope.spawn(move || {
                for nth in 1..=400 {
                    engine.write((nth * (31 + writer)) % BLOCKS, nth * 10 + writer);
                    thread::sleep(Duration::from_micros(100));
                }
            });
        }
        for _ in 0..3 {
            thread::sleep(Duration::from_millis(15));
            copy_once()?;
        }
        Ok::<(), Error>(())
    })?;
    let is_equal = copy_once()?;
    println!("the copy is {} the file", if is_equal { "equal to" } else { "different from" });
    assert!(is_equal);

    drop(store); // a crash: only the files of the store are left
    let end = engine.durable();
    let store = Store::open(Env::system().fs, temp.path(), identity, end)?;
    let coverage = store.coverage(LsnRange::new(Lsn::ORIGIN, end)?)?;
    assert!(coverage.missing().is_empty());
    let stored: BTreeSet<u64> = coverage.into_set().blocks(FILE, SIZE, FILE_BYTES).collect();
    assert_eq!(stored, seen);
    println!("read back from files: {} of {BLOCKS} blocks changed since the start", stored.len());
    Ok(())
}
