//! Memory for what is read, used again.
//!
//! Reads of a few sizes come and go by the thousand, on many threads. What each thread gives back to the allocator the
//! allocator keeps for that thread, so that memory would grow with the time that a command takes. These buffers go from hand to
//! hand instead: there are as many as were in use at once.

use crate::Buffer;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Fewer bytes come from the allocator, which is good at them.
const BYTES_MIN: usize = 256 << 10;
/// Around a range that direct requests are made for: a block at each end, bytes.
const AROUND_BYTES: usize = 2 * Buffer::ALIGNMENT;
/// Rooms of buffers, bytes. More than the last comes from the allocator too.
const ROOMS: [usize; 4] = [512 << 10, (1 << 20) + AROUND_BYTES, (4 << 20) + AROUND_BYTES, 32 << 20];

/// Buffers that nobody uses just now. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Buffers(Arc<[Mutex<Vec<Buffer>>; ROOMS.len()]>);

impl Buffers {
    /// A buffer of so many bytes, whatever they are, at an aligned address (see [`Buffer`]).
    #[must_use]
    pub fn lend(&self, len: usize) -> Loan {
        let size = ROOMS.iter().position(|room| len <= *room).filter(|_| len >= BYTES_MIN);
        let home = size.map(|size| (self.clone(), size));
        let spare = size.and_then(|size| self.spare(size).pop());
        let room = size.map_or(len, |size| ROOMS[size]);
        let mut buffer = spare.unwrap_or_else(|| Buffer::with_capacity(room));
        buffer.set_len(len);
        Loan { buffer, home }
    }

    fn spare(&self, size: usize) -> MutexGuard<'_, Vec<Buffer>> {
        self.0[size].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A buffer that goes back when it is dropped.
#[derive(Debug)]
pub struct Loan {
    buffer: Buffer,
    /// Where it goes, and the number of its size; nowhere if it is a small or a very large one.
    home: Option<(Buffers, usize)>,
}

impl Loan {
    /// Bytes that it may take in memory.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.home.as_ref().map_or(self.buffer.len(), |(_, size)| ROOMS[*size])
    }

    /// The buffer itself, for what is of one length and then of another.
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
    fn a_buffer_is_used_again_once_it_was_given_back() {
        let buffers = Buffers::default();
        for (size, len) in [BYTES_MIN, ROOMS[1], ROOMS[1] + 1, ROOMS[3]].into_iter().enumerate() {
            let mut first = buffers.lend(len);
            first.fill(1);
            let address = first.as_ptr();
            let second = buffers.clone().lend(len);
            assert_ne!(second.as_ptr(), address);
            assert_eq!((first.len(), second.len()), (len, len));
            assert_eq!((first.capacity(), address.align_offset(4096)), (ROOMS[size], 0));
            drop(first);
            let third = buffers.lend(len);
            assert_eq!((third.as_ptr(), third.len()), (address, len));
        }
        assert!((0..ROOMS.len()).all(|size| buffers.spare(size).len() == 2));
        for len in [0, 1, BYTES_MIN - 1, ROOMS[3] + 1] {
            let loan = buffers.lend(len);
            assert_eq!((loan.len(), loan.capacity()), (len, len));
        }
        assert!((0..ROOMS.len()).all(|size| buffers.spare(size).len() == 2));
    }
}
