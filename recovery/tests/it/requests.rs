//! Requests: modes, statistics, validation, the recovery time objective, and the engine's check.

use crate::lab::{OneFile, history, meta};
use crate::world::{TestClock, World, commit, content, options as ship_options};
use pitr_dedup::ChunkStore;
use pitr_format::record::Record;
use pitr_format::{FileId, PartitionId, Severity, Timestamp, TxId};
use pitr_objects::Objects;
use pitr_recovery::{
    ConsistencyCheck, Error, FilePlace, Finding, FolderLayout, History, Layout, Rate, Rates, Recovery,
    RecoveryMode, RecoveryRequest, RecoveryTarget, RestoreState, RestoreTarget, Restorer, Rto, Target,
    Unfinished,
};
use pitr_snapshot::{BlockSource, BoxError, FileShape, write_full};
use pitr_testkit::{Answer, Request, TestStore};
use pitr_vfs::sim::{Op, SimFs};
use pitr_vfs::{Access, FileSystem};
use pitr_wal::BatchBuilder;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const OUTPUT: &str = "/out/out.db";

fn machine() -> SimFs {
    let fs = SimFs::new();
    fs.create_dir_all(Path::new("/out")).unwrap();
    fs
}

fn recover(
    fs: &SimFs,
    history: &History,
    target: &dyn RestoreTarget,
    request: &RecoveryRequest,
) -> Result<Recovery, Error> {
    let chunks = ChunkStore::open(history.archive().objects().clone()).unwrap();
    let (clock, chunks) = (TestClock::default(), &chunks);
    Restorer { history, chunks, target, fs, clock: &clock, progress: &|_| {} }.recover(request)
}

