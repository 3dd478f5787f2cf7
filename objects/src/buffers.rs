//! Memory for what is read from a local folder.
//!
//! Reads of a few sizes come and go by the thousand, on many threads. What each thread gives back to the allocator the
//! allocator keeps for that thread, so that memory would grow with the time that a command takes. These buffers go from hand to
//! hand instead: there are as many as were in use at once.

use bytes::Bytes;
use pitr_vfs::Buffer;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Fewer bytes come from the allocator, which is good at them.
const BYTES_MIN: usize = 256 << 10;
/// Rooms of buffers, bytes: for a request of a restore, with what lies around it in its blocks, and for whole objects. More
/// than that comes from the allocator too.
const ROOMS: [usize; 2] = [(4 << 20) + (16 << 10), 32 << 20];

/// Buffers that nobody uses just now, of each size.
#[derive(Debug, Default)]
pub(crate) struct Buffers([Mutex<Vec<Buffer>>; ROOMS.len()]);

impl Buffers {
    /// Has `read` fill so many bytes, and say which of them are wanted. They stand at an aligned address if they are many.
    pub(crate) fn read(
        self: &Arc<Self>,
        len: usize,
        read: impl FnOnce(&mut [u8]) -> io::Result<Range<usize>>,
    ) -> io::Result<Bytes> {
        let size = ROOMS.iter().position(|room| len <= *room).filter(|_| len >= BYTES_MIN);
        let Some(size) = size else {
            let mut bytes = vec![0; len];
            let wanted = read(&mut bytes)?;
            return Ok(Bytes::from(bytes).slice(wanted));
        };
        let buffer = self.spare(size).pop().unwrap_or_else(|| Buffer::with_capacity(ROOMS[size]));
        // Goes back also if it could not be filled.
        let mut loan = Loan { buffer, wanted: 0..0, size, home: Arc::clone(self) };
        loan.buffer.set_len(len);
        loan.wanted = read(&mut loan.buffer)?;
        Ok(Bytes::from_owner(loan))
    }

    fn spare(&self, size: usize) -> MutexGuard<'_, Vec<Buffer>> {
        self.0[size].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A part of a buffer, which goes back when nobody looks at it any more.
struct Loan {
    buffer: Buffer,
    wanted: Range<usize>,
    /// Number of its size.
    size: usize,
    home: Arc<Buffers>,
}

impl AsRef<[u8]> for Loan {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[self.wanted.clone()]
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.home.spare(self.size).push(std::mem::take(&mut self.buffer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_once_nobody_looks_at_it() {
        let buffers = Arc::new(Buffers::default());
        let read = |len: usize, byte: u8| {
            let fill = |bytes: &mut [u8]| {
                assert_eq!(bytes.len(), len);
                bytes.fill(byte);
                Ok(1..len)
            };
            buffers.read(len, fill).unwrap()
        };
        for len in [BYTES_MIN, ROOMS[0], ROOMS[1]] {
            let first = read(len, 1);
            let part = first.slice(5..10);
            let address = first.as_ptr();
            drop(first);
            let second = read(len, 2);
            assert_ne!(second.as_ptr(), address, "a part of it is still looked at");
            assert!(part == [1; 5][..] && second.len() == len - 1);
            drop(part);
            assert_eq!(read(len, 3).as_ptr(), address);
        }
        // Where reading fails the buffer is not lost.
        let before = buffers.spare(0).len();
        assert!(buffers.read(BYTES_MIN, |_| Err(io::ErrorKind::NotFound.into())).is_err());
        assert_eq!(buffers.spare(0).len(), before);
        for len in [0, 1, BYTES_MIN - 1, ROOMS[1] + 1] {
            let expected = len.saturating_sub(1);
            assert_eq!(buffers.read(len, |bytes| Ok(len.min(1)..bytes.len())).unwrap().len(), expected);
        }
    }
}
