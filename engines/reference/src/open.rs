//! Opening a store: new, after a crash or a clean end, or after a restore.

use crate::control::{Control, ControlFile, Last};
use crate::error::{Error, PageFault, Result};
use crate::locks::Locks;
use crate::page::{self, PAGE_BYTES};
use crate::redo::{RecoveredPages, RowRedo};
use crate::rows::Has;
use crate::spare;
use crate::state::{self, PageId, State, Table};
use crate::store::{Store, TableId};
use pitr_format::record::{Record, RecordKind};
use pitr_format::{Lsn, SegmentSize, TimelineId, Timestamp, TxId};
use pitr_tracker::{LogIdentity, Tracker};
use pitr_vfs::{Access, Env, File, FileSystem};
use pitr_wal::{Committed, LogScan, Start, Wal, WalOptions};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

/// Folder of the log, below that of the store.
const LOG: &str = "log";
/// Folder of the tracker's epochs, below that of the store.
const EPOCHS: &str = "changes";

/// Settings of an open store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Number of changed pages in memory at which a commit begins with a checkpoint. It bounds the
    /// memory, and the log that an opening replays.
    pub dirty_pages_max: usize,
    /// Size of a segment of a new log.
    pub segment_size: SegmentSize,
    /// The timeline of a restored store's log. Another one than the first if the store is archived
    /// under the name of its source. No effect on a store that has a log.
    pub timeline: TimelineId,
    /// Settings of the log. Without threads ([`pitr_vfs::Spawn::Inline`]) the log gets none either.
    pub wal: WalOptions,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            dirty_pages_max: 4096,
            segment_size: SegmentSize::DEFAULT,
            timeline: TimelineId::FIRST,
            wal: WalOptions::default(),
        }
    }
}

impl From<Committed> for Last {
    fn from(Committed { tx, lsn, time }: Committed) -> Self {
        Last { tx, lsn, time }
    }
}

impl Store {
    /// Opens the store in `dir`, or creates it if the folder has none. After a crash it has exactly
    /// the transactions that were durable. A restored store begins a new log.
    ///
    /// # Errors
    /// [`Error::NoLog`], [`Error::NoControl`], [`Error::Control`] and [`Error::Damaged`] if the
    /// store is damaged; [`Error::Log`] if its log is, or another process has it open;
    /// [`Error::Foreign`]; [`Error::Tracker`], [`Error::Io`].
    pub fn open(env: &Env, dir: &Path, options: &Options) -> Result<Self> {
        let fs = env.fs.as_ref();
        fs.create_dir_all(dir).map_err(Error::io("create", dir))?;
        let files = table_files(env, dir)?;
        let control = ControlFile::open(fs, dir)?;
        let wal = open_log(env, dir, options, control.as_ref().map(|(_, control)| control), &files)?;
        let (control_file, control) = match control {
            Some((mut file, control)) if control.is_restored => {
                let begun = Control { is_restored: false, ..fresh(&wal, Some(control.last)) };
                file.write(&begun)?;
                (file, begun)
            }
            Some(found) => found,
            None if !files.is_empty() || has_records(&wal)? => {
                return Err(Error::NoControl { dir: dir.to_owned() });
            }
            None => {
                let begun = fresh(&wal, None);
                (ControlFile::create(fs, dir, &begun)?, begun)
            }
        };
        let state = recover(fs, dir, &wal, &control, files)?;
        let log = LogIdentity { timeline: wal.timeline(), log_id: wal.log_id() };
        let epochs = pitr_tracker::Store::open(Arc::clone(&env.fs), &dir.join(EPOCHS), log, wal.durable())?;
        Ok(Store {
            env: env.clone(),
            dir: dir.to_owned(),
            dirty_pages_max: options.dirty_pages_max,
            tracker: Tracker::new(wal.durable()),
            wal,
            epochs: Mutex::new(epochs),
            control: Mutex::new(control_file),
            state: Mutex::new(state),
            begun: AtomicU64::new(0),
        })
    }
}

/// The files of tables in the folder.
fn table_files(env: &Env, dir: &Path) -> Result<BTreeMap<TableId, Arc<dyn File>>> {
    let names = env.fs.list(dir).map_err(Error::io("list", dir))?;
    let tables = names.iter().filter_map(|name| TableId::of_file_name(name.to_str()?));
    let open = |table: TableId| {
        let path = dir.join(table.file_name());
        Ok((table, env.fs.open(&path, Access::ReadWrite).map_err(Error::io("open", &path))?))
    };
    tables.map(open).collect()
}

/// Opens the log. Creates one for a new store, and for a restored one.
fn open_log(
    env: &Env,
    dir: &Path,
    options: &Options,
    control: Option<&Control>,
    files: &BTreeMap<TableId, Arc<dyn File>>,
) -> Result<Wal> {
    let (path, mut wal) = (dir.join(LOG), options.wal.clone());
    wal.background &= !env.spawn.is_inline();
    // The log was durable up to the checkpoint. If it ends earlier, it is refused and not cut.
    let known = control.filter(|control| !control.is_restored).map_or(Lsn::ORIGIN, |found| found.redo_from);
    match Wal::open(env, &path, known, &wal) {
        Err(pitr_wal::Error::NoLog { .. }) => {}
        opened => return Ok(opened?.0),
    }
    let log_id = env.random_bytes().map_err(Error::io("draw an identity for", &path))?;
    let first = Start { segment_size: options.segment_size, ..Start::first(log_id) };
    let start = match control {
        None if files.is_empty() => first,
        None => return Err(Error::NoControl { dir: dir.to_owned() }),
        // The log continues after the restored state: it never claims to reach back to the origin,
        // so an archive of it is not taken for a history without a base.
        Some(Control { is_restored: true, last, .. }) => {
            Start { timeline: options.timeline, follows: last.lsn, time: last.time, ..first }
        }
        Some(_) => return Err(Error::NoLog { dir: dir.to_owned() }),
    };
    Ok(Wal::create(env, &path, &start, &wal)?)
}