fn read(fs: &SimFs, path: impl AsRef<Path>) -> Vec<u8> {
    let file = fs.open(path.as_ref(), Access::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn names(fs: &SimFs) -> Vec<String> {
    let listed = fs.list(Path::new("/out")).unwrap();
    listed.into_iter().map(|name| name.into_string().unwrap()).collect()
}

fn small_objects(dir: &Path, seed: u64, file_count: u64) -> World {
    World::new(dir, seed, file_count, ship_options(3000, 900))
}

/// Paths of the log objects of the repository in `dir`.
fn log_objects(dir: &Path) -> Vec<PathBuf> {
    let folder = dir.join("repo/sources/app/log/00000001/0000000000000001");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn a_validation_reports_what_a_restore_does_and_writes_nothing() {
    for seed in 0..8 {
        let dir = tempfile::tempdir().unwrap();
        let mut world = small_objects(dir.path(), seed, 1);
        world.live(150);
        let history = history(&world.archive);
        let state = &world.states[world.states.len() / 2];
        for target in [Target::latest(), Target::at(state.tx), Target::just_before(state.tx)] {
            let fs = machine();
            let before = fs.trace().ops.len();
            let request = RecoveryRequest::validation(target.clone());
            let validated = recover(&fs, &history, &OneFile, &request).unwrap();
            assert_eq!(fs.trace().ops.len(), before, "nothing is written");
            assert!(validated.restored.is_none() && validated.stats.base_bytes == 0);
            let request = RecoveryRequest::full(target, OUTPUT);
            let restored = recover(&fs, &history, &OneFile, &request).unwrap();
            assert_eq!(restored.stats, restored.restored.unwrap().stats);
            let (a, b) = (validated.stats, restored.stats);
            assert_eq!((a.log_bytes, a.records, a.applied), (b.log_bytes, b.records, b.applied));
            assert_eq!((a.skipped, a.reached, a.snapshot), (b.skipped, b.reached, b.snapshot));
            let committed = world.states.iter().filter(|state| state.lsn <= b.reached.lsn).count();
            assert_eq!(b.applied, committed as u64);
        }
    }
}

#[test]
fn a_validation_finds_any_damaged_byte_of_the_log_that_it_covers_and_of_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = small_objects(dir.path(), 5, 1);
    world.live(60);
    let history = history(&world.archive);
    let objects = log_objects(dir.path());
    assert!(objects.len() > 4);
    // The last state in the first object that holds one, and the latest one.
    let holds = |piece: &pitr_archive::Piece| world.states.iter().rfind(|state| state.lsn <= piece.to);
    let (last, early) =
        history.pieces().iter().enumerate().find_map(|(no, piece)| Some((no, holds(piece)?.tx))).unwrap();
    assert!(last < objects.len() / 2);
    let validate = |target: Target| {
        recover(&machine(), &history, &OneFile, &RecoveryRequest::validation(target)).map(drop)
    };
    validate(Target::latest()).unwrap();
    for (number, object) in objects.iter().enumerate() {
        let sound = std::fs::read(object).unwrap();
        for at in (0..sound.len()).step_by(37).chain([sound.len() - 1]) {
            let mut spoiled = sound.clone();
            spoiled[at] ^= 0x10;
            std::fs::write(object, &spoiled).unwrap();
            let error = validate(Target::latest()).expect_err("damage is found");
            assert_eq!(error.severity(), Severity::Fatal, "{error}");
        }
        // A target is looked for in the indexes. Only this object's first frame is damaged.
        let mut spoiled = sound.clone();
        spoiled[100] ^= 0x10;
        std::fs::write(object, &spoiled).unwrap();
        assert_eq!(validate(Target::at(early)).is_ok(), number > last, "object {number}");
        std::fs::write(object, &sound).unwrap();
    }
    std::fs::remove_file(&objects[2]).unwrap();
    assert!(validate(Target::latest()).is_err());
}

#[test]
fn transactions_are_counted_as_applied_or_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = small_objects(dir.path(), 1, 1);
    let append = |tx: u64, block: u64, last: Option<Record<'_>>| {
        let (mut batch, tx) = (BatchBuilder::new(), TxId::new(tx));
        let data = content(FileId::FIRST, block, 9);
        let image = Record::Image { file: FileId::FIRST, block, data: &data };
        batch.push(PartitionId::FIRST, tx, &image).unwrap();
        if let Some(record) = last {
            batch.push(PartitionId::FIRST, tx, &record).unwrap();
        }
        world.wal.append(batch).unwrap()
    };
    let begins = append(2, 3, None).first;
    commit(&world.wal, 1, &[(0, 1)], None);
    append(2, 4, Some(Record::Abort { first_lsn: begins }));
    commit(&world.wal, 3, &[(0, 2), (1, 2)], None);
    let begins = append(4, 5, None).first;
    commit(&world.wal, 5, &[(1, 3)], None);
    let mut late = BatchBuilder::new();
    late.push_commit(PartitionId::FIRST, TxId::new(4), None, Some(begins), b"").unwrap();
    world.wal.commit(late).unwrap();
    append(6, 6, None);
    world.wal.sync().unwrap();
    world.shipper.ship(&world.wal).unwrap();
    let history = history(&world.archive);
    for (target, applied, skipped) in
        [(Target::latest(), 4, 2), (Target::at(TxId::new(5)), 3, 2), (Target::at(TxId::new(1)), 1, 1)]
    {
        let found = recover(&machine(), &history, &OneFile, &RecoveryRequest::full(target.clone(), OUTPUT));
        let stats = found.unwrap().stats;
        assert_eq!((stats.applied, stats.skipped), (applied, skipped), "{target}");
    }
}

#[test]
fn an_unreachable_target_is_replaced_only_if_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = small_objects(dir.path(), 2, 1);
    world.live(40);
    let history = history(&world.archive);
    let after = Target::at(RecoveryTarget::Timestamp(Timestamp::MAX));
    let request = RecoveryRequest::full(after, OUTPUT);
    let refused = recover(&machine(), &history, &OneFile, &request);
    assert!(matches!(refused, Err(Error::TargetUnreachable(_))));
    let request = RecoveryRequest { or_before: true, ..request };
    let done = recover(&machine(), &history, &OneFile, &request).unwrap();
    assert_eq!(done.stats.reached.tx, world.states.last().unwrap().tx);
    assert!(done.instead.is_some());
}

