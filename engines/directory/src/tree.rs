//! The tree: all entries of a folder as the bytes of one file of its snapshot.
//!
//! `'D' u8, version u8 (1)`, the folder's own path as a blob, `entries varint`, then for each
//! entry, with the folder itself first, and each folder before its content:
//!
//! ```text
//! kind u8        0 folder, 1 file, 2 symbolic link, 3 hard link
//! path blob      any bytes; relative, no part empty, `.` or `..`; empty for the folder itself
//! mode u32, uid u32, gid u32, modified i64 seconds and u32 nanoseconds
//! file:   state u8, number u32, length u64, inode u64, changed as modified, holes varint,
//!         each hole: gap varint, length varint
//! link:   target blob
//! ```
//! A read state has the same size in all cases: it may change after the length of the tree is
//! fixed.

use crate::entry::{Content, Entry, ReadState, TREE, Time, What};
use crate::{Error, Result};
use pitr_format::bytes::{Put, Reader};
use pitr_format::{DecodeError, FileId};
use pitr_snapshot::SnapshotReader;
use std::collections::HashSet;

const TAG: u8 = b'D';
const VERSION: u8 = 1;
const WHAT: &str = "tree of a folder";
/// Maximum length of a path or link, bytes: the limit of Linux.
const PATH_BYTES_MAX: usize = 4096;
/// Maximum size of a tree, bytes. It is held in memory.
pub(crate) const TREE_BYTES_MAX: u64 = 256 << 20;
/// Minimum size of an entry, bytes.
const ENTRY_BYTES_MIN: usize = 26;

/// A folder and everything in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Tree {
    /// Absolute path of the folder.
    pub(crate) root: Vec<u8>,
    pub(crate) entries: Vec<Entry>,
}

impl Tree {
    /// The tree of a snapshot.
    pub(crate) fn read(reader: &SnapshotReader) -> Result<Tree> {
        let len = reader.file(TREE)?.len;
        let bad = |source| Error::Tree { snapshot: reader.manifest().snapshot.id.to_string(), source };
        if len > TREE_BYTES_MAX {
            return Err(bad(DecodeError::Range { what: "length of a tree", value: len }));
        }
        let mut bytes = Vec::new();
        for extent in 0..reader.extents(TREE)? {
            bytes.extend_from_slice(&reader.read_extent(TREE, extent)?);
        }
        decode(&bytes).map_err(bad)
    }
}

pub(crate) fn encode(root: &[u8], entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::with_capacity(entries.len() * 100);
    out.put_u8(TAG);
    out.put_u8(VERSION);
    out.put_blob(root);
    out.put_varint(entries.len() as u64);
    for entry in entries {
        out.put_u8(match &entry.what {
            What::Folder => 0,
            What::File(_) => 1,
            What::Symlink(_) => 2,
            What::HardLink(_) => 3,
        });
        out.put_blob(&entry.path);
        out.put_u32(entry.mode);
        out.put_u32(entry.uid);
        out.put_u32(entry.gid);
        put_time(&mut out, entry.modified);
        match &entry.what {
            What::Folder => {}
            What::Symlink(target) | What::HardLink(target) => out.put_blob(target),
            What::File(content) => {
                out.put_u8(content.state as u8);
                out.put_u32(content.file.get());
                out.put_u64(content.len);
                out.put_u64(content.inode);
                put_time(&mut out, content.changed);
                out.put_varint(content.holes.len() as u64);
                let mut at = 0;
                for (from, to) in &content.holes {
                    out.put_varint(from - at);
                    out.put_varint(to - from);
                    at = *to;
                }
            }
        }
    }
    out
}

fn put_time(out: &mut Vec<u8>, time: Time) {
    out.put_i64(time.seconds);
    out.put_u32(time.nanos);
}

/// Reads a tree and checks it.
pub(crate) fn decode(bytes: &[u8]) -> Result<Tree, DecodeError> {
    let mut reader = Reader::new(bytes);
    let tag = reader.u8(WHAT)?;
    if tag != TAG {
        return Err(DecodeError::Magic { what: WHAT, found: tag.into() });
    }
    reader.check_version_u8(VERSION, WHAT)?;
    let root = reader.blob(PATH_BYTES_MAX, WHAT)?.to_vec();
    let count = reader.count(ENTRY_BYTES_MIN, WHAT)?;
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        entries.push(decode_entry(&mut reader)?);
    }
    reader.finish(WHAT)?;
    check(&entries)?;
    Ok(Tree { root, entries })
}

