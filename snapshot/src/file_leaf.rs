//! The files of a snapshot with many files, in separate leaves. An increment shares unchanged
//! leaves with its parent.
//!
//! Layout: `'F' u8, version u8 (1), files varint`, then the files as in a root. A leaf holds the
//! files whose number / 64 is equal. The boundaries of a leaf therefore do not depend on other
//! files.

use crate::extent_leaf::LEAF_VERSION;
use crate::manifest::{FILE_BYTES_MIN, decode_files};
use crate::{Error, FileEntry, Result};
use pitr_dedup::{CHUNK_BYTES_MAX, ChunkId, ChunkStore, ChunkWriter};
use pitr_format::DecodeError;
use pitr_format::bytes::{Put, Reader};
use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

const TAG: u8 = b'F';
/// Maximum number of files in a leaf. A root with at most this many holds them itself.
const FILES_MAX: u32 = 64;

/// Stores the files of a snapshot in leaves, and returns their ids. Returns an empty list if the
/// root must hold the files itself, because they are few or because a leaf would be larger than a
/// chunk may be.
pub(crate) fn put(writer: &ChunkWriter, files: &[FileEntry]) -> Result<Vec<ChunkId>> {
    let leaf_of = |file: &FileEntry| file.shape.file.get() / FILES_MAX;
    let leaves = || files.chunk_by(|a, b| leaf_of(a) == leaf_of(b)).map(encode);
    if files.len() <= FILES_MAX as usize || leaves().any(|leaf| leaf.len() > CHUNK_BYTES_MAX) {
        return Ok(Vec::new());
    }
    leaves().map(|leaf| Ok(writer.put(&leaf)?)).collect()
}

fn encode(files: &[FileEntry]) -> Vec<u8> {
    let mut out = vec![TAG, LEAF_VERSION];
    out.put_varint(files.len() as u64);
    files.iter().for_each(|file| file.encode(&mut out));
    out
}

fn decode(bytes: &[u8]) -> Result<Vec<FileEntry>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let tag = reader.u8("leaf of files")?;
    if tag != TAG {
        return Err(DecodeError::Range { what: "leaf of files", value: u64::from(tag) });
    }
    let version = reader.u8("leaf version")?;
    if version != LEAF_VERSION {
        let (found, known) = (u32::from(version), u32::from(LEAF_VERSION));
        return Err(DecodeError::Version { what: "leaf of files", found, known });
    }
    let count = reader.count(FILE_BYTES_MIN, "files of a leaf")?;
    if count > FILES_MAX as usize {
        return Err(DecodeError::Range { what: "files of a leaf", value: count as u64 });
    }
    let mut files = Vec::with_capacity(count);
    decode_files(&mut reader, count, |file| files.push(file))?;
    reader.finish("leaf of files")?;
    Ok(files)
}

/// Reads the files of a leaf.
pub(crate) fn read(store: &ChunkStore, id: &ChunkId) -> Result<Vec<FileEntry>> {
    decode(&store.read(id)?).map_err(|source| Error::Leaf { id: *id, source })
}