#[test]
fn rates_that_another_restore_added_meanwhile_are_kept() {
    let hides = Arc::new(AtomicBool::new(false));
    let hidden = Arc::clone(&hides);
    let store = TestStore::memory().answering(move |request| match request {
        Request::List(_) if hidden.swap(false, Ordering::Relaxed) => Answer::ListWithout(0),
        _ => Answer::Serve,
    });
    let objects = Objects::with_store(Arc::new(store)).unwrap();
    let record = |rate| {
        let rate = Rate::per_second(rate);
        Rates { base: rate, log: rate, logical: None, finish: rate }.record(&objects).unwrap();
    };
    record(10);
    hides.store(true, Ordering::Relaxed);
    record(20);
    assert_eq!(objects.list("rates").unwrap().len(), 2);
}

#[test]
fn an_objective_that_cannot_be_met_is_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = small_objects(dir.path(), 3, 1);
    world.live(80);
    let history = history(&world.archive);
    let rates = |rate: u64| {
        let rate = Rate::per_second(rate);
        Rates { base: rate, log: rate, logical: None, finish: rate }
    };
    let request =
        RecoveryRequest { rto: Some(Rto::FIVE_MINUTES), ..RecoveryRequest::full(Target::latest(), OUTPUT) };
    // Bytes per second.
    rates(10).record(world.archive.objects()).unwrap();
    let fs = machine();
    match recover(&fs, &history, &OneFile, &request) {
        Err(error @ Error::RtoExceeded { .. }) => {
            let text = error.to_string();
            assert!(text.contains("more than the RTO of 300.0 s"), "{text}");
            let Error::RtoExceeded { expected, actual, estimate: Some(estimate) } = error else {
                panic!("{text}")
            };
            assert!(expected == Rto::FIVE_MINUTES && actual > expected.get() && !estimate.is_guess);
            assert_eq!(actual, estimate.total());
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(names(&fs), [""; 0]);
    // The newest measurement counts.
    rates(1 << 30).record(world.archive.objects()).unwrap();
    let done = recover(&fs, &history, &OneFile, &request).unwrap();
    assert_eq!(names(&fs), ["out.db"]);
    done.stats.within(Rto::FIVE_MINUTES).unwrap();
    let mut late = done.stats;
    late.phases.log = Duration::from_secs(301);
    assert!(matches!(
        late.within(Rto::FIVE_MINUTES),
        Err(Error::RtoExceeded { actual, estimate: None, .. }) if actual >= late.phases.log
    ));
}

/// Like [`OneFile`], with a check that has an answer ready.
#[derive(Debug)]
struct Checked {
    answer: Result<usize, ()>,
    /// The first bytes of the file at the time of the check.
    seen: Mutex<Vec<u8>>,
}

impl RestoreTarget for Checked {
    fn lay_out(&self, state: &RestoreState<'_>) -> Result<Layout, Error> {
        state.single_file()
    }

    fn mark(&self) -> Option<&'static [u8]> {
        OneFile.mark()
    }

    fn consistency(&self) -> Option<&dyn ConsistencyCheck> {
        Some(self)
    }
}

impl ConsistencyCheck for Checked {
    fn check(&self, result: &Unfinished<'_>) -> Result<Vec<Finding>, Error> {
        let file = result.fs.open(result.path, Access::Read).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        *self.seen.lock().unwrap() = bytes;
        match self.answer {
            Ok(findings) => Ok((0..findings).map(|no| Finding::new(format!("fault {no}"))).collect()),
            Err(()) => Err(Error::engine(Severity::Fix, "it can't be checked")),
        }
    }
}

