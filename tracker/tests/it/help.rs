//! Shared test code: a small log, and the files that it describes.

use pitr_format::log::{Assembler, BATCH_HEADER_BYTES, Batch, BatchHeader, Frame, Part, Seed, WholeRecord};
use pitr_format::record::Record;
use pitr_format::{FileId, Incarnation, Lsn, PartitionId, SegmentNo, TimelineId, Timestamp, TxId};
use pitr_tracker::{BlockSize, ChangeSet, Changes, Extractor, LogIdentity, LsnRange, Tracker};
use pitr_vfs::sim::Rng;
use pitr_vfs::{Access, File, FileSystem};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

pub(crate) const LOG: LogIdentity = LogIdentity { timeline: TimelineId::FIRST, log_id: [7; 16] };

pub(crate) fn range(from: u64, to: u64) -> LsnRange {
    LsnRange::new(Lsn::new(from), Lsn::new(to)).unwrap()
}

pub(crate) fn size_of(file: FileId) -> BlockSize {
    BlockSize::new([16, 48][file.get() as usize % 2]).unwrap()
}

/// A write of a transaction.
#[derive(Debug, Clone)]
pub(crate) enum Write {
    Image(FileId, u64, u8),
    SetLength(FileId, u64),
}

impl Write {
    pub(crate) fn random(rng: &mut Rng) -> Self {
        let file = FileId::new(rng.below(2) as u32);
        if rng.once_in(9) {
            Write::SetLength(file, rng.below(40 * 48))
        } else {
            Write::Image(file, rng.below(40), rng.below(255) as u8 + 1)
        }
    }

    pub(crate) fn with_record<T>(&self, take: impl FnOnce(&Record<'_>) -> T) -> T {
        match self {
            Write::Image(file, block, fill) => {
                let data = vec![*fill; size_of(*file).bytes() as usize];
                take(&Record::Image { file: *file, block: *block, data: &data })
            }
            Write::SetLength(file, len) => take(&Record::SetLength { file: *file, len: *len }),
        }
    }
}

/// The changes that these writes make.
pub(crate) fn changes(range: LsnRange, writes: &[Write]) -> Changes {
    let mut set = ChangeSet::new();
    writes.iter().for_each(|write| write.with_record(|record| set.record(record)));
    Changes { range, set }
}

/// A log in one file: batches of the format, back to back, from LSN 8 on.
#[derive(Debug)]
pub(crate) struct Log {
    file: Arc<dyn File>,
    end: Lsn,
    last: Lsn,
    durable: Lsn,
}

impl Log {
    pub(crate) const BEGIN: Lsn = Lsn::new(8);

    pub(crate) fn create(fs: &dyn FileSystem, path: &Path) -> Self {
        let file = fs.create_new(path).unwrap();
        fs.sync_dir(path.parent().unwrap()).unwrap();
        Log { file, end: Log::BEGIN, last: Lsn::ORIGIN, durable: Log::BEGIN }
    }

    /// Finds the end, truncates the file there, and makes the rest durable.
    pub(crate) fn open(fs: &dyn FileSystem, path: &Path) -> Self {
        let file = fs.open(path, Access::ReadWrite).unwrap();
        let mut log = Log { file, end: Log::BEGIN, last: Lsn::ORIGIN, durable: Log::BEGIN };
        let bytes = log.bytes();
        while let Some(header) = batch_at(&bytes, log.end).map(|batch| batch.header) {
            (log.last, log.end) = (log.end, header.end().unwrap());
        }
        // The bytes that were read may not be durable, so they are written again
        // (docs/format/wal.md).
        log.file.set_len(log.end.get()).unwrap();
        let len = (bytes.len() as u64).min(log.end.get()) as usize;
        log.file.write_all_at(&bytes[..len], 0).unwrap();
        log.sync().unwrap();
        log
    }

    pub(crate) fn durable(&self) -> Lsn {
        self.durable
    }

    /// Appends one batch. Returns its end.
    pub(crate) fn append(&mut self, writes: &[Write]) -> Lsn {
        let mut body = Vec::new();
        for write in writes {
            write.with_record(|record| put_frame(&mut body, record));
        }
        let header = BatchHeader {
            lsn: self.end,
            prev: self.last,
            durable: self.durable,
            time: Timestamp::MIN,
            body_len: body.len() as u32,
            frames: writes.len() as u32,
            body_crc: seed().crc(&body),
        };
        let mut bytes = header.encode(seed()).to_vec();
        bytes.append(&mut body);
        self.file.write_all_at(&bytes, self.end.get()).unwrap();
        (self.last, self.end) = (self.end, header.end().unwrap());
        // The padding is written too, so that the end of the file is the end of the log.
        let padding = self.end.get() - header.lsn.get() - bytes.len() as u64;
        self.file.write_all_at(&vec![0; padding as usize], self.end.get() - padding).unwrap();
        self.end
    }

    pub(crate) fn sync(&mut self) -> std::io::Result<()> {
        let end = self.end;
        self.file.sync_data()?;
        self.durable = end;
        Ok(())
    }

