//! What a writer knows of its changes: the ranges of each file that it wrote since a snapshot.
//!
//! Of the files that are named nothing else is read. The text form, for programs that track changes themselves, is
//! `docs/format/changed-ranges.md`.
//!
//! # What is relied on, and what is not
//! The writer's word is taken for the files that it names, and only if the snapshot that it begins at is one of the source's and
//! the file is the very one that the parent had (by inode). Files that are not named are looked at as ever.

use crate::entry::{Entry, ReadState, What};
use crate::source::{BLOCK_BYTES, content};
use pitr_format::FileId;
use pitr_snapshot::SnapshotId;
use pitr_tracker::{BlockSize, ChangeSet};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, BufRead, Read as _};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use thiserror::Error;

/// The first line of a list.
const HEAD: &[u8] = b"pitr changed ranges 1";
/// Longest line that is read: two numbers and the longest path that Linux knows, bytes.
const LINE_BYTES_MAX: u64 = 50 + 4096;

/// The ranges of files that were written since a snapshot was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedRanges {
    since: SnapshotId,
    /// By path below the folder.
    files: BTreeMap<Vec<u8>, Vec<Range<u64>>>,
}

/// Why a list of changed ranges can't be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ListError {
    /// The list itself.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A line is not what it should be.
    #[error("line {line}: {what}")]
    Line {
        /// Counted from 1.
        line: u64,
        /// What should stand there.
        what: &'static str,
    },
}

impl ChangedRanges {
    /// Nothing changed so far since that snapshot was begun.
    #[must_use]
    pub fn since(snapshot: SnapshotId) -> Self {
        ChangedRanges { since: snapshot, files: BTreeMap::new() }
    }

    /// Bytes of a file were written, cut off, or both. With an empty range the file is known, and nothing more of it changed. The path is
    /// the one below the folder, through no symbolic link.
    pub fn add(&mut self, path: &Path, bytes: Range<u64>) {
        self.push(path.as_os_str().as_bytes(), bytes);
    }

    fn push(&mut self, path: &[u8], bytes: Range<u64>) {
        let ranges = match self.files.get_mut(path) {
            Some(ranges) => ranges,
            None => self.files.entry(path.to_vec()).or_default(),
        };
        match ranges.last_mut() {
            Some(last) if last.end == bytes.start => last.end = bytes.end,
            _ if bytes.is_empty() => {}
            _ => ranges.push(bytes),
        }
    }

    /// Reads a list.
    ///
    /// # Errors
    /// [`ListError`] with the number of the line.
    pub fn read(mut text: impl BufRead) -> Result<Self, ListError> {
        let (mut number, mut line) = (0, Vec::new());
        let mut next = |line: &mut Vec<u8>| {
            line.clear();
            number += 1;
            (&mut text).take(LINE_BYTES_MAX + 1).read_until(b'\n', line)?;
            let is_there = !line.is_empty();
            match line.pop_if(|last| *last == b'\n') {
                None if is_there => Err(wrong(number, "the list ends within it, or it is too long")),
                _ => Ok(is_there.then_some(number)),
            }
        };
        let at = next(&mut line)?.unwrap_or(1);
        if line != HEAD {
            return Err(wrong(at, "a list begins with the line \"pitr changed ranges 1\""));
        }
        let at = next(&mut line)?.unwrap_or(2);
        let since = line.strip_prefix(b"since ").and_then(|id| str::from_utf8(id).ok());
        let since = since.and_then(|id| id.parse().ok());
        let since =
            since.ok_or(wrong(at, "\"since\" and the id of a snapshot, as backup and info print it"))?;
        let mut ranges = ChangedRanges::since(since);
        while let Some(at) = next(&mut line)? {
            let range = range(&line).ok_or(wrong(at, "a changed range is OFFSET LENGTH PATH"))?;
            ranges.push(range.1, range.0);
        }
        Ok(ranges)
    }

    pub(crate) fn snapshot(&self) -> SnapshotId {
        self.since
    }
}

fn wrong(line: u64, what: &'static str) -> ListError {
    ListError::Line { line, what }
}

/// Offset, length and path, with one space in between.
fn range(line: &[u8]) -> Option<(Range<u64>, &[u8])> {
    let mut parts = line.splitn(3, |byte| *byte == b' ');
    let mut number = || str::from_utf8(parts.next()?).ok()?.parse::<u64>().ok();
    let (offset, len) = (number()?, number()?);
    let path = parts.next().filter(|path| !path.is_empty())?;
    Some((offset..offset.checked_add(len)?, path))
}

/// What is known of the files of a folder.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// These are as they were.
    pub(crate) unchanged: HashSet<FileId>,
    /// Of these the set has what changed.
    pub(crate) told: HashSet<FileId>,
    pub(crate) changes: ChangeSet,
    /// Paths that were told of and not found, or of other files than the parent's.
    pub(crate) unmatched: usize,
}

