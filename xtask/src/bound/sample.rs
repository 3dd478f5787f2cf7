//! Parts of files, evenly spread over them.

use crate::{Result, world};
use std::fs::File;
use std::path::{Path, PathBuf};

/// Length of a stretch: several pieces of the largest size.
const STRETCH_BYTES: u64 = 16 << 20;

/// Stretches of some files. If everything fits, they are the whole files.
#[derive(Debug)]
pub(crate) struct Sample {
    files: Vec<PathBuf>,
    stretches: Vec<Stretch>,
    /// Length of all files.
    whole: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stretch {
    file: usize,
    from: u64,
    len: u64,
}

/// A piece of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    /// The file, and the offset in it.
    pub(super) file: usize,
    pub(super) from: u64,
    pub(super) len: usize,
    /// Offset of the piece in the sample.
    pub(super) at: u64,
}

impl Sample {
    /// A sample of about `bytes_max` bytes, or everything if there are fewer.
    pub(crate) fn of(files: &[PathBuf], bytes_max: u64) -> Result<Sample> {
        let lens = files.iter().map(|path| Ok(path.metadata()?.len())).collect::<Result<Vec<u64>>>()?;
        let stretches = spread(&lens, bytes_max);
        Ok(Sample { files: files.to_vec(), stretches, whole: lens.iter().sum() })
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.stretches.iter().map(|stretch| stretch.len).sum()
    }

    /// What the sample consists of.
    pub(super) fn line(&self) -> String {
        format!(
            "{} MB of {} MB, in {} stretches of at most {} MiB",
            self.bytes() / 1_000_000,
            self.whole / 1_000_000,
            self.stretches.len(),
            STRETCH_BYTES >> 20
        )
    }

    pub(super) fn pieces(&self, bytes: usize) -> Vec<Piece> {
        let (mut pieces, mut at) = (Vec::new(), 0);
        for Stretch { file, from, len } in &self.stretches {
            for begin in (0..*len).step_by(bytes) {
                let piece = (len - begin).min(bytes as u64);
                pieces.push(Piece { file: *file, from: from + begin, len: piece as usize, at });
                at += piece;
            }
        }
        pieces
    }

    pub(super) fn open(&self, open: impl Fn(&Path) -> std::io::Result<File>) -> Result<Vec<File>> {
        Ok(self.files.iter().map(|file| open(file)).collect::<std::io::Result<_>>()?)
    }

    /// Drops the files from the page cache.
    pub(super) fn drop_cache(&self) -> Result<()> {
        self.files.iter().try_for_each(|file| world::drop_cache(file))
    }
}

/// Every nth stretch of these files, of about `bytes_max` bytes together.
fn spread(lens: &[u64], bytes_max: u64) -> Vec<Stretch> {
    let stretches = lens.iter().enumerate().flat_map(|(file, len)| {
        let stretch = move |from| Stretch { file, from, len: (len - from).min(STRETCH_BYTES) };
        (0..*len).step_by(STRETCH_BYTES as usize).map(stretch)
    });
    let all: Vec<Stretch> = stretches.collect();
    let wanted = usize::try_from(bytes_max / STRETCH_BYTES).unwrap_or(usize::MAX).max(1);
    if wanted >= all.len() {
        return all;
    }
    (0..wanted).map(|nth| all[nth * all.len() / wanted]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_spread_over_all_files() {
        let lens = [100 * STRETCH_BYTES, 0, 99 * STRETCH_BYTES + 5];
        let sample = spread(&lens, 10 * STRETCH_BYTES);
        assert_eq!(sample.len(), 10);
        assert!(sample.windows(2).all(|pair| pair[0] != pair[1]));
        let in_first = sample.iter().filter(|stretch| stretch.file == 0).count();
        assert_eq!(in_first, 5, "{sample:?}");
    }

    #[test]
    fn what_fits_is_taken_whole_and_cut_into_pieces() {
        let lens = [2 * STRETCH_BYTES + 7, 3];
        let stretches = spread(&lens, u64::MAX);
        assert_eq!(stretches.iter().map(|s| s.len).sum::<u64>(), lens.iter().sum::<u64>());
        let sample = Sample { files: Vec::new(), stretches, whole: lens.iter().sum() };
        let pieces = sample.pieces(5 << 20);
        let mut end = 0;
        for piece in &pieces {
            assert_eq!(piece.at, end);
            end += piece.len as u64;
        }
        assert_eq!(end, sample.bytes());
        assert!(pieces.iter().all(|piece| piece.len <= 5 << 20));
    }
}