    /// Calls `each` for each durable record, in order.
    pub(crate) fn for_each(&self, mut each: impl FnMut(&WholeRecord<'_>)) {
        let (bytes, mut at, mut assembler) = (self.bytes(), Log::BEGIN, Assembler::new());
        while at < self.durable {
            let batch = batch_at(&bytes, at).unwrap();
            for frame in batch.frames() {
                each(&assembler.push(&frame.unwrap()).unwrap().unwrap());
            }
            at = batch.header.end().unwrap();
        }
    }

    /// The changes of the records in this range, computed by the extractor.
    pub(crate) fn extract(&self, range: LsnRange) -> Changes {
        let mut extractor = Extractor::new(range);
        self.for_each(|record| extractor.push(record).unwrap());
        extractor.finish(LsnRange::new(Lsn::ORIGIN, self.durable).unwrap()).unwrap()
    }

    /// The files after all records below this position.
    pub(crate) fn files_at(&self, lsn: Lsn) -> Files {
        let mut files = Files::default();
        self.for_each(|record| {
            if record.lsn < lsn {
                files.apply(&Record::decode(record.kind, record.payload).unwrap());
            }
        });
        files
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.file.len().unwrap() as usize];
        self.file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }
}

fn seed() -> Seed {
    Seed::new(TimelineId::FIRST, SegmentNo::FIRST, Incarnation::FIRST)
}

fn batch_at(bytes: &[u8], at: Lsn) -> Option<Batch<'_>> {
    let batch = Batch::decode(bytes.get(at.get() as usize..)?, seed()).ok()?;
    (batch.header.lsn == at && batch.header.end()?.get() <= bytes.len() as u64).then_some(batch)
}

fn put_frame(body: &mut Vec<u8>, record: &Record<'_>) {
    let mut payload = Vec::new();
    record.encode(&mut payload);
    let frame = Frame {
        lsn: Lsn::new(BATCH_HEADER_BYTES as u64),
        kind: record.kind() as u8,
        part: Part::Full,
        partition: PartitionId::FIRST,
        tx: TxId::new(1),
        total_len: payload.len() as u32,
        bytes: &payload,
    };
    frame.encode(body);
}

/// The content of the files.
#[derive(Debug, Default, Clone)]
pub(crate) struct Files(BTreeMap<FileId, Vec<u8>>);

impl Files {
    fn apply(&mut self, record: &Record<'_>) {
        match record {
            Record::Image { file, block, data } => {
                let bytes = self.0.entry(*file).or_default();
                let at = *block as usize * data.len();
                bytes.resize(bytes.len().max(at + data.len()), 0);
                bytes[at..at + data.len()].copy_from_slice(data);
            }
            Record::SetLength { file, len } => self.0.entry(*file).or_default().resize(*len as usize, 0),
            other => panic!("{other:?}"),
        }
    }

    /// The blocks whose content differs from `before`. Bytes past the end of a file count as zeros.
    pub(crate) fn differ(&self, before: &Files) -> BTreeSet<(FileId, u64)> {
        let mut differ = BTreeSet::new();
        for file in [FileId::new(0), FileId::new(1)] {
            let bytes = |files: &Files| files.0.get(&file).cloned().unwrap_or_default();
            let (mut old, mut new) = (bytes(before), bytes(self));
            let block_bytes = size_of(file).bytes() as usize;
            let len = old.len().max(new.len()).next_multiple_of(block_bytes);
            old.resize(len, 0);
            new.resize(len, 0);
            let pairs = old.chunks(block_bytes).zip(new.chunks(block_bytes));
            differ.extend(
                pairs.enumerate().filter(|(_, (a, b))| a != b).map(|(block, _)| (file, block as u64)),
            );
        }
        differ
    }
}

/// Runs one transaction of at most `writes_max` writes from start to end. After its sync, if it
/// needs one, it calls `synced` with the durable LSN, under the lock of the log.
pub(crate) fn transact(
    rng: &mut Rng,
    writes_max: u64,
    tracker: &Tracker,
    log: &Mutex<Log>,
    synced: impl FnOnce(Lsn),
) {
    let writes: Vec<Write> = (0..1 + rng.below(writes_max)).map(|_| Write::random(rng)).collect();
    let pass = tracker.enter();
    let end = log.lock().unwrap().append(&writes);
    std::thread::yield_now();
    let mut locked = log.lock().unwrap();
    if locked.durable() < end {
        locked.sync().unwrap();
        synced(locked.durable());
    }
    drop(locked);
    std::thread::yield_now();
    writes.iter().for_each(|write| write.with_record(|record| pass.record(record)));
    pass.done(end);
}

/// Checks the guarantee: every block outside the set is equal at both ends of the range.
pub(crate) fn assert_promise(log: &Log, range: LsnRange, set: &ChangeSet) {
    let (before, after) = (log.files_at(range.from()), log.files_at(range.to()));
    for (file, block) in after.differ(&before) {
        assert!(set.contains(file, size_of(file), block), "{range}: block {block} of file {file} is missing");
    }
}
