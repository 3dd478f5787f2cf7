//! The bytes that an increment writes besides the changed blocks: leaves, footers, an index and a
//! root.

use crate::made::{BLOCK, MB, Noise, file, meta, open, repository};
use pitr_format::FileId;
use pitr_snapshot::{BlockSource, BoxError, EXTENT_BYTES, FileShape, Tracked, write_full, write_increment};
use pitr_tracker::{BlockSize, ChangeSet};
use std::error::Error;

/// Number of distinct extent contents. They keep the stored data small, while each extent still has
/// a chunk.
const CONTENTS: u64 = 64;
const EXTENT: usize = EXTENT_BYTES as usize;

struct Synthetic {
    len: u64,
    contents: Vec<Vec<u8>>,
    /// Changed blocks. Each holds its own noise.
    changed: ChangeSet,
}

impl BlockSource for Synthetic {
    fn files(&self) -> Vec<FileShape> {
        vec![file(self.len)]
    }

    fn read_at(&self, _: FileId, offset: u64, buf: &mut [u8]) -> Result<(), BoxError> {
        let size = BlockSize::new(BLOCK as u32)?;
        if !self.changed.is_empty() {
            for (block, out) in (offset / BLOCK as u64..).zip(buf.chunks_mut(BLOCK)) {
                debug_assert!(self.changed.contains(FileId::FIRST, size, block));
                Noise(block + 1).fill(out);
            }
            return Ok(());
        }
        // Reads start at an extent and cover several.
        for (extent, out) in (offset / EXTENT as u64..).zip(buf.chunks_mut(EXTENT)) {
            out.copy_from_slice(&self.contents[(extent % CONTENTS) as usize][..out.len()]);
        }
        Ok(())
    }
}

pub(crate) fn run(gigabytes: u64, per_mille: u64) -> Result<(), Box<dyn Error>> {
    println!("| file, GB | changed blocks | their bytes | added | besides them |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    let (_dir, folder) = repository()?;
    let len = gigabytes * 1000 * MB / EXTENT as u64 * EXTENT as u64;
    let content = |n: u64| {
        let mut bytes = vec![0; EXTENT];
        Noise(n + 1).fill(&mut bytes);
        bytes
    };
    let contents = (0..CONTENTS).map(content).collect();
    let mut source = Synthetic { len, contents, changed: ChangeSet::new() };
    let store = open(&folder)?;
    let first = write_full(&store, &source, meta(1)?, None)?.publish(&store)?;
    let (blocks, size) = (len / BLOCK as u64, BlockSize::new(BLOCK as u32)?);
    let (count, mut noise) = (blocks * per_mille / 1000, Noise(1));
    for n in 0..count {
        source.changed.mark(FileId::FIRST, size, noise.scattered(count, blocks, n));
    }
    let store = open(&folder)?;
    let changed = source.changed.clone();
    let next =
        write_increment(&store, &first, &mut Tracked::new(&source, &changed), meta(2)?)?.publish(&store)?;
    let bytes = count * BLOCK as u64; // noise is stored uncompressed
    let besides = next.snapshot.sizes.stored - bytes;
    println!("| {gigabytes} | {count} | {bytes} | {} | {besides} |", next.snapshot.sizes.stored);
    Ok(())
}