/// Checks that these entries can be created below a folder without leaving it: see [`Checked`].
pub(crate) fn check(entries: &[Entry]) -> Result<(), DecodeError> {
    let mut checked = Checked::default();
    entries.iter().try_for_each(|entry| checked.take(entry))
}

fn decode_entry(reader: &mut Reader<'_>) -> Result<Entry, DecodeError> {
    let kind = reader.u8(WHAT)?;
    let path = reader.blob(PATH_BYTES_MAX, WHAT)?.to_vec();
    let mode = reader.u32(WHAT)? & 0o7777;
    let (uid, gid) = (reader.u32(WHAT)?, reader.u32(WHAT)?);
    let modified = read_time(reader)?;
    let what = match kind {
        0 => What::Folder,
        1 => What::File(read_content(reader)?),
        2 => What::Symlink(reader.blob(PATH_BYTES_MAX, WHAT)?.to_vec()),
        3 => What::HardLink(reader.blob(PATH_BYTES_MAX, WHAT)?.to_vec()),
        other => return Err(DecodeError::Range { what: "kind of an entry", value: other.into() }),
    };
    Ok(Entry { path, what, mode, uid, gid, modified })
}

fn read_content(reader: &mut Reader<'_>) -> Result<Content, DecodeError> {
    let state = match reader.u8(WHAT)? {
        0 => ReadState::Whole,
        1 => ReadState::Gone,
        2 => ReadState::Cut,
        other => return Err(DecodeError::Range { what: "state of a file", value: other.into() }),
    };
    let file = FileId::new(reader.u32(WHAT)?);
    if file == TREE {
        return Err(DecodeError::Range { what: "number of a file", value: file.get().into() });
    }
    let len = reader.u64(WHAT)?;
    let inode = reader.u64(WHAT)?;
    let changed = read_time(reader)?;
    let count = reader.count(2, WHAT)?;
    let (mut holes, mut at) = (Vec::with_capacity(count), 0u64);
    for _ in 0..count {
        let from = at.saturating_add(reader.varint(WHAT)?);
        at = from.saturating_add(reader.varint(WHAT)?);
        if at > len {
            return Err(DecodeError::Range { what: "hole of a file", value: at });
        }
        holes.push((from, at));
    }
    Ok(Content { file, len, inode, changed, holes, state })
}

fn read_time(reader: &mut Reader<'_>) -> Result<Time, DecodeError> {
    let (seconds, nanos) = (reader.i64(WHAT)?, reader.u32(WHAT)?);
    if nanos >= 1_000_000_000 {
        return Err(DecodeError::Range { what: "nanoseconds", value: nanos.into() });
    }
    Ok(Time { seconds, nanos })
}

/// The entries of a tree so far. FAILURES 31: every entry is in a folder that the tree itself
/// creates before it, so no path goes through a symbolic link or out of the folder. No path and no
/// file occurs twice. A hard link refers to an earlier file.
#[derive(Default)]
struct Checked<'a> {
    folders: HashSet<&'a [u8]>,
    files: HashSet<&'a [u8]>,
    others: HashSet<&'a [u8]>,
    numbers: HashSet<FileId>,
}

