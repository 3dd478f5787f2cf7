//! Taking a snapshot of a folder.

use crate::entry::{Entry, ReadState, Time, What, below};
use crate::known::Known;
use crate::scan::scan;
use crate::source::FolderSource;
use crate::tree::{self, TREE_BYTES_MAX, Tree};
use crate::{ENGINE, Error, Result};
use pitr_archive::{Archive, Writer};
use pitr_codec::Codec;
use pitr_dedup::ChunkStore;
use pitr_engine::{RangesUse, TakeOptions, Taken};
use pitr_format::{FileId, Lsn, SourceName, TimelineId, Timestamp, TxId};
use pitr_objects::Objects;
use pitr_snapshot::{Manifest, Snapshot, SnapshotMeta, SnapshotReader, list, newest, write_full};
use pitr_vfs::Clock;
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A file that changed less than this many seconds before a snapshot may change again without a new
/// time.
const RACY: i64 = 3;
/// Maximum number of entries of a folder. The root of a snapshot is one object, and a small file
/// takes 51 bytes in it.
const ENTRIES_MAX: usize = 300_000;

/// Takes a snapshot of a folder: of the changes since the newest snapshot of the source, or of
/// everything if there is none.
///
/// # Errors
/// [`Error::NotAFolder`]; [`Error::OtherEngine`]; [`Error::Io`] for a file that can't be read;
/// errors of the repository.
pub fn backup(
    objects: &Objects,
    clock: &dyn Clock,
    name: &SourceName,
    folder: &Path,
    options: TakeOptions,
) -> Result<Taken> {
    let root = folder.canonicalize().map_err(Error::io("open", folder))?;
    let archive = Archive::new(objects.clone(), name.clone());
    // The store's lease begins before parents are listed.
    let store = ChunkStore::open(objects.clone())?;
    let mut roots = list(objects, name)?;
    roots.sort_by_key(|root| root.consistent_at);
    let last = newest(objects, name, &roots, |_| true)?;
    refuse_other_engine(&archive, last.as_ref())?;
    let ranges = options.changed_ranges.as_ref().filter(|_| !options.full);
    // Changes since any snapshot of the source include the changes since its newest snapshot.
    let ranges_since = match ranges {
        Some(ranges) => {
            let may_be = roots.iter().filter(|root| root.id == ranges.snapshot().front());
            newest(objects, name, may_be, |root| root.id == ranges.snapshot())?.and(Some(ranges))
        }
        None => None,
    };
    let parent = readable_parent(&store, last.as_ref())?;
    let before = Before::load(&store, parent.as_ref());
    if before.is_whole && !options.moved && before.root != root.as_os_str().as_bytes() {
        let was = OsStr::from_bytes(&before.root).into();
        return Err(Error::OtherFolder { name: name.to_string(), was, path: root });
    }
    // Only after the checks above: claiming an epoch ends other writers of the source.
    let writer = Writer::claim(&archive, clock.now())?;
    let now = clock.now();
    let files = if options.full { &HashMap::new() } else { &before.files };
    let scanned = scan(&root, files, objects.folder())?;
    if scanned.entries.len() > ENTRIES_MAX {
        return Err(Error::TooMany);
    }
    // Never writes a tree that a reader would refuse.
    tree::check(&scanned.entries).map_err(|source| Error::Scanned { path: root.clone(), source })?;
    let meta = meta(&archive, &writer, last.as_ref(), options.codec, now);
    let parent = parent.filter(|_| before.is_whole && !options.full);
    let mut known = Known::default();
    if parent.is_some() {
        known.unchanged = before.unchanged(&scanned.entries);
        if let Some(ranges) = ranges_since {
            known.trust(ranges, &scanned.entries, &before.files);
        }
    }
    drop(before); // the tree may be large
    let mut used = match (ranges, ranges_since.and(parent.as_ref())) {
        (None, _) => RangesUse::NotGiven,
        (_, None) => RangesUse::Elsewhere,
        _ => RangesUse::Used { files: known.listed.len(), unmatched: known.unmatched },
    };
    let mut source = FolderSource::new(&root, scanned.entries, parent.as_ref(), known);
    if source.tree_len() > TREE_BYTES_MAX {
        return Err(Error::TooMany);
    }
    let written = match write_full(&store, &source, meta.clone(), parent.as_ref()) {
        Err(error @ pitr_snapshot::Error::Parent { .. }) => {
            warn_damaged(&error);
            source = FolderSource::new(&root, source.into_entries(), None, Known::default());
            used = ranges.map_or(RangesUse::NotGiven, |_| RangesUse::Elsewhere);
            write_full(&store, &source, meta, None)?
        }
        other => other?,
    };
    writer.check()?;
    let snapshot = written.publish(&store)?.snapshot;
    Ok(report(&root, snapshot, source, scanned.skipped, used))
}

/// Refuses a source that has a log, or snapshots of another engine.
fn refuse_other_engine(archive: &Archive, last: Option<&Snapshot>) -> Result<()> {
    let has_log = !archive.catalog()?.timelines().is_empty();
    let taker = last.map(|last| last.meta.engine.as_str()).filter(|taker| *taker != ENGINE);
    match taker.or(has_log.then_some("a database")) {
        Some(engine) => {
            let (name, engine) = (archive.source().to_string(), engine.to_owned());
            Err(Error::OtherEngine { name, engine })
        }
        None => Ok(()),
    }
}

/// The newest snapshot, as the parent. If it can't be read, the new snapshot takes more space but
/// does not fail.
fn readable_parent(store: &ChunkStore, last: Option<&Snapshot>) -> Result<Option<Manifest>> {
    match last.map(|last| last.as_parent(store)).transpose() {
        Err(error @ pitr_snapshot::Error::Parent { .. }) => {
            warn_damaged(&error);
            Ok(None)
        }
        other => Ok(other?),
    }
}

