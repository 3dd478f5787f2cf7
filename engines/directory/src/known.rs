//! Which files of a folder may have changed since the parent snapshot.
//!
//! # What is trusted
//! A writer's ranges are trusted only for the files that they name, only if they begin at a
//! snapshot of the source, and only if the file is still the parent's (same inode). All other files
//! are compared as usual.

use crate::entry::{Entry, ReadState, What};
use pitr_engine::ChangedRanges;
use pitr_format::FileId;
use pitr_tracker::{BlockSize, ChangeSet};
use std::collections::{HashMap, HashSet};

/// Which files may differ from the parent snapshot, and where.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Files that have not changed.
    pub(crate) unchanged: HashSet<FileId>,
    /// Files whose changes are all in the set.
    pub(crate) listed: HashSet<FileId>,
    pub(crate) changes: ChangeSet,
    /// Named paths that were not found, or that belong to another file than in the parent.
    pub(crate) unmatched: usize,
}

impl Known {
    /// Uses a writer's ranges for each file that is still the same file as in the parent.
    pub(crate) fn trust(
        &mut self,
        ranges: &ChangedRanges,
        entries: &[Entry],
        before: &HashMap<Vec<u8>, Entry>,
    ) {
        let at: HashMap<&[u8], &Entry> = entries.iter().map(|entry| (&entry.path[..], entry)).collect();
        for (path, ranges) in ranges.files() {
            // A list may name a file by any of its hard links.
            let file = at.get(path).and_then(|entry| match &entry.what {
                What::HardLink(to) => at.get(&to[..]).copied(),
                _ => Some(*entry),
            });
            let Some(now) = file.filter(|file| is_same_file(file, before)).and_then(Entry::content) else {
                self.unmatched += 1;
                continue;
            };
            self.unchanged.remove(&now.file);
            self.listed.insert(now.file);
            let (mut ranges, block_bytes, mut done) =
                (ranges.to_vec(), u64::from(BlockSize::DEFAULT.bytes()), 0);
            ranges.sort_unstable_by_key(|range| range.start);
            for range in ranges {
                let end = range.end.min(now.len).div_ceil(block_bytes);
                let blocks = (range.start / block_bytes).max(done)..end;
                blocks.for_each(|block| self.changes.mark(now.file, BlockSize::DEFAULT, block));
                done = done.max(end);
            }
        }
    }

    /// The blocks of a file that may differ from the parent; `None` if they are unknown.
    pub(crate) fn changes(&self, file: FileId) -> Option<&ChangeSet> {
        (self.listed.contains(&file) || self.unchanged.contains(&file)).then_some(&self.changes)
    }
}

fn is_same_file(now: &Entry, before: &HashMap<Vec<u8>, Entry>) -> bool {
    let then = before.get(&now.path).and_then(Entry::content);
    now.content()
        .zip(then)
        .is_some_and(|(now, then)| now.inode == then.inode && then.state == ReadState::Whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Content, Time};
    use std::path::Path;

    const ID: &str = "00112233445566778899aabbccddeeff";

    #[test]
    fn ranges_are_trusted_for_files_that_the_parent_has_whole() {
        let entry = |inode, state| {
            let time = Time { seconds: 1, nanos: 0 };
            let (file, len) = (FileId::new(1), 10_000);
            let content = Content { file, len, inode, changed: time, holes: Vec::new(), state };
            let what = What::File(content);
            Entry { path: b"f".to_vec(), what, mode: 0o644, uid: 0, gid: 0, modified: time }
        };
        let known = |inode, state| {
            let before = [(b"f".to_vec(), entry(7, state))].into();
            let mut known = Known { unchanged: [FileId::new(1)].into(), ..Known::default() };
            let mut ranges = ChangedRanges::since(ID.parse().unwrap());
            ranges.add(Path::new("f"), 4095..u64::MAX);
            known.trust(&ranges, &[entry(inode, ReadState::Whole)], &before);
            known
        };
        let found = known(7, ReadState::Whole);
        assert!(found.listed.contains(&FileId::new(1)) && found.unchanged.is_empty() && found.unmatched == 0);
        let blocks = |found: &Known| {
            found.changes.blocks(FileId::new(1), BlockSize::DEFAULT, 1 << 20).collect::<Vec<_>>()
        };
        assert_eq!(blocks(&found), [0, 1, 2]);
        for (inode, state) in [(8, ReadState::Whole), (7, ReadState::Cut), (7, ReadState::Gone)] {
            let found = known(inode, state);
            assert!(found.listed.is_empty() && found.unmatched == 1 && blocks(&found).is_empty());
        }
    }
}
