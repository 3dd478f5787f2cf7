//! Reads scattered blocks.
//!
//! Such reads mostly wait for the disk, block after block, so several threads wait in parallel.
//! Each thread reads some blocks into one buffer before it sends them. Memory is a fixed number of
//! these buffers.

use crate::{BlockSource, Error, FileShape, Result};
use crossbeam_channel::bounded;
use pitr_vfs::{Buffers, Loan, Spawn};
use std::iter::Peekable;
use std::ops::Range;
use std::sync::Mutex;

/// Number of parallel requests; see `docs/choices.md`.
const READERS: usize = 32;
/// Number of bytes that a thread reads before it sends them.
const BATCH_BYTES: u64 = 256 << 10;
/// Number of batches that wait to be received.
const AHEAD: usize = 32;

/// Neighbouring blocks of a file, read with one request.
#[derive(Debug, PartialEq, Eq)]
struct Run<'a> {
    shape: &'a FileShape,
    blocks: Range<u64>,
}

impl Run<'_> {
    fn bytes(&self) -> Range<u64> {
        let block_bytes = u64::from(self.shape.block_bytes);
        self.blocks.start * block_bytes..(self.blocks.end * block_bytes).min(self.shape.len)
    }

    fn len(&self) -> usize {
        let bytes = self.bytes();
        (bytes.end - bytes.start) as usize // at most one batch
    }
}

/// Runs, and their bytes one after the other.
struct Batch<'a> {
    runs: Vec<Run<'a>>,
    bytes: Loan,
}

impl<'a> Batch<'a> {
    fn each_block(self, mut take: impl FnMut(&'a FileShape, u64, &[u8]) -> Result<()>) -> Result<()> {
        let mut rest = &self.bytes[..];
        for run in self.runs {
            let of_run;
            (of_run, rest) = rest.split_at(run.len());
            for (block, image) in run.blocks.zip(of_run.chunks(run.shape.block_bytes as usize)) {
                take(run.shape, block, image)?;
            }
        }
        Ok(())
    }
}

/// Reads these blocks and passes them to `take`, nearly in their order. Each block must be within
/// its file. The last block of a file may be shorter.
pub(crate) fn each_block<'a, S: BlockSource + ?Sized>(
    spawn: Spawn,
    source: &S,
    blocks: impl Iterator<Item = (&'a FileShape, u64)> + Send,
    mut take: impl FnMut(&'a FileShape, u64, &[u8]) -> Result<()>,
) -> Result<()> {
    let mut blocks = blocks.peekable();
    if blocks.peek().is_none() {
        return Ok(()); // the usual case, which needs no threads
    }
    let buffers = Buffers::default();
    if spawn.is_inline() {
        loop {
            let runs = next_runs(&mut blocks);
            if runs.is_empty() {
                return Ok(());
            }
            read_runs(source, runs, &buffers)?.each_block(&mut take)?;
        }
    }
    let next = Mutex::new(blocks);
    let (read, batches) = bounded(AHEAD);
    std::thread::scope(|scope| {
        for _ in 0..READERS {
            let (next, buffers, read) = (&next, &buffers, read.clone());
            scope.spawn(move || {
                loop {
                    let runs = next.lock().map_or_else(|_| Vec::new(), |mut next| next_runs(&mut next));
                    if runs.is_empty() {
                        return;
                    }
                    let batch = read_runs(source, runs, buffers);
                    let has_failed = batch.is_err();
                    if read.send(batch).is_err() || has_failed {
                        return;
                    }
                }
            });
        }
        drop(read);
        // Dropped when this closure ends, which also ends the readers.
        for batch in batches {
            batch?.each_block(&mut take)?;
        }
        Ok(())
    })
}

/// The blocks of the next batch; none at the end.
fn next_runs<'a>(blocks: &mut Peekable<impl Iterator<Item = (&'a FileShape, u64)>>) -> Vec<Run<'a>> {
    let (mut runs, mut taken): (Vec<Run<'_>>, u64) = (Vec::new(), 0);
    let fits =
        |taken: u64, shape: &FileShape| taken == 0 || taken + u64::from(shape.block_bytes) <= BATCH_BYTES;
    while let Some((shape, block)) = blocks.next_if(|(shape, _)| fits(taken, shape)) {
        taken += u64::from(shape.block_bytes);
        match runs.last_mut() {
            Some(run) if std::ptr::eq(run.shape, shape) && run.blocks.end == block => run.blocks.end += 1,
            _ => runs.push(Run { shape, blocks: block..block + 1 }),
        }
    }
    runs
}

