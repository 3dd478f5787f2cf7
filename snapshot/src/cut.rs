//! Content-defined chunking of a file without blocks.
//!
//! A cut depends on the bytes shortly before it (FastCDC: Xia and others, USENIX ATC '16, by the
//! `fastcdc` crate). Soon after an insertion or deletion the cuts are the same as before, so later
//! extents are already stored. If another version of the crate cut at other places, that would only
//! take more space.

use crate::shape::EXTENT_BYTES;
use crate::{BlockSource, Error, FileShape, Result};
use fastcdc::v2020::FastCDC;
use pitr_vfs::Buffer;

/// Minimum length of an extent except for the last one of a file, and the average length, bytes.
const CUT_BYTES_MIN: usize = 64 << 10;
const CUT_BYTES: usize = 256 << 10;
const CUT_BYTES_MAX: usize = EXTENT_BYTES as usize;
/// Size of one read, bytes.
const READ_BYTES: usize = 4 << 20;

/// Reads a file from start to end and cuts it into extents.
pub(crate) struct Cutter<'a> {
    source: &'a dyn BlockSource,
    shape: &'a FileShape,
    /// Bytes that were read and not yet cut end at `end`. Each read starts after space for the
    /// longest extent. So the uncut bytes of one read fit before the next read, which stays aligned
    /// in memory.
    window: Buffer,
    begin: usize,
    end: usize,
    /// Number of bytes of the file that were read.
    read: u64,
}

impl<'a> Cutter<'a> {
    pub(crate) fn new(source: &'a dyn BlockSource, shape: &'a FileShape) -> Self {
        let mut window = Buffer::default();
        window.set_len(CUT_BYTES_MAX + READ_BYTES);
        Cutter { source, shape, window, begin: CUT_BYTES_MAX, end: CUT_BYTES_MAX, read: 0 }
    }

    /// True at the end of the file.
    pub(crate) fn is_done(&self) -> bool {
        self.begin == self.end && self.read == self.shape.len
    }

    /// Writes the next extent to `out`. `out` is empty at the end of the file.
    pub(crate) fn next_into(&mut self, out: &mut Buffer) -> Result<()> {
        if self.end - self.begin < CUT_BYTES_MAX && self.read < self.shape.len {
            self.fill()?;
        }
        let left = &self.window[self.begin..self.end];
        let (_, len) = FastCDC::new(left, CUT_BYTES_MIN, CUT_BYTES, CUT_BYTES_MAX).cut(0, left.len());
        out.set_len(len);
        out.copy_from_slice(&left[..len]);
        self.begin += len;
        Ok(())
    }

    fn fill(&mut self) -> Result<()> {
        let left = self.end - self.begin; // shorter than the longest extent
        self.window.copy_within(self.begin..self.end, CUT_BYTES_MAX - left);
        let bytes = (self.shape.len - self.read).min(READ_BYTES as u64) as usize;
        (self.begin, self.end) = (CUT_BYTES_MAX - left, CUT_BYTES_MAX + bytes);
        let (file, offset) = (self.shape.file, self.read);
        let read = self.source.read_at(file, offset, &mut self.window[CUT_BYTES_MAX..self.end]);
        read.map_err(|source| Error::Source { file, offset, source })?;
        self.read += bytes as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BoxError;
    use pitr_format::FileId;
    use std::collections::HashSet;

    struct Text(Vec<u8>);

    impl BlockSource for Text {
        fn files(&self) -> Vec<FileShape> {
            let len = self.0.len() as u64;
            vec![FileShape { file: FileId::FIRST, name: "text".to_owned(), len, block_bytes: 0 }]
        }

        fn read_at(&self, _: FileId, offset: u64, buf: &mut [u8]) -> std::result::Result<(), BoxError> {
            buf.copy_from_slice(&self.0[offset as usize..][..buf.len()]);
            Ok(())
        }
    }

    fn text(bytes: usize) -> Vec<u8> {
        let mut state = 7u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        (0..bytes).map(|_| next()).collect()
    }

    fn cut(text: &Text) -> Vec<Vec<u8>> {
        let shapes = text.files();
        let (mut cutter, mut out, mut extents) =
            (Cutter::new(text, &shapes[0]), Buffer::default(), Vec::new());
        while !cutter.is_done() {
            cutter.next_into(&mut out).unwrap();
            extents.push(out.to_vec());
        }
        extents
    }

    #[test]
    fn extents_cover_the_file_and_have_bounded_lengths() {
        for bytes in [0, 1, 1 << 20, READ_BYTES, READ_BYTES + 1, 11_000_001] {
            for text in [text(bytes), vec![7; bytes]] {
                let text = Text(text);
                let extents = cut(&text);
                assert!(extents.concat() == text.0);
                let (last, others) = extents.split_last().map_or((0, &[][..]), |(l, o)| (l.len(), o));
                assert!(last <= CUT_BYTES_MAX);
                let fits = CUT_BYTES_MIN..=CUT_BYTES_MAX;
                assert!(others.iter().all(|extent| fits.contains(&extent.len())));
            }
        }
    }

    #[test]
    fn moved_content_is_cut_at_the_same_places() {
        let before = Text(text(20_000_000));
        let known: HashSet<Vec<u8>> = cut(&before).into_iter().collect();
        let after = Text([&before.0[..9_000_000], b"a word", &before.0[9_000_000..]].concat());
        let new: usize = cut(&after).iter().filter(|extent| !known.contains(*extent)).map(Vec::len).sum();
        assert!((1..3 << 20).contains(&new), "{new}");
    }
}
