//! A storage engine with two files, from its log to a restored folder.
//!
//! A diary keeps texts in `pages`, in blocks of 4096 bytes, and their titles in `titles`, in blocks
//! of 512 bytes. An entry changes both files in one transaction.

use pitr_archive::{Archive, ShipOptions, Shipper};
use pitr_dedup::ChunkStore;
use pitr_engine::{Engine, Registry};
use pitr_format::record::Record;
use pitr_format::{FileId, PartitionId, SourceName, TxId};
use pitr_objects::Objects;
use pitr_recovery::{
    FilePlace, FolderLayout, History, Layout, RestoreOptions, RestoreState, RestoreTarget, Restorer, Target,
};
use pitr_snapshot::{BlockSource, BoxError, FileShape, SnapshotMeta, write_full};
use pitr_wal::{BatchBuilder, Committed, Wal};
use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// The two files: number, name, bytes of a block.
const FILES: [(FileId, &str, usize); 2] = [(FileId::new(1), "pages", 4096), (FileId::new(2), "titles", 512)];

/// What the rest of pitr must know of diaries.
#[derive(Debug)]
struct DiaryEngine;

impl Engine for DiaryEngine {
    fn name(&self) -> &'static str {
        "diary"
    }

    fn detect(&self, path: &Path) -> bool {
        FILES.iter().all(|(_, name, _)| path.join(name).is_file())
    }

    fn restore_target(&self) -> Option<&dyn RestoreTarget> {
        Some(self)
    }
}

impl RestoreTarget for DiaryEngine {
    /// A diary is a folder with both files.
    fn lay_out(&self, _state: &RestoreState<'_>) -> pitr_recovery::Result<Layout> {
        let files = FILES.iter().map(|(file, name, _)| FilePlace::new(*file, *name)).collect();
        Ok(Layout::Folder(FolderLayout { folders: Vec::new(), files }))
    }
}

/// A running diary.
struct Diary {
    wal: Wal,
    /// The contents of both files.
    contents: [Vec<u8>; 2],
}

impl Diary {
    /// Adds an entry. Durable on return.
    fn write(&mut self, title: &str, text: &str) -> Result<Committed, Box<dyn Error>> {
        let block = self.contents[0].len() as u64 / 4096;
        let (tx, mut batch) = (TxId::new(block + 1), BatchBuilder::new());
        for (((file, _, block_bytes), content), text) in
            FILES.iter().zip(&mut self.contents).zip([text, title])
        {
            let begin = content.len();
            content.extend_from_slice(text.as_bytes());
            content.resize(begin + block_bytes, 0);
            let data = &content[begin..];
            batch.push(PartitionId::FIRST, tx, &Record::Image { file: *file, block, data })?;
        }
        batch.push_commit(PartitionId::FIRST, tx, None, None, b"")?;
        Ok(self.wal.commit(batch)?.commits[0])
    }
}

/// A snapshot reads both files.
impl BlockSource for Diary {
    fn files(&self) -> Vec<FileShape> {
        let shape = |((file, name, block_bytes), content): (&(FileId, &str, usize), &Vec<u8>)| {
            let (len, block_bytes) = (content.len() as u64, *block_bytes as u32);
            FileShape { file: *file, name: (*name).to_owned(), len, block_bytes }
        };
        FILES.iter().zip(&self.contents).map(shape).collect()
    }

    fn read_at(&self, file: FileId, offset: u64, buf: &mut [u8]) -> Result<(), BoxError> {
        let number = FILES.iter().position(|(id, ..)| *id == file).ok_or("a diary has two files")?;
        let begin = offset as usize;
        buf.copy_from_slice(self.contents[number].get(begin..begin + buf.len()).ok_or("past the end")?);
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let objects = Objects::create_local(dir.path().join("repo"))?;
    let clock = &objects.env().clock;
    objects.init_repository(clock.now())?;
    let name = SourceName::new("diary")?;
    let registry = Registry::new(Arc::new(DiaryEngine));

    // The engine logs, and ships its log.
    let wal = Wal::open_or_create(dir.path().join("log"))?;
    let archive = Archive::new(objects.clone(), name.clone());
    let mut shipper = Shipper::claim(&archive, &wal, ShipOptions::default())?;
    let mut diary = Diary { wal, contents: [Vec::new(), Vec::new()] };
    diary.write("Monday", "It rained.")?;
    let tuesday = diary.write("Tuesday", "It rained again.")?;

    // A snapshot of the state after that commit: a restore of later states begins from it.
    let chunks = ChunkStore::open(objects.clone())?;
    let meta = SnapshotMeta {
        redo_from: tuesday.lsn,
        consistent_at: tuesday.lsn,
        tx: tuesday.tx,
        time: tuesday.time,
        ..SnapshotMeta::new(name.clone(), registry.default_engine()?.name(), 1, clock.now())
    };
    write_full(&chunks, &diary, meta, None)?.publish(&chunks)?;
    let wednesday = diary.write("Wednesday", "The sun came out.")?;
    shipper.ship(&diary.wal)?;

    // A restore asks the registry for the engine that a snapshot names.
    let history = History::load(&objects, &name, None)?;
    let engine = &history.snapshots().first().ok_or("a snapshot was published")?.meta.engine;
    let target = registry.named(engine)?.need_restore_target()?;
    for (output, tx) in [("monday", TxId::new(1)), ("wednesday", wednesday.tx)] {
        let plan = history.plan_for(&Target::at(tx))?;
        let base = plan.snapshot.map_or("the empty state".to_owned(), |id| format!("snapshot {id}"));
        let output = dir.path().join(output);
        let restored =
            Restorer::new(&history, &chunks, target).restore(&plan, &RestoreOptions::to(&output))?;
        println!(
            "restored {}, from {base} and {} images of the log",
            restored.reached(),
            restored.stats.records
        );
        let (titles, pages) = (fs::read(output.join("titles"))?, fs::read(output.join("pages"))?);
        for (title, text) in titles.chunks(512).zip(pages.chunks(4096)) {
            println!("  {}: {}", read(title), read(text));
        }
        if output.ends_with("wednesday") && (pages, titles) != diary.contents.clone().into() {
            return Err("the restored diary is not the running one".into());
        }
    }
    Ok(())
}

fn read(block: &[u8]) -> String {
    String::from_utf8_lossy(block).trim_end_matches('\0').to_owned()
}