/// The checkpoint of a store with an empty log.
fn fresh(wal: &Wal, restored: Option<Last>) -> Control {
    let (tx, time) = restored.map_or((TxId::NONE, Timestamp::MIN), |last| (last.tx, last.time));
    let redo_from = wal.durable();
    Control { redo_from, last: Last { tx, lsn: redo_from, time }, newest: tx, is_restored: false }
}

fn has_records(wal: &Wal) -> Result<bool> {
    let mut found = false;
    wal.scan(wal.first(), wal.durable())?.for_each::<Error>(|_| {
        found = true;
        Ok(())
    })?;
    Ok(found)
}

/// The state after the last commit of the log.
fn recover(
    fs: &dyn FileSystem,
    dir: &Path,
    wal: &Wal,
    control: &Control,
    files: BTreeMap<TableId, Arc<dyn File>>,
) -> Result<State> {
    let dir = dir.to_owned();
    let (tables, dirty) = (BTreeMap::new(), BTreeMap::new());
    let Control { last, newest, redo_from, .. } = *control;
    let mut state = State { dir, tables, dirty, last, newest, locks: Locks::default(), failed: false };
    let scan = wal.scan(redo_from, wal.durable())?;
    replay(&scan, &mut state)?;
    let logged: BTreeSet<TableId> = state.dirty.keys().map(|(table, _)| *table).collect();
    for id in logged.union(&files.keys().copied().collect()) {
        let path = state.dir.join(id.file_name());
        let file = files.get(id).cloned();
        let len = file.as_ref().map_or(Ok(0), |file| file.len()).map_err(Error::io("measure", &path))?;
        let logged = state.dirty.range((*id, 0)..=(*id, u64::MAX)).next_back();
        let pages = logged.map_or(0, |((_, number), _)| number + 1).max(len.div_ceil(PAGE_BYTES as u64));
        let header = match state.dirty.get(&(*id, 0)) {
            Some(page) => Arc::clone(page),
            None => state::read(&state.dir, *id, file.as_deref(), 0)?,
        };
        let damaged = |fault: PageFault| Error::Damaged { path, page: 0, fault };
        let (name, rows) = page::decode_header(&header).map_err(damaged)?;
        state.tables.insert(*id, Table { name, rows, pages, file });
    }
    take_spares(fs, &mut state)?;
    let redo = RowRedo::new(RecoveredPages(Mutex::new(&mut state)));
    let mut newest: BTreeMap<PageId, Lsn> = BTreeMap::new();
    scan.for_each_logical::<Error>(|record| {
        let commit = newest.entry(redo.apply_row(record)?).or_default();
        *commit = record.commit.max(*commit);
        Ok(())
    })?;
    redo.write_all(wal.durable())?;
    drop(redo);
    // The replay is complete, so each page gets the bytes that its last commit gave it. Otherwise
    // it would differ from the last snapshot although no record since then changes it.
    let noted = newest.into_iter().filter_map(|((table, number), commit)| {
        let mut page = state.dirty.get(&(table, number))?.to_vec();
        Has::up_to(commit).put(&mut page);
        Some(((table, number), page::seal(page, table.file(), number)))
    });
    let noted: Vec<_> = noted.collect();
    state.apply(noted);
    Ok(state)
}

/// Takes the copies of pages that the last checkpoint tore.
fn take_spares(fs: &dyn FileSystem, state: &mut State) -> Result<()> {
    for (id, page) in spare::read(fs, &state.dir)? {
        let is_torn = matches!(state.page(id.0, id.1), Err(Error::Damaged { .. }));
        if is_torn {
            state.apply([(id, page)]);
        }
    }
    Ok(())
}

/// Applies the images of committed transactions to the pages in memory, in the order of the log:
/// the newest image of a page wins, and what no commit covers leaves no trace. Notes the last
/// commit.
fn replay(scan: &LogScan, state: &mut State) -> Result<()> {
    scan.for_each::<Error>(|record| {
        if record.kind == RecordKind::Commit as u8 {
            let decoded = Record::decode(record.kind, record.payload);
            if let Ok(Record::Commit(commit)) = decoded {
                state.last = Last { tx: record.tx, lsn: record.end, time: commit.time };
                state.newest = state.newest.max(record.tx);
            }
        }
        Ok(())
    })?;
    scan.for_each_committed::<Error>(|record| match Record::decode(record.kind, record.payload) {
        Ok(Record::Image { file, block, data }) if data.len() == PAGE_BYTES => {
            state.dirty.insert((TableId::new(file), block), data.into());
            Ok(())
        }
        // Rows need their tables, which are known after all images.
        Ok(Record::Data(_)) => Ok(()),
        // FAILURES 52: a record that cannot be applied is never skipped.
        _ => Err(Error::Foreign { lsn: record.lsn }),
    })
}
