//! Files of which 40% are duplicates, of three kinds: growth of the repository with and without the
//! duplicates.

use crate::made::{BLOCK, MB, Noise, file, meta, open, repository};
use pitr_format::FileId;
use pitr_snapshot::{BlockSource, BoxError, EXTENT_BYTES, FileShape, write_full};
use std::error::Error;

const EXTENT: usize = EXTENT_BYTES as usize;

struct Held(Vec<u8>);

impl BlockSource for Held {
    fn files(&self) -> Vec<FileShape> {
        vec![file(self.0.len() as u64)]
    }

    fn read_at(&self, _: FileId, offset: u64, buf: &mut [u8]) -> Result<(), BoxError> {
        buf.copy_from_slice(&self.0[offset as usize..][..buf.len()]);
        Ok(())
    }
}

/// Bytes that a first snapshot of `bytes` adds to the repository.
fn stored(bytes: Vec<u8>) -> Result<u64, Box<dyn Error>> {
    let (_dir, folder) = repository()?;
    let store = open(&folder)?;
    Ok(write_full(&store, &Held(bytes), meta(1)?, None)?.publish(&store)?.snapshot.sizes.stored)
}

pub(crate) fn run(megabytes: u64) -> Result<(), Box<dyn Error>> {
    println!("| 40% are | file, MB | added, MB | unique alone, MB | removed |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    let extents = (megabytes * MB) as usize / EXTENT / 10 * 10;
    let mut whole = vec![0; extents * EXTENT];
    let mut noise = Noise(7);
    whole.chunks_mut(BLOCK).for_each(|block| noise.block(block));
    let unique = whole[..extents * 6 / 10 * EXTENT].to_vec();
    let alone = stored(unique.clone())?;

    let mut copies = unique.clone();
    copies.extend_from_slice(&unique[..extents * 4 / 10 * EXTENT]);
    let mut zeros = unique.clone();
    zeros.resize(whole.len(), 0);
    // Two of every five blocks are copies of other blocks of the file.
    let mut scattered = whole.clone();
    for place in (0..scattered.len() / BLOCK).filter(|place| place % 5 < 2) {
        let from = (noise.next() as usize % (scattered.len() / BLOCK / 5)) * 5 + 2;
        scattered.copy_within(from * BLOCK..(from + 1) * BLOCK, place * BLOCK);
    }
    for (what, bytes) in [
        ("runs of extents copied from elsewhere in it", copies),
        ("pages of zeros", zeros),
        ("single blocks copied from elsewhere in it", scattered),
    ] {
        let added = stored(bytes)?;
        let all = alone as f64 / 0.6;
        let removed = (all - added as f64) / (all - alone as f64);
        let mb = |bytes: u64| bytes as f64 / 1e6;
        println!(
            "| {what} | {:.0} | {:.1} | {:.1} | {:.1}% |",
            mb(whole.len() as u64),
            mb(added),
            mb(alone),
            removed * 100.0
        );
    }
    Ok(())
}
