//! A pool of read buffers.
//!
//! Reads of a few sizes come and go by the thousand, on many threads. An allocator keeps freed
//! memory per thread, so memory would grow with the run time of a command. These buffers move
//! between threads instead: there are only as many as were in use at once.

use crate::Buffer;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Smaller buffers come from the allocator, which handles them well.
const BYTES_MIN: usize = 256 << 10;
/// Extra bytes around a range for direct requests: one block at each end.
const AROUND_BYTES: usize = 2 * Buffer::ALIGNMENT;
/// Sizes of the pooled buffers, bytes. Larger buffers come from the allocator.
const SIZES: [usize; 4] = [512 << 10, (1 << 20) + AROUND_BYTES, (4 << 20) + AROUND_BYTES, 32 << 20];

/// The unused buffers. Clones share the same pool.
#[derive(Debug, Clone, Default)]
pub struct Buffers(Arc<[Mutex<Vec<Buffer>>; SIZES.len()]>);

impl Buffers {
    /// Returns a buffer of `len` bytes with arbitrary content, at an aligned address (see
    /// [`Buffer`]).
    #[must_use]
    pub fn lend(&self, len: usize) -> Loan {
        let size = SIZES.iter().position(|room| len <= *room).filter(|_| len >= BYTES_MIN);
        let home = size.map(|size| (self.clone(), size));
        let spare = size.and_then(|size| self.spare(size).pop());
        let room = size.map_or(len, |size| SIZES[size]);
        let mut buffer = spare.unwrap_or_else(|| Buffer::with_capacity(room));
        buffer.set_len(len);
        Loan { buffer, home }
    }

    fn spare(&self, size: usize) -> MutexGuard<'_, Vec<Buffer>> {
        self.0[size].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A buffer that returns to its pool on drop.
#[derive(Debug)]
pub struct Loan {
    buffer: Buffer,
    /// The pool and the index of the size. `None` for a buffer from the allocator.
    home: Option<(Buffers, usize)>,
}

impl Loan {
    /// Maximum memory of the buffer, bytes.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.home.as_ref().map_or(self.buffer.len(), |(_, size)| SIZES[*size])
    }

    /// The buffer itself, to change its length.
    pub fn buffer(&mut self) -> &mut Buffer {
        &mut self.buffer
    }
}

impl Deref for Loan {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer
    }
}

impl DerefMut for Loan {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.buffer
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if let Some((home, size)) = &self.home {
            home.spare(*size).push(std::mem::take(&mut self.buffer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_returned_buffer_is_reused() {
        let buffers = Buffers::default();
        for (size, len) in [BYTES_MIN, SIZES[1], SIZES[1] + 1, SIZES[3]].into_iter().enumerate() {
            let mut first = buffers.lend(len);
            first.fill(1);
            let address = first.as_ptr();
            let second = buffers.clone().lend(len);
            assert_ne!(second.as_ptr(), address);
            assert_eq!((first.len(), second.len()), (len, len));
            assert_eq!((first.capacity(), address.align_offset(4096)), (SIZES[size], 0));
            drop(first);
            let third = buffers.lend(len);
            assert_eq!((third.as_ptr(), third.len()), (address, len));
        }
        assert!((0..SIZES.len()).all(|size| buffers.spare(size).len() == 2));
        for len in [0, 1, BYTES_MIN - 1, SIZES[3] + 1] {
            let loan = buffers.lend(len);
            assert_eq!((loan.len(), loan.capacity()), (len, len));
        }
        assert!((0..SIZES.len()).all(|size| buffers.spare(size).len() == 2));
    }
}