/// Reads the files of all these leaves.
pub(crate) fn read_all(store: &ChunkStore, leaves: &[ChunkId]) -> Result<Vec<FileEntry>> {
    // Checked before any file is held in memory: a repeated leaf could take unlimited memory.
    let mut seen = HashSet::with_capacity(leaves.len());
    if let Some(again) = leaves.iter().find(|id| !seen.insert(*id)) {
        return Err(Error::Misused { id: *again, what: "a leaf of files occurs twice" });
    }
    let read = Mutex::new(vec![Vec::new(); leaves.len()]);
    store.read_each(leaves, |place, bytes| {
        let files = decode(&bytes).map_err(|source| Error::Leaf { id: leaves[place], source })?;
        read.lock().unwrap_or_else(PoisonError::into_inner)[place] = files;
        Ok::<_, Error>(())
    })?;
    let read = read.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut all: Vec<FileEntry> = Vec::with_capacity(read.iter().map(Vec::len).sum());
    for (id, files) in leaves.iter().zip(read) {
        let number = |file: Option<&FileEntry>| file.map(|file| file.shape.file);
        if number(all.last()) >= number(files.first()) {
            return Err(Error::Misused {
                id: *id,
                what: "its files do not follow those of the previous leaf",
            });
        }
        all.extend(files);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FileShape;
    use crate::manifest::Node;
    use pitr_codec::Codec;
    use pitr_format::FileId;
    use pitr_objects::Objects;
    use proptest::prelude::*;

    fn file(number: u32, name: String, len: u64) -> FileEntry {
        let shape = FileShape { file: FileId::new(number), name, len, block_bytes: 4096 };
        let nodes = vec![Node { extents: ChunkId::of(&number.to_le_bytes()), overlays: Vec::new() }];
        FileEntry { shape, nodes, cut: None }
    }

    fn files(numbers: impl IntoIterator<Item = u32>) -> Vec<FileEntry> {
        numbers.into_iter().map(|number| file(number, format!("f{number}"), 9)).collect()
    }

    fn store() -> ChunkStore {
        ChunkStore::open(Objects::memory().unwrap()).unwrap()
    }

    fn put_all(store: &ChunkStore, files: &[FileEntry]) -> Vec<ChunkId> {
        let writer = store.writer(Codec::None);
        let leaves = put(&writer, files).unwrap();
        writer.finish().unwrap();
        leaves
    }

    #[test]
    fn adding_a_file_changes_one_leaf() {
        let store = store();
        let mut many = files((0..1000).chain([u32::MAX]));
        let before = put_all(&store, &many);
        assert_eq!(before.len(), 17);
        assert_eq!(read_all(&store, &before).unwrap(), many);
        many.remove(100);
        let after = put_all(&store, &many);
        assert_eq!(read_all(&store, &after).unwrap(), many);
        let other = before.iter().zip(&after).filter(|(before, after)| before != after).count();
        assert_eq!((after.len(), other), (17, 1));
    }

    #[test]
    fn few_files_and_oversized_leaves_stay_in_the_root() {
        let store = store();
        assert_eq!(put_all(&store, &files(0..64)), []);
        let mut many = files(0..65);
        assert_eq!(put_all(&store, &many).len(), 2);
        many[3].nodes = vec![many[3].nodes[0].clone(); CHUNK_BYTES_MAX / 33 + 1];
        assert_eq!(put_all(&store, &many), []);
    }

    #[test]
    fn leaves_out_of_order_are_refused() {
        // FAILURES 29
        let store = store();
        let mut leaves = put_all(&store, &files(0..200));
        leaves.swap(0, 2);
        assert!(matches!(read_all(&store, &leaves), Err(Error::Misused { .. })));
        leaves.truncate(1);
        assert_eq!(read_all(&store, &[leaves[0], leaves[0]]).unwrap_err().kind(), crate::ErrorKind::Corrupt);
        let one = [&leaves[..], &[leaves[0]]].concat();
        assert!(matches!(read_all(&store, &one), Err(Error::Misused { what, .. }) if what.contains("twice")));
        assert!(decode(&encode(&files(0..64))).is_ok() && decode(&encode(&files(0..65))).is_err());
    }

    #[test]
    fn the_bytes_of_version_1_stay_as_they_are() {
        // docs/format/manifest.md. A change here is a change of the format.
        let leaf = encode(&files([7]));
        let node = [&[1][..], ChunkId::of(&7u32.to_le_bytes()).as_bytes(), &[0]].concat();
        assert_eq!(leaf, [&b"F\x01\x01\x07\x02f7\x09\x00\x10\x00\x00"[..], &node].concat());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, cut in 0..60usize) {
            // FAILURES 31
            let _ = decode(&bytes);
            let leaf = encode(&files([7, 9]));
            prop_assert!(decode(&leaf[..cut]).is_err());
            let _ = decode(&[&leaf[..cut], &bytes].concat());
        }
    }
}
