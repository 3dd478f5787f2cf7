//! One hash for each block of a state's files: what a restore must bring back.

use crate::Result;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;

pub(crate) const BLOCK_BYTES: usize = 4096;
/// Bytes of one read.
const READ_BYTES: usize = 1 << 20;
const BLOCKS_A_READ: usize = READ_BYTES / BLOCK_BYTES;
/// Frames of a mebibyte that the compression ratio is measured with, at most.
const FRAMES_MAX: u64 = 128;

/// The first half of a SHA-256.
type Hash = [u8; 16];

/// The blocks of all files of a state, by the files' names.
#[derive(Debug, Default)]
pub(crate) struct Blocks(BTreeMap<String, FileBlocks>);

#[derive(Debug)]
struct FileBlocks {
    len: u64,
    hashes: Vec<Hash>,
}

/// The kind of data that a state has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Content {
    /// Bytes divided by their size when mebibytes are compressed by zstd 3.
    pub(crate) ratio: f64,
    /// Share of the blocks that are zeros or equal to an earlier block.
    pub(crate) repeated: f64,
}

impl Blocks {
    /// Reads these files, at rest.
    pub(crate) fn of_files(files: &[PathBuf]) -> Result<Blocks> {
        let mut blocks = Blocks::default();
        for path in files {
            let file = File::open(path)?;
            let read = |from: u64, buf: &mut [u8]| file.read_exact_at(buf, from);
            blocks.add(&name(path), file.metadata()?.len(), read)?;
        }
        Ok(blocks)
    }

    /// Adds a file. `read` is called from several threads.
    pub(crate) fn add(
        &mut self,
        name: &str,
        len: u64,
        read: impl Fn(u64, &mut [u8]) -> std::io::Result<()> + Sync,
    ) -> Result<()> {
        let mut hashes = vec![Hash::default(); usize::try_from(len.div_ceil(BLOCK_BYTES as u64))?];
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let part = hashes.len().div_ceil(threads).next_multiple_of(BLOCKS_A_READ).max(1);
        let hash = |(nth, hashes): (usize, &mut [Hash])| -> std::io::Result<()> {
            let mut buf = vec![0; READ_BYTES];
            for (at, hashes) in hashes.chunks_mut(BLOCKS_A_READ).enumerate() {
                let from = ((nth * part + at * BLOCKS_A_READ) * BLOCK_BYTES) as u64;
                let buf = &mut buf[..(len - from).min(READ_BYTES as u64) as usize];
                read(from, buf)?;
                for (hash, block) in hashes.iter_mut().zip(buf.chunks(BLOCK_BYTES)) {
                    hash.copy_from_slice(&Sha256::digest(block)[..size_of::<Hash>()]);
                }
            }
            Ok(())
        };
        thread::scope(|scope| {
            let hash = &hash;
            let workers: Vec<_> =
                hashes.chunks_mut(part).enumerate().map(|part| scope.spawn(move || hash(part))).collect();
            workers
                .into_iter()
                .try_for_each(|worker| -> Result<()> { Ok(worker.join().map_err(|_| "a thread died")??) })
        })?;
        self.0.insert(name.to_owned(), FileBlocks { len, hashes });
        Ok(())
    }