#[test]
fn a_result_is_published_only_if_the_engine_finds_it_consistent() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = small_objects(dir.path(), 4, 1);
    world.live(60);
    let expected = world.states.last().unwrap().files[&FileId::FIRST].clone();
    let history = history(&world.archive);
    let mut request = RecoveryRequest::full(Target::latest(), OUTPUT);
    request.options.check = true;
    for (answer, is_published) in [(Ok(0), true), (Ok(5), false), (Err(()), false)] {
        let (fs, target) = (machine(), Checked { answer, seen: Mutex::default() });
        let done = recover(&fs, &history, &target, &request);
        assert!(*target.seen.lock().unwrap() == expected, "the check sees the whole file");
        assert_eq!(done.is_ok(), is_published);
        match (answer, done) {
            (Ok(0), _) => assert_eq!(read(&fs, OUTPUT), expected),
            (Ok(_), Err(error @ Error::Inconsistent { .. })) => {
                assert_eq!(error.severity(), Severity::Fatal);
                let text = error.to_string();
                assert!(text.ends_with("fault 0; fault 1; fault 2; and 2 more"), "{text}");
                assert_eq!(names(&fs), [""; 0]);
            }
            (_, done) => {
                assert!(matches!(done, Err(Error::Engine { .. })), "{done:?}");
                assert_eq!(names(&fs), [""; 0]);
            }
        }
    }
    // Without the option it is not asked.
    let (fs, target) = (machine(), Checked { answer: Ok(5), seen: Mutex::default() });
    recover(&fs, &history, &target, &RecoveryRequest::full(Target::latest(), OUTPUT)).unwrap();
    assert!(target.seen.lock().unwrap().is_empty());
    // An engine without a check is refused before anything is written.
    let refused = recover(&machine(), &history, &OneFile, &request);
    assert!(matches!(refused, Err(Error::NoCheck)), "{refused:?}");
}

#[test]
fn the_mark_is_back_before_an_inconsistent_result_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = small_objects(dir.path(), 4, 1);
    world.live(60);
    let history = history(&world.archive);
    let (fs, target) = (machine(), Checked { answer: Ok(1), seen: Mutex::default() });
    let mut request = RecoveryRequest::full(Target::latest(), OUTPUT);
    request.options.check = true;
    recover(&fs, &history, &target, &request).unwrap_err();
    // The process is killed just before the removal.
    let (trace, partial) = (fs.trace(), Path::new("/out/out.db.pitr-partial"));
    let removed = |op: &Op| matches!(op, Op::Remove { path } if path == partial);
    let cut = trace.ops.iter().position(removed).unwrap();
    let left = read(&SimFs::after_kill(&trace, cut), partial);
    assert!(left.starts_with(OneFile.mark().unwrap()));
}

/// An engine of several files; a table is a file with a number.
#[derive(Debug)]
struct Numbered;

impl RestoreTarget for Numbered {
    fn lay_out(&self, state: &RestoreState<'_>) -> Result<Layout, Error> {
        let files = state.files().into_iter().map(|file| FilePlace::new(file, file.get().to_string()));
        Ok(Layout::Folder(FolderLayout { folders: Vec::new(), files: files.collect() }))
    }

    fn files_of(&self, tables: &[String], state: &RestoreState<'_>) -> Result<Vec<FileId>, Error> {
        let find = |table: &String| {
            let file = state.files().into_iter().find(|file| file.get().to_string() == *table);
            file.ok_or_else(|| Error::NoSuchTable { table: table.clone() })
        };
        tables.iter().map(find).collect()
    }
}

struct Files(Vec<(FileId, Vec<u8>)>);

impl BlockSource for Files {
    fn files(&self) -> Vec<FileShape> {
        let shape = |(file, bytes): &(FileId, Vec<u8>)| FileShape {
            file: *file,
            name: file.get().to_string(),
            len: bytes.len() as u64,
            block_bytes: crate::world::BLOCK as u32,
        };
        self.0.iter().map(shape).collect()
    }