fn read_runs<'a, S: BlockSource + ?Sized>(
    source: &S,
    runs: Vec<Run<'a>>,
    buffers: &Buffers,
) -> Result<Batch<'a>> {
    let mut bytes = buffers.lend(runs.iter().map(Run::len).sum());
    let mut rest = &mut bytes[..];
    for run in &runs {
        let of_run;
        (of_run, rest) = rest.split_at_mut(run.len());
        let (file, offset) = (run.shape.file, run.bytes().start);
        source.read_at(file, offset, of_run).map_err(|source| Error::Source { file, offset, source })?;
    }
    Ok(Batch { runs, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BoxError;
    use pitr_format::FileId;
    use std::collections::BTreeSet;

    /// Each 64 KiB block is filled with its number. A file ends within its last block. One block
    /// cannot be read.
    struct Numbered {
        shapes: Vec<FileShape>,
        broken: Option<u64>,
        requests: Mutex<Vec<(u64, usize)>>,
    }

    const BLOCK_BYTES: u64 = 64 << 10;

    fn numbered(broken: Option<u64>) -> Numbered {
        let shape = |file, blocks: u64| FileShape {
            file: FileId::new(file),
            name: file.to_string(),
            len: blocks * BLOCK_BYTES - 100,
            block_bytes: BLOCK_BYTES as u32,
        };
        Numbered { shapes: vec![shape(1, 200), shape(2, 10)], broken, requests: Mutex::default() }
    }

    impl BlockSource for Numbered {
        fn files(&self) -> Vec<FileShape> {
            self.shapes.clone()
        }

        fn read_at(&self, file: FileId, offset: u64, buf: &mut [u8]) -> Result<(), BoxError> {
            self.requests.lock().unwrap().push((offset / BLOCK_BYTES, buf.len()));
            for (block, bytes) in (offset / BLOCK_BYTES..).zip(buf.chunks_mut(BLOCK_BYTES as usize)) {
                if self.broken == Some(block) && file.get() == 1 {
                    return Err("broken".into());
                }
                bytes.fill(block as u8);
            }
            Ok(())
        }
    }

    /// Returns the blocks that were delivered.
    fn read(
        spawn: Spawn,
        source: &Numbered,
        wanted: &[(usize, u64)],
        refuses: Option<u64>,
    ) -> Result<BTreeSet<(u32, u64)>> {
        let mut taken = BTreeSet::new();
        let blocks = wanted.iter().map(|(file, block)| (&source.shapes[*file], *block));
        each_block(spawn, source, blocks, |shape, block, image| {
            if refuses == Some(block) {
                return Err(Error::Died);
            }
            assert!(image.iter().all(|byte| *byte == block as u8));
            assert_eq!(image.len() as u64, (shape.len - block * BLOCK_BYTES).min(BLOCK_BYTES));
            assert!(taken.insert((shape.file.get(), block)));
            Ok(())
        })?;
        Ok(taken)
    }

    #[test]
    fn each_block_is_delivered_once_and_nothing_else_is_read() {
        for spawn in [Spawn::Threads, Spawn::Inline] {
            check_delivery(spawn);
        }
    }

    fn check_delivery(spawn: Spawn) {
        let source = numbered(None);
        let wanted: Vec<(usize, u64)> = (0..200)
            .filter(|block| block % 3 > 0 || *block == 199)
            .map(|block| (0, block))
            .chain([(1, 0), (1, 9)])
            .collect();
        let found = read(spawn, &source, &wanted, None).unwrap();
        assert_eq!(found, wanted.iter().map(|(file, block)| (*file as u32 + 1, *block)).collect());
        let requests = source.requests.lock().unwrap();
        let bytes: usize = requests.iter().map(|(_, len)| len).sum();
        assert_eq!(bytes as u64, wanted.len() as u64 * BLOCK_BYTES - 200);
        assert!(read(spawn, &source, &[], None).unwrap().is_empty());
    }

    #[test]
    fn neighbours_are_read_together_up_to_a_limit() {
        let source = numbered(None);
        let shapes = &source.shapes;
        let blocks = [(0, 1), (0, 2), (0, 5), (0, 6), (0, 7), (1, 8), (1, 9)];
        let mut blocks = blocks.into_iter().map(|(file, block)| (&shapes[file], block)).peekable();
        let run = |file: usize, blocks| Run { shape: &shapes[file], blocks };
        assert_eq!(next_runs(&mut blocks), [run(0, 1..3), run(0, 5..7)]);
        assert_eq!(next_runs(&mut blocks), [run(0, 7..8), run(1, 8..10)]);
        assert!(next_runs(&mut blocks).is_empty());
    }

    #[test]
    fn any_failure_ends_the_reads() {
        let wanted: Vec<_> = (0..200).map(|block| (0, block)).collect();
        let both = [Spawn::Threads, Spawn::Inline];
        for (at, spawn) in [0, 77, 199].into_iter().flat_map(|at| both.map(|spawn| (at, spawn))) {
            assert!(matches!(read(spawn, &numbered(None), &wanted, Some(at)), Err(Error::Died)));
            let failed = read(spawn, &numbered(Some(at)), &wanted, None);
            assert!(
                matches!(failed, Err(Error::Source { offset, .. }) if offset / BLOCK_BYTES / 4 == at / 4)
            );
        }
    }
}