    /// Length of all files, bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.values().map(|file| file.len).sum()
    }

    /// Number of blocks.
    pub(crate) fn count(&self) -> usize {
        self.0.values().map(|file| file.hashes.len()).sum()
    }

    /// The difference of `found` from this state: names, lengths and every block. `None` if there
    /// is none.
    pub(crate) fn difference(&self, found: &Blocks) -> Option<String> {
        let names = |blocks: &Blocks| blocks.0.keys().cloned().collect::<Vec<_>>();
        if names(self) != names(found) {
            return Some(format!("the files are {:?} and should be {:?}", names(found), names(self)));
        }
        self.difference_of_contents(found)
    }

    /// Like [`difference`](Self::difference), with other names, in the same order.
    pub(crate) fn difference_of_contents(&self, found: &Blocks) -> Option<String> {
        if self.0.len() != found.0.len() {
            return Some(format!("there are {} files and should be {}", found.0.len(), self.0.len()));
        }
        for ((name, wanted), found) in self.0.iter().zip(found.0.values()) {
            if found.len != wanted.len {
                return Some(format!("{name} has {} bytes and should have {}", found.len, wanted.len));
            }
            let pairs = wanted.hashes.iter().zip(&found.hashes).enumerate();
            let wrong: Vec<usize> = pairs.filter(|(_, (a, b))| a != b).map(|(block, _)| block).collect();
            if let Some(first) = wrong.first() {
                return Some(format!("{} blocks of {name} differ, the first is {first}", wrong.len()));
            }
        }
        None
    }

    /// Number of blocks that differ from `other` or that only one of the two has.
    pub(crate) fn changed_since(&self, other: &Blocks) -> u64 {
        let mut changed = 0;
        for (name, file) in &self.0 {
            let before = other.0.get(name).map_or(&[][..], |file| file.hashes.as_slice());
            let same = file.hashes.iter().zip(before).filter(|(a, b)| a == b).count();
            changed += (file.hashes.len().max(before.len()) - same) as u64;
        }
        changed
    }

    /// Share of the blocks that are zeros, or equal to an earlier one.
    fn repeated(&self) -> f64 {
        let zeros = &Sha256::digest([0; BLOCK_BYTES])[..size_of::<Hash>()];
        let mut all: Vec<&Hash> = self.0.values().flat_map(|file| &file.hashes).collect();
        let count = all.len();
        all.retain(|hash| hash.as_slice() != zeros);
        all.sort_unstable();
        all.dedup();
        (count - all.len()) as f64 / count.max(1) as f64
    }

    /// Measures the content. `files` are those of this state.
    pub(crate) fn content(&self, files: &[PathBuf]) -> Result<Content> {
        let bytes = self.bytes();
        let step = (bytes / FRAMES_MAX).max(READ_BYTES as u64);
        let (mut raw, mut packed, mut frame) = (0, 0, vec![0; READ_BYTES]);
        for path in files {
            let (file, mut at) = (File::open(path)?, 0);
            let len = file.metadata()?.len();
            while at < len {
                let frame = &mut frame[..(len - at).min(READ_BYTES as u64) as usize];
                file.read_exact_at(frame, at)?;
                raw += frame.len();
                packed += zstd::bulk::compress(frame, 3)?.len();
                at += step;
            }
        }
        Ok(Content { ratio: raw as f64 / packed.max(1) as f64, repeated: self.repeated() })
    }
}

/// The last part of a path.
fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(dir: &Path, content: &[(&str, Vec<u8>)]) -> (Blocks, Vec<PathBuf>) {
        let files: Vec<PathBuf> = content.iter().map(|(name, _)| dir.join(name)).collect();
        for (path, (_, bytes)) in files.iter().zip(content) {
            std::fs::write(path, bytes).unwrap();
        }
        (Blocks::of_files(&files).unwrap(), files)
    }

    #[test]
    fn every_difference_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..3_000_000u32).map(|at| (at / 4096) as u8 ^ (at % 251) as u8).collect();
        let (wanted, _) = of(dir.path(), &[("a", bytes.clone()), ("b", vec![])]);
        assert_eq!((wanted.count(), wanted.bytes()), (733, 3_000_000));
        assert_eq!(wanted.difference(&of(dir.path(), &[("a", bytes.clone()), ("b", vec![])]).0), None);
        for at in [0, 4095, 1 << 20, 2_999_999] {
            let mut other = bytes.clone();
            other[at] ^= 1;
            let other = of(dir.path(), &[("a", other), ("b", vec![])]).0;
            let found = wanted.difference(&other).unwrap();
            assert!(found.contains(&format!("the first is {}", at / 4096)), "{found}");
            assert_eq!(other.changed_since(&wanted), 1);
        }
        let shorter = of(dir.path(), &[("a", bytes[..2_999_999].to_vec()), ("b", vec![])]).0;
        assert!(wanted.difference(&shorter).unwrap().contains("2999999 bytes"));
        let other_files = of(dir.path(), &[("a", bytes), ("c", vec![])]).0;
        assert!(wanted.difference(&other_files).unwrap().contains("the files are"));
    }

    #[test]
    fn zeros_and_duplicates_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = vec![0; 8 * BLOCK_BYTES];
        bytes[..4 * BLOCK_BYTES].chunks_mut(BLOCK_BYTES).zip(1..).for_each(|(block, n)| block[0] = n / 2);
        // The first four begin with 0, 1, 1, 2.
        let (blocks, files) = of(dir.path(), &[("a", bytes)]);
        let content = blocks.content(&files).unwrap();
        assert!((content.repeated - 6.0 / 8.0).abs() < 1e-9, "{content:?}");
        assert!(content.ratio > 100.0);
    }
}