    fn read_at(&self, file: FileId, offset: u64, buf: &mut [u8]) -> Result<(), BoxError> {
        let (_, bytes) = self.0.iter().find(|(other, _)| *other == file).ok_or("no such file")?;
        buf.copy_from_slice(bytes.get(offset as usize..offset as usize + buf.len()).ok_or("past the end")?);
        Ok(())
    }
}

#[test]
fn only_the_files_of_the_named_tables_are_restored() {
    for seed in 0..6 {
        let dir = tempfile::tempdir().unwrap();
        let mut world = small_objects(dir.path(), seed, 3);
        world.live(200);
        if seed % 2 == 0 {
            let state = &world.states[world.states.len() / 2];
            let files = Files(state.files.iter().map(|(file, bytes)| (*file, bytes.clone())).collect());
            let chunks = ChunkStore::open(world.archive.objects().clone()).unwrap();
            let meta = meta(&world.archive, state.redo_from, state.lsn, state.time, state.tx);
            write_full(&chunks, &files, meta, None).unwrap().publish(&chunks).unwrap();
        }
        let history = history(&world.archive);
        let last = &world.states.last().unwrap().files;
        for wanted in [vec![1], vec![0, 2], vec![0, 1, 2], vec![]] {
            let fs = machine();
            let tables = wanted.iter().map(ToString::to_string).collect();
            let request = RecoveryRequest::partial(Target::latest(), tables, "/out/store");
            let done = recover(&fs, &history, &Numbered, &request).unwrap();
            let listed = fs.list(Path::new("/out/store")).unwrap();
            assert_eq!(listed.len(), wanted.len(), "seed {seed}: {listed:?}");
            assert_eq!(done.restored.unwrap().files, wanted.len() as u64);
            for number in &wanted {
                let bytes = read(&fs, format!("/out/store/{number}"));
                assert!(bytes == last[&FileId::new(*number)], "seed {seed}, file {number} of {wanted:?}");
            }
        }
        let request = RecoveryRequest::partial(Target::latest(), vec!["9".to_owned()], "/out/store");
        let fs = machine();
        let refused = recover(&fs, &history, &Numbered, &request);
        assert!(matches!(refused, Err(Error::NoSuchTable { .. })) && names(&fs).is_empty());
    }
}

#[test]
fn an_engine_of_one_file_refuses_single_tables() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = small_objects(dir.path(), 1, 1);
    world.live(20);
    let (history, fs) = (history(&world.archive), machine());
    let request = RecoveryRequest::partial(Target::latest(), vec!["t".to_owned()], OUTPUT);
    assert!(matches!(request.mode, RecoveryMode::Partial(_)));
    let refused = recover(&fs, &history, &OneFile, &request);
    assert!(matches!(refused, Err(Error::NoTables)) && names(&fs).is_empty());
}

#[test]
fn a_validation_of_a_history_from_a_snapshot_reads_only_the_log_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = small_objects(dir.path(), 9, 1);
    world.live(120);
    let state = world.states[world.states.len() - 3].clone();
    let meta = meta(&world.archive, state.redo_from, state.lsn, state.time, state.tx);
    crate::lab::take(&world.archive, crate::lab::bytes(&state), meta);
    let history = history(&world.archive);
    let plan = history.plan_for(&Target::latest()).unwrap();
    // The index of an object tells how the records of the next one begin. Objects before the
    // snapshot are not needed.
    for object in log_objects(dir.path()) {
        let name = object.file_name().unwrap().to_str().unwrap();
        let (_, to) = name.split_once('-').unwrap();
        if u64::from_str_radix(to, 16).unwrap() <= state.redo_from.get() {
            std::fs::write(object, b"damaged").unwrap();
        }
    }
    let chunks = ChunkStore::open(world.archive.objects().clone()).unwrap();
    let stats = Restorer::new(&history, &chunks, &OneFile).validate(&plan, None).unwrap();
    assert!(stats.snapshot.is_some() && stats.applied >= 2);
}
