//! Captures into a log and replays the log into a model of the file: the smallest complete cycle.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pitr_format::log::Assembler;
use pitr_format::record::Record;
use pitr_format::{Lsn, TxId};
use pitr_sqlite::KeeperOptions;
use pitr_sqlite::parts::BaseView;
use pitr_sqlite::parts::PageSample;
use pitr_sqlite::parts::Source;
use pitr_sqlite::parts::{Begin, Capture};
use pitr_sqlite::parts::{Keeper, Quiet};
use pitr_testkit::App;
use pitr_vfs::{Clock, Env, OsFs, SystemClock};
use pitr_wal::{LogReader, Start, Wal, WalOptions};

/// A watched database without an archive: transactions go to a log and from there into `file`.
pub(crate) struct Watched {
    pub(crate) source: Source,
    pub(crate) capture: Capture,
    pub(crate) keeper: Keeper,
    reader: LogReader,
    pub(crate) wal: Wal,
    /// The database that the log produces.
    pub(crate) file: Vec<u8>,
    pub(crate) dir: PathBuf,
}

impl Watched {
    pub(crate) fn start(dir: &Path, database: &Path, options: KeeperOptions) -> Watched {
        Self::start_by(Arc::new(SystemClock::default()), dir, database, options)
    }

    /// Like [`start`](Self::start), with the test's own clock.
    pub(crate) fn start_by(
        clock: Arc<dyn Clock>,
        dir: &Path,
        database: &Path,
        options: KeeperOptions,
    ) -> Watched {
        let fs: Arc<dyn pitr_vfs::FileSystem> = Arc::new(OsFs);
        let mut source = Source::open(fs.as_ref(), Arc::new(SystemClock::new()), database).unwrap();
        let (view, position) = BaseView::take(&mut source, TxId::NONE).unwrap();
        let mut file = vec![0; view.len() as usize];
        view.read(0, &mut file).unwrap();
        drop(view);
        let start = Start::first([1; 16]);
        let wal = Wal::create(
            &Env::system().with_fs(fs).with_clock(Arc::clone(&clock)),
            &dir.join("log"),
            &start,
            &WalOptions::default(),
        )
        .unwrap();
        let (last_look, sample) = (clock.now(), PageSample::default());
        let begin = Begin { position, last_look, joined: true, sample };
        let capture = Capture::new(wal.clone(), Arc::clone(&clock), begin);
        let keeper = Keeper::new(wal.clone(), clock, options, Quiet::default());
        let reader = wal.reader(Lsn::ORIGIN).unwrap();
        Watched { source, capture, keeper, reader, wal, file, dir: dir.to_owned() }
    }

    /// Looks until `tx` is captured.
    pub(crate) fn until(&mut self, tx: u64) {
        let begun = Instant::now();
        while self.capture.last_tx().get() < tx {
            assert!(begun.elapsed() < Duration::from_secs(10), "transaction {tx} was not captured");
            self.step();
        }
        self.wal.sync().unwrap();
    }

    pub(crate) fn step(&mut self) {
        if let Some(published) = self.capture.look(&self.source).unwrap() {
            self.keeper.maintain(&mut self.source, &mut self.capture, published).unwrap();
        }
    }

    /// Replays transactions until `upto` is applied.
    pub(crate) fn replay(&mut self, upto: u64) {
        let mut assembler = Assembler::new();
        let mut images: Vec<(u64, Vec<u8>)> = Vec::new();
        let mut len = None;
        while let Some(batch) = self.reader.next_batch().unwrap() {
            for frame in batch.frames().unwrap() {
                let Some(record) = assembler.push(&frame.unwrap()).unwrap() else { continue };
                match Record::decode(record.kind, record.payload).unwrap() {
                    Record::Image { block, data, .. } => images.push((block, data.to_vec())),
                    Record::SetLength { len: new, .. } => len = Some(new),
                    Record::Commit(_) => {
                        let page = images[0].1.len();
                        if let Some(len) = len.take() {
                            self.file.resize(len as usize, 0);
                        }
                        for (block, data) in images.drain(..) {
                            let at = block as usize * page;
                            if at < self.file.len() {
                                self.file[at..at + page].copy_from_slice(&data);
                            }
                        }
                        assert!(record.tx.get() <= upto);
                    }
                    _ => {}
                }
            }
        }
    }

    /// Asserts that the replayed file equals the application's copy.
    pub(crate) fn assert_exact(&self, copy: &Path) {
        let ours = self.dir.join("replayed.db");
        std::fs::write(&ours, &self.file).unwrap();
        assert_exact(&ours, copy);
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(pitr_sqlite::parts::with_suffix(&ours, suffix));
        }
    }
}

/// Asserts equal length, integrity, schema, and rows of every table.
pub(crate) fn assert_exact(ours: &Path, copy: &Path) {
    if let Some(difference) = pitr_sqlite::exact::compare(ours, copy).unwrap() {
        panic!("{difference}");
    }
}

pub(crate) fn application(database: &Path) -> App {
    App::start("application", database)
}
