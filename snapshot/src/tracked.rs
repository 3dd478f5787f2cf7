//! The delta that a tracker recorded: blocks read from the source itself, and nothing else of it.

use crate::{BlockSource, Delta, Error, FileShape, ImageSink, Result};
use pitr_format::FileId;
use pitr_tracker::{BlockSize, ChangeSet};
use rayon::prelude::*;
use std::ops::Range;

/// Blocks that are read at once, bytes.
const WAVE_BYTES: u64 = 16 << 20;
/// Most bytes of one reading.
const READ_BYTES: u64 = 1 << 20;

/// What changed since a parent, by a tracker's word: the set must hold every block that was written since the parent's
/// `consistent_at`, and may hold more. The time that it takes follows the number of changed blocks, not the length of the
/// files.
#[derive(Debug)]
pub struct Tracked<'a, S: ?Sized> {
    source: &'a S,
    changes: &'a ChangeSet,
}

impl<'a, S: BlockSource + ?Sized> Tracked<'a, S> {
    /// The delta of these changes of a source, which stands still while it is read.
    #[must_use]
    pub fn new(source: &'a S, changes: &'a ChangeSet) -> Self {
        Tracked { source, changes }
    }

    fn read(&self, shape: &FileShape, run: &Range<u64>) -> Result<Vec<u8>> {
        let block_bytes = u64::from(shape.block_bytes);
        let offset = run.start * block_bytes;
        let end = (run.end * block_bytes).min(shape.len);
        let mut bytes = vec![0; (end - offset) as usize]; // at most READ_BYTES
        let read = self.source.read_at(shape.file, offset, &mut bytes);
        read.map_err(|source| Error::Source { file: shape.file, offset, source })?;
        Ok(bytes)
    }
}

impl<S: BlockSource + ?Sized> Delta for Tracked<'_, S> {
    fn files(&self) -> Vec<FileShape> {
        self.source.files()
    }

    fn zeroed_from(&self, file: FileId) -> u64 {
        self.changes.changed_from(file).unwrap_or(u64::MAX)
    }

    fn for_each_image(&mut self, sink: ImageSink<'_>) -> Result<()> {
        for shape in self.source.files() {
            shape.check()?;
            let what = "its block size is none that a tracker knows";
            let size =
                BlockSize::new(shape.block_bytes).map_err(|_| Error::Shape { file: shape.file, what })?;
            let blocks = self.changes.blocks(shape.file, size, shape.len);
            let mut runs =
                Runs { blocks: blocks.peekable(), most: READ_BYTES / u64::from(shape.block_bytes) };
            loop {
                let wave = runs.take_up_to(WAVE_BYTES / u64::from(shape.block_bytes));
                if wave.is_empty() {
                    break;
                }
                let read: Vec<Result<Vec<u8>>> = wave.par_iter().map(|run| self.read(&shape, run)).collect();
                for (run, bytes) in wave.iter().zip(read) {
                    for (block, image) in run.clone().zip(bytes?.chunks(shape.block_bytes as usize)) {
                        sink(shape.file, block, image)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Neighbouring blocks together, up to a number.
struct Runs<I: Iterator<Item = u64>> {
    blocks: std::iter::Peekable<I>,
    most: u64,
}

impl<I: Iterator<Item = u64>> Runs<I> {
    fn take_up_to(&mut self, blocks: u64) -> Vec<Range<u64>> {
        let (mut runs, mut taken): (Vec<Range<u64>>, u64) = (Vec::new(), 0);
        while let Some(block) = self.blocks.next_if(|_| taken < blocks) {
            match runs.last_mut() {
                Some(run) if run.end == block && run.end - run.start < self.most => run.end += 1,
                _ => runs.push(block..block + 1),
            }
            taken += 1;
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_read_together_up_to_a_limit() {
        let blocks = [1, 2, 3, 5, 6, 7, 8, 20];
        let mut runs = Runs { blocks: blocks.into_iter().peekable(), most: 3 };
        assert_eq!(runs.take_up_to(6), [1..4, 5..8]);
        assert_eq!(runs.take_up_to(6), [8..9, 20..21]);
        assert!(runs.take_up_to(6).is_empty());
    }
}