impl<'a> Checked<'a> {
    fn take(&mut self, entry: &'a Entry) -> Result<(), DecodeError> {
        let wrong = |what| DecodeError::Range { what, value: 0 };
        let path = &entry.path[..];
        if self.folders.is_empty() {
            let is_top = path.is_empty() && entry.what == What::Folder;
            self.folders.insert(&[]);
            return if is_top { Ok(()) } else { Err(wrong("first entry, which is not the folder")) };
        }
        let (folder, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(0) => return Err(wrong("path of an entry, which is not relative")),
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&path[..0], path),
        };
        if matches!(name, b"" | b"." | b"..") || name.contains(&0) {
            return Err(wrong("name of an entry"));
        }
        if !self.folders.contains(folder) {
            return Err(wrong("path of an entry, whose folder does not come before it"));
        }
        if [&self.folders, &self.files, &self.others].iter().any(|seen| seen.contains(path)) {
            return Err(wrong("path of an entry, which comes twice"));
        }
        match &entry.what {
            What::Folder => drop(self.folders.insert(path)),
            What::File(content) => {
                if !self.numbers.insert(content.file) {
                    return Err(wrong("number of a file, which comes twice"));
                }
                self.files.insert(path);
            }
            What::HardLink(target) if !self.files.contains(&target[..]) => {
                return Err(wrong("hard link to what is no file before it"));
            }
            What::Symlink(target) if target.is_empty() || target.contains(&0) => {
                return Err(wrong("symbolic link"));
            }
            What::Symlink(_) | What::HardLink(_) => drop(self.others.insert(path)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn entry(path: &[u8], what: What) -> Entry {
        let modified = Time { seconds: -1, nanos: 999_999_999 };
        Entry { path: path.to_vec(), what, mode: 0o4755, uid: 1, gid: 2, modified }
    }

    fn file(number: u32) -> What {
        What::File(Content {
            file: FileId::new(number),
            len: 100,
            inode: 7,
            changed: Time { seconds: 5, nanos: 6 },
            holes: vec![(10, 20), (30, 100)],
            state: ReadState::Cut,
        })
    }

    fn tree(rest: Vec<Entry>) -> Result<Tree, DecodeError> {
        let entries: Vec<Entry> = std::iter::once(entry(b"", What::Folder)).chain(rest).collect();
        let again = decode(&encode(b"/r", &entries));
        again.inspect(|again| assert!(again.entries == entries && again.root == b"/r"))
    }

    #[test]
    fn trees_come_back() {
        tree(vec![
            entry(b"\xff\xfe", What::Folder),
            entry(b"\xff\xfe/\x01", file(1)),
            entry(b"link", What::Symlink(b"/etc/passwd".to_vec())),
            entry(b"other", What::HardLink(b"\xff\xfe/\x01".to_vec())),
        ])
        .unwrap();
    }

    #[test]
    fn no_path_leads_out() {
        // FAILURES 31
        for bad in [
            &b"../x"[..],
            b"/etc/passwd",
            b"/x",
            b"..",
            ".".as_bytes(),
            b"a//b",
            b"a/",
            b"a\0",
            b"none/x",
            b"",
        ] {
            assert!(tree(vec![entry(b"a", What::Folder), entry(bad, file(1))]).is_err(), "{bad:?}");
        }
        let through_a_link = vec![entry(b"l", What::Symlink(b"/etc".to_vec())), entry(b"l/passwd", file(1))];
        assert!(tree(through_a_link).is_err());
        assert!(tree(vec![entry(b"/d", What::Folder), entry(b"/d/x", file(1))]).is_err());
        let twice = vec![entry(b"l", What::Symlink(b"/etc".to_vec())), entry(b"l", What::Folder)];
        assert!(tree(twice).is_err());
        assert!(tree(vec![entry(b"h", What::HardLink(b"../../etc/passwd".to_vec()))]).is_err());
        assert!(tree(vec![entry(b"a", file(1)), entry(b"b", file(1))]).is_err());
        assert!(decode(&encode(b"", &[entry(b"a", file(1))])).is_err(), "without the folder itself");
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_error_or_a_value(mut bytes: Vec<u8>) {
            let _ = decode(&bytes);
            bytes.splice(0..0, [TAG, VERSION]);
            let _ = decode(&bytes);
        }

        #[test]
        fn damaged_trees_are_an_error_or_a_value(at: prop::sample::Index, byte: u8) {
            let mut bytes = encode(b"/r", &[entry(b"", What::Folder), entry(b"a", file(3)), entry(b"b", What::HardLink(b"a".to_vec()))]);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn the_bytes_of_version_1_stay_as_they_are() {
        // docs/format/directory.md; a change of this is a change of the format.
        let bytes = encode(b"/r", &[entry(b"", What::Folder), entry(b"a", file(3))]);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, GOLDEN);
    }

    const GOLDEN: &str = "4401022f7202\
        0000ed0900000100000002000000ffffffffffffffffffc99a3b\
        010161ed0900000100000002000000ffffffffffffffffffc99a3b\
        02030000006400000000000000070000000000000005000000000000000600000002\
        0a0a0a46";
}
