//! Taking a snapshot of a folder.

use crate::entry::{Entry, ReadState, Time, below};
use crate::scan::{TREE, scan};
use crate::source::{FolderSource, content};
use crate::{ENGINE, Error, Result, tree};
use pitr_archive::{Archive, Writer};
use pitr_codec::Codec;
use pitr_dedup::ChunkStore;
use pitr_format::{FileId, Lsn, SourceName, TimelineId, Timestamp, TxId};
use pitr_objects::Objects;
use pitr_snapshot::{Manifest, SnapshotMeta, SnapshotReader, load_all, write_full};
use pitr_vfs::Clock;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// A change within so long before a snapshot may have been followed by another one that bears the same time.
const RACY: i64 = 3;

/// How a snapshot is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BackupOptions {
    /// Read everything, and without regard to an earlier snapshot.
    pub full: bool,
    /// How chunks are compressed.
    pub codec: Codec,
}

/// A snapshot that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Its root.
    pub manifest: Manifest,
    /// Sockets, devices and pipes, and the repository if it lies in the folder: the snapshot doesn't have them.
    pub skipped: Vec<PathBuf>,
    /// Files that vanished while they were read: the snapshot doesn't have them.
    pub vanished: Vec<PathBuf>,
    /// Files that became shorter while they were read: what is missing are zeros.
    pub cut: Vec<PathBuf>,
}

/// Takes a snapshot of a folder: of what changed since the newest one of the source, if there is one.
///
/// # Errors
/// [`Error::NotAFolder`], [`Error::OtherEngine`], [`Error::Io`] about what can't be read; those of the repository.
pub fn backup(
    objects: &Objects,
    clock: &dyn Clock,
    name: &SourceName,
    folder: &Path,
    options: BackupOptions,
) -> Result<Taken> {
    let root = folder.canonicalize().map_err(Error::io("open", folder))?;
    let archive = Archive::new(objects.clone(), name.clone());
    // Its lease comes before the listing of parents.
    let store = ChunkStore::open(objects.clone())?;
    let roots = load_all(objects, name)?;
    let has_log = !archive.catalog()?.timelines().is_empty();
    if let Some(engine) = roots.of_other_engine(ENGINE).or(has_log.then_some("a database")) {
        return Err(Error::OtherEngine { name: name.to_string(), engine: engine.to_owned() });
    }
    // Who takes over a source has made sure that it is one of his.
    let writer = Writer::claim(&archive, clock.now())?;
    let parent = roots.manifests.into_iter().max_by_key(|root| root.meta.consistent_at);
    let before = Before::load(&store, parent.as_ref());
    let scanned = scan(&root, &before.numbers, objects.folder())?;
    let now = clock.now();
    let last = parent.as_ref().map(|parent| &parent.meta);
    let number = last.map_or(1, |last| last.consistent_at.get() + 1);
    let meta = SnapshotMeta {
        source: name.clone(),
        engine: ENGINE.to_owned(),
        timeline: TimelineId::FIRST,
        epoch: writer.epoch(),
        redo_from: Lsn::new(number),
        consistent_at: Lsn::new(number),
        time: last.map_or(now, |last| now.max(last.time)),
        tx: TxId::new(number),
        codec: options.codec,
        created: now,
    };
    let parent = parent.filter(|_| before.is_whole && !options.full);
    let unchanged = parent.as_ref().map_or_else(HashSet::new, |_| before.unchanged(&scanned.entries));
    let source = FolderSource::new(&root, scanned.entries, unchanged);
    let written = match write_full(&store, &source, meta.clone(), parent.as_ref()) {
        // A parent that can't be read costs space, not the snapshot.
        Err(pitr_snapshot::Error::Parent { .. }) => {
            let entries = source.into_entries();
            let source = FolderSource::new(&root, entries, HashSet::new());
            let written = write_full(&store, &source, meta, None);
            return finish(written?, &store, &writer, source, &root, scanned.skipped);
        }
        other => other?,
    };
    finish(written, &store, &writer, source, &root, scanned.skipped)
}

fn finish(
    written: Manifest,
    store: &ChunkStore,
    writer: &Writer,
    source: FolderSource,
    root: &Path,
    skipped: Vec<PathBuf>,
) -> Result<Taken> {
    writer.check()?;
    let manifest = written.publish(store)?;
    let entries = source.into_entries();
    let in_state = |state| {
        let found = entries.iter().filter(move |entry| content(entry).is_some_and(|c| c.state == state));
        found.map(|entry| below(root, &entry.path)).collect()
    };
    let (vanished, cut) = (in_state(ReadState::Gone), in_state(ReadState::Cut));
    Ok(Taken { manifest, skipped, vanished, cut })
}

/// What the parent knew.
#[derive(Default)]
struct Before {
    /// Its tree could be read.
    is_whole: bool,
    created: Timestamp,
    numbers: HashMap<Vec<u8>, FileId>,
    files: HashMap<Vec<u8>, Entry>,
}

impl Before {
    fn load(store: &ChunkStore, parent: Option<&Manifest>) -> Self {
        let Some(parent) = parent else { return Before::default() };
        // Without a tree the snapshot is a full one.
        let Ok(entries) = read_tree(&SnapshotReader::open(store.clone(), parent.clone())) else {
            return Before::default();
        };
        let mut before = Before { is_whole: true, created: parent.meta.created, ..Before::default() };
        for entry in entries {
            if let Some(content) = content(&entry) {
                before.numbers.insert(entry.path.clone(), content.file);
                before.files.insert(entry.path.clone(), entry);
            }
        }
        before
    }

    /// The files that are as they were.
    fn unchanged(&self, entries: &[Entry]) -> HashSet<FileId> {
        let same = |entry: &&Entry| {
            let (Some(now), Some(before)) = (content(entry), self.files.get(&entry.path)) else {
                return false;
            };
            let Some(then) = content(before) else { return false };
            let settled =
                Time { seconds: self.created.micros().div_euclid(1_000_000).saturating_sub(RACY), nanos: 0 };
            then.state == ReadState::Whole
                && (now.inode, now.len, now.changed) == (then.inode, then.len, then.changed)
                && entry.modified == before.modified
                && now.changed < settled
        };
        entries.iter().filter(same).filter_map(content).map(|content| content.file).collect()
    }
}

/// The entries of a snapshot.
pub(crate) fn read_tree(reader: &SnapshotReader) -> Result<Vec<Entry>> {
    // What it says of its length was checked: it has the chunks for it.
    let len = reader.file(TREE)?.len;
    let mut bytes = Vec::new();
    for extent in 0..reader.extents(TREE)? {
        bytes.extend_from_slice(&reader.read_extent(TREE, extent)?);
    }
    debug_assert_eq!(bytes.len() as u64, len);
    let bad = |source| Error::Tree { snapshot: reader.manifest().id.to_string(), source };
    tree::decode(&bytes).map_err(bad)
}
