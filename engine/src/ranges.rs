//! Changed ranges: what the writer of a source knows about its changes since a snapshot.
//!
//! Of the files that the ranges name, nothing else is read. The text form, for programs that track
//! changes themselves, is `docs/format/changed-ranges.md`.

use pitr_snapshot::SnapshotId;
use std::collections::BTreeMap;
use std::io::{self, BufRead, Read as _};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use thiserror::Error;

/// The first line of a list.
const HEAD: &[u8] = b"pitr changed ranges 1";
/// Longest line that is read, bytes: two numbers and the longest path that Linux knows.
const LINE_BYTES_MAX: u64 = 50 + 4096;

/// The ranges of files that were written since a snapshot was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedRanges {
    since: SnapshotId,
    /// Ranges of each file, by path below the folder.
    files: BTreeMap<Vec<u8>, Vec<Range<u64>>>,
}

/// Why a list of changed ranges can't be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ListError {
    /// The list itself.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A line that is not part of a list.
    #[error("line {line}: {what}")]
    Line {
        /// Counted from 1.
        line: u64,
        /// What the line should contain.
        what: &'static str,
    },
}

impl ChangedRanges {
    /// No changes yet since the beginning of that snapshot.
    #[must_use]
    pub fn since(snapshot: SnapshotId) -> Self {
        ChangedRanges { since: snapshot, files: BTreeMap::new() }
    }

    /// Adds bytes of a file that were written, cut off, or both. An empty range names the file
    /// without a change. The path is relative to the folder and contains no symbolic link.
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

    /// The snapshot at which the ranges begin.
    #[must_use]
    pub fn snapshot(&self) -> SnapshotId {
        self.since
    }

    /// The ranges of each file, in bytes, by its path below the folder. They come in the order in
    /// which they were added.
    pub fn files(&self) -> impl Iterator<Item = (&[u8], &[Range<u64>])> {
        self.files.iter().map(|(path, ranges)| (&path[..], &ranges[..]))
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "00112233445566778899aabbccddeeff";

    fn list(lines: &str) -> Result<ChangedRanges, ListError> {
        ChangedRanges::read(format!("pitr changed ranges 1\nsince {ID}\n{lines}").as_bytes())
    }

    #[test]
    fn a_list_has_the_ranges_that_were_written() {
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
    fn a_line_that_is_not_part_of_a_list_is_refused_with_its_number() {
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

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in prop::collection::vec(any::<u8>(), 0..200), head in any::<bool>()) {
            let head = if head { format!("pitr changed ranges 1\nsince {ID}\n") } else { String::new() };
            drop(ChangedRanges::read(&[head.as_bytes(), &text].concat()[..]));
        }
    }
}