/// The description in the root of the new snapshot.
fn meta(
    archive: &Archive,
    writer: &Writer,
    last: Option<&Snapshot>,
    codec: Codec,
    now: Timestamp,
) -> SnapshotMeta {
    let last = last.map(|last| &last.meta);
    // Unique, even if another backup sees the same parent at the same time: no other writer has
    // this epoch.
    let number = last.map_or(1, |last| last.consistent_at.get() + 1).max(writer.epoch().get());
    SnapshotMeta {
        source: archive.source().clone(),
        engine: ENGINE.to_owned(),
        timeline: TimelineId::FIRST,
        epoch: writer.epoch(),
        redo_from: Lsn::new(number),
        consistent_at: Lsn::new(number),
        time: last.map_or(now, |last| now.max(last.time)),
        tx: TxId::new(number),
        codec,
        created: now,
        attributes: None,
    }
}

/// The snapshot, and the files that changed while they were read.
fn report(
    root: &Path,
    snapshot: Snapshot,
    source: FolderSource,
    skipped: Vec<PathBuf>,
    ranges: RangesUse,
) -> Taken {
    let changed = source.changed();
    let entries = source.into_entries();
    let in_state = |state| {
        let found = entries.iter().filter(move |entry| entry.content().is_some_and(|c| c.state == state));
        found.map(|entry| entry.path.clone()).collect::<Vec<_>>()
    };
    let (mut vanished, cut) = (in_state(ReadState::Gone), in_state(ReadState::Cut));
    let links = entries.iter().filter(|entry| match &entry.what {
        What::HardLink(to) => vanished.contains(to),
        _ => false,
    });
    let links: Vec<Vec<u8>> = links.map(|entry| entry.path.clone()).collect();
    vanished.extend(links);
    let paths = |found: Vec<Vec<u8>>| found.iter().map(|path| below(root, path)).collect();
    Taken { snapshot, skipped, vanished: paths(vanished), changed, cut: paths(cut), ranges }
}

/// Reports that the repository is damaged and the snapshot is therefore a full one (FAILURES 25).
fn warn_damaged(error: &dyn std::fmt::Display) {
    tracing::warn!("the previous snapshot can't be used, so all files are read: {error}; run `pitr verify`");
}

/// The entries of the folder in the parent.
#[derive(Default)]
struct Before {
    /// True if the tree of the parent could be read.
    is_whole: bool,
    root: Vec<u8>,
    created: Timestamp,
    files: HashMap<Vec<u8>, Entry>,
}

impl Before {
    fn load(store: &ChunkStore, parent: Option<&Manifest>) -> Self {
        let Some(parent) = parent else { return Before::default() };
        // Without the parent's tree, the snapshot is a full one.
        let tree = match Tree::read(&SnapshotReader::open(store.clone(), parent.clone())) {
            Ok(tree) => tree,
            Err(error) => {
                warn_damaged(&error);
                return Before::default();
            }
        };
        let created = parent.snapshot.meta.created;
        let mut before = Before { is_whole: true, created, root: tree.root, ..Before::default() };
        for entry in tree.entries {
            if entry.content().is_some() {
                before.files.insert(entry.path.clone(), entry);
            }
        }
        before
    }

    /// The unchanged files.
    fn unchanged(&self, entries: &[Entry]) -> HashSet<FileId> {
        let same = |entry: &&Entry| {
            let (Some(now), Some(before)) = (entry.content(), self.files.get(&entry.path)) else {
                return false;
            };
            let Some(then) = before.content() else { return false };
            let settled =
                Time { seconds: self.created.micros().div_euclid(1_000_000).saturating_sub(RACY), nanos: 0 };
            then.state == ReadState::Whole
                && (now.inode, now.len, now.changed) == (then.inode, then.len, then.changed)
                && entry.modified == before.modified
                && now.changed < settled
        };
        entries.iter().filter(same).filter_map(Entry::content).map(|content| content.file).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Content;

    fn entry(changed: i64, inode: u64, len: u64, modified: i64) -> Entry {
        let at = |seconds| Time { seconds, nanos: 5 };
        let file = FileId::new(1);
        let content =
            Content { file, len, inode, changed: at(changed), holes: Vec::new(), state: ReadState::Whole };
        let what = What::File(content);
        Entry { path: b"f".to_vec(), what, mode: 0o644, uid: 0, gid: 0, modified: at(modified) }
    }

    #[test]
    fn a_file_is_unchanged_if_inode_length_and_settled_times_match() {
        let before = |then: Entry| Before {
            is_whole: true,
            created: Timestamp::from_micros(1000 * 1_000_000),
            files: [(b"f".to_vec(), then)].into(),
            ..Before::default()
        };
        let is_same = |then: Entry, now: Entry| !before(then).unchanged(&[now]).is_empty();
        let then = || entry(996, 7, 10, 3);
        assert!(is_same(then(), then()));
        for other in [entry(995, 7, 10, 3), entry(996, 8, 10, 3), entry(996, 7, 11, 3), entry(996, 7, 10, 4)]
        {
            assert!(!is_same(then(), other));
        }
        // A file that changed shortly before the snapshot may change again without a new time.
        assert!(!is_same(entry(997, 7, 10, 3), entry(997, 7, 10, 3)));
        let mut cut = then();
        if let What::File(content) = &mut cut.what {
            content.state = ReadState::Cut;
        }
        assert!(!is_same(cut, then()));
    }
}