impl Known {
    /// Takes a writer's word for what is still the file that the parent had.
    pub(crate) fn tell(
        &mut self,
        ranges: &ChangedRanges,
        entries: &[Entry],
        before: &HashMap<Vec<u8>, Entry>,
    ) {
        let at: HashMap<&[u8], &Entry> = entries.iter().map(|entry| (&entry.path[..], entry)).collect();
        for (path, ranges) in &ranges.files {
            // A file of several names is told of by any of them.
            let file = at.get(&path[..]).and_then(|entry| match &entry.what {
                What::HardLink(to) => at.get(&to[..]).copied(),
                _ => Some(*entry),
            });
            let Some(now) = file.filter(|file| is_same_file(file, before)).and_then(content) else {
                self.unmatched += 1;
                continue;
            };
            self.unchanged.remove(&now.file);
            self.told.insert(now.file);
            let (mut ranges, block_bytes, mut done) = (ranges.clone(), u64::from(BLOCK_BYTES), 0);
            ranges.sort_unstable_by_key(|range| range.start);
            for range in ranges {
                let end = range.end.min(now.len).div_ceil(block_bytes);
                let blocks = (range.start / block_bytes).max(done)..end;
                blocks.for_each(|block| self.changes.mark(now.file, BlockSize::DEFAULT, block));
                done = done.max(end);
            }
        }
    }

    /// What of a file may differ from the parent, if that is known.
    pub(crate) fn changes(&self, file: FileId) -> Option<&ChangeSet> {
        (self.told.contains(&file) || self.unchanged.contains(&file)).then_some(&self.changes)
    }
}

fn is_same_file(now: &Entry, before: &HashMap<Vec<u8>, Entry>) -> bool {
    let then = before.get(&now.path).and_then(content);
    content(now)
        .zip(then)
        .is_some_and(|(now, then)| now.inode == then.inode && then.state == ReadState::Whole)
}

const _: () = assert!(BLOCK_BYTES == BlockSize::DEFAULT.bytes());

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Content, Time};
    use proptest::prelude::*;

    const ID: &str = "00112233445566778899aabbccddeeff";

    fn list(lines: &str) -> Result<ChangedRanges, ListError> {
        ChangedRanges::read(format!("pitr changed ranges 1\nsince {ID}\n{lines}").as_bytes())
    }

    #[test]
    fn a_list_is_what_it_was_made_of() {
        let mut made = ChangedRanges::since(ID.parse().unwrap());
        made.add(Path::new("a b/c"), 0..10);
        made.add(Path::new("a b/c"), 10..4096);
        made.add(Path::new("a b/c"), 8192..8193);
        made.add(Path::new("known"), 0..0);
        assert_eq!(made.files[&b"a b/c"[..]], [0..4096, 8192..8193]);
        let read = list("0 10 a b/c\n10 4086 a b/c\n8192 1 a b/c\n0 0 known\n").unwrap();
        assert_eq!(read, made);
        assert_eq!(list("").unwrap().files.len(), 0);
    }

    #[test]
    fn what_is_no_list_is_refused_with_its_line() {
        let line = |text: &[u8]| match ChangedRanges::read(text) {
            Err(ListError::Line { line, .. }) => line,
            other => panic!("{other:?}"),
        };
        assert_eq!(line(b""), 1);
        assert_eq!(line(b"pitr changed ranges 2\n"), 1);
        assert_eq!(line(b"pitr changed ranges 1\n"), 2);
        assert_eq!(line(b"pitr changed ranges 1\nsince 0011\n"), 2);
        let head = format!("pitr changed ranges 1\nsince {ID}\n");
        let max = u64::MAX.to_string();
        for bad in
            ["x 1 a\n", "1 a\n", "1 1 \n", "1 1\n", "-1 1 a\n", &format!("{max} 1 a\n"), "1 1 cut off", "\n"]
        {
            assert_eq!(line(format!("{head}0 1 a\n{bad}").as_bytes()), 4, "{bad}");
        }
        let long = "x".repeat(LINE_BYTES_MAX as usize);
        assert_eq!(line(format!("{head}0 1 {long}\n").as_bytes()), 3);
    }

    #[test]
    fn a_word_is_taken_for_what_the_parent_has_whole() {
        let entry = |inode, state| {
            let time = Time { seconds: 1, nanos: 0 };
            let (file, len) = (FileId::new(1), 10_000);
            let content = Content { file, len, inode, changed: time, holes: Vec::new(), state };
            let what = What::File(content);
            Entry { path: b"f".to_vec(), what, mode: 0o644, uid: 0, gid: 0, modified: time }
        };
        let told = |inode, state| {
            let before = [(b"f".to_vec(), entry(7, state))].into();
            let mut known = Known { unchanged: [FileId::new(1)].into(), ..Known::default() };
            let mut ranges = ChangedRanges::since(ID.parse().unwrap());
            ranges.add(Path::new("f"), 4095..u64::MAX);
            known.tell(&ranges, &[entry(inode, ReadState::Whole)], &before);
            known
        };
        let known = told(7, ReadState::Whole);
        assert!(known.told.contains(&FileId::new(1)) && known.unchanged.is_empty() && known.unmatched == 0);
        let blocks = |known: &Known| {
            known.changes.blocks(FileId::new(1), BlockSize::DEFAULT, 1 << 20).collect::<Vec<_>>()
        };
        assert_eq!(blocks(&known), [0, 1, 2]);
        for (inode, state) in [(8, ReadState::Whole), (7, ReadState::Cut), (7, ReadState::Gone)] {
            let known = told(inode, state);
            assert!(known.told.is_empty() && known.unmatched == 1 && blocks(&known).is_empty());
        }
    }

    proptest! {
        #[test]
        fn whatever_stands_there_is_read_or_refused(text in prop::collection::vec(any::<u8>(), 0..200), head in any::<bool>()) {
            let head = if head { format!("pitr changed ranges 1\nsince {ID}\n") } else { String::new() };
            drop(ChangedRanges::read(&[head.as_bytes(), &text].concat()[..]));
        }
    }
}
