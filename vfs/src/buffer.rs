//! Memory for direct requests.
//!
//! A request to a disk lists its memory in physically contiguous ranges, and their number per
//! request is limited. On 4 KiB pages, a request of 4 MiB becomes five. A disk with a limited
//! request rate, as on rented machines, then delivers a third of the bytes (`docs/choices.md`). So
//! large read buffers use huge pages, if the system has some.

use memmap2::{MmapMut, MmapOptions};
use std::ops::{Deref, DerefMut};

/// Size of a huge page, bytes.
const HUGE_BYTES: usize = 2 << 20;

/// Bytes at an address that is aligned for direct requests.
#[derive(Debug)]
pub struct Buffer {
    room: Room,
    begin: usize,
    len: usize,
}

#[derive(Debug)]
enum Room {
    Heap(Vec<u8>),
    Huge(MmapMut),
}

impl Room {
    fn ordinary(bytes: usize) -> Self {
        Room::Heap(vec![0; bytes + Buffer::ALIGNMENT])
    }

    /// Allocates huge pages if `bytes` is large enough and the system has some.
    fn huge(bytes: usize) -> Self {
        if bytes < HUGE_BYTES || cfg!(miri) {
            return Room::ordinary(bytes);
        }
        let Ok(pages) = MmapOptions::new().len(bytes + HUGE_BYTES).map_anon() else {
            return Room::ordinary(bytes);
        };
        // If the system has no huge pages, it uses ordinary ones.
        #[cfg(target_os = "linux")]
        let _ = pages.advise(memmap2::Advice::HugePage);
        Room::Huge(pages)
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Room::Heap(bytes) => bytes,
            Room::Huge(pages) => pages,
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Room::Heap(bytes) => bytes,
            Room::Huge(pages) => pages,
        }
    }

    /// Alignment of a buffer's address. This many bytes of the memory are reserved for it.
    fn alignment(&self) -> usize {
        match self {
            Room::Heap(_) => Buffer::ALIGNMENT,
            Room::Huge(_) => HUGE_BYTES,
        }
    }
}

impl Default for Buffer {
    fn default() -> Self {
        Buffer::new()
    }
}

impl Buffer {
    /// Alignment of the buffer's address, and of offsets and lengths of direct requests, bytes. It
    /// suffices for current file systems and disks.
    pub const ALIGNMENT: usize = 4096;

    pub(crate) const fn new() -> Self {
        Buffer { room: Room::Heap(Vec::new()), begin: 0, len: 0 }
    }

    /// Creates an empty buffer with room for `bytes`. It uses ordinary pages, so that parts that
    /// are never written take no memory.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Buffer { room: Room::ordinary(bytes), begin: 0, len: 0 }
    }

    /// Sets the length. The content is then arbitrary. New memory of 2 MiB or more uses huge pages.
    pub fn set_len(&mut self, len: usize) {
        if !self.has_room(len) {
            self.room = Room::huge(len);
        }
        let alignment = self.room.alignment();
        self.begin = self.room.bytes().as_ptr().align_offset(alignment).min(alignment);
        self.len = len;
    }

    /// Sets the length. Keeps the content up to it, and fills the growth with zeros.
    pub fn resize(&mut self, len: usize) {
        let had = self.len.min(len);
        if !self.has_room(len) {
            let mut larger = Buffer::default();
            larger.set_len(len);
            larger[..had].copy_from_slice(&self[..had]);
            *self = larger;
        }
        self.len = len;
        self[had..].fill(0);
    }

    fn has_room(&self, len: usize) -> bool {
        self.room.bytes().len() >= len + self.room.alignment()
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.room.bytes()[self.begin..self.begin + self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.room.bytes_mut()[self.begin..self.begin + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    const ALIGNMENT: usize = Buffer::ALIGNMENT;

    #[test]
    fn a_resized_buffer_keeps_its_content_and_grows_by_zeros() {
        let mut buffer = Buffer::default();
        buffer.resize(3);
        assert_eq!(buffer[..], [0; 3]);
        buffer.copy_from_slice(&[1, 2, 3]);
        buffer.resize(2);
        buffer.resize(4);
        assert_eq!(buffer[..], [1, 2, 0, 0]);
        buffer.resize(3 << 20);
        assert!(buffer[..4] == [1, 2, 0, 0] && buffer[4..].iter().all(|byte| *byte == 0));
        assert_eq!((buffer.len(), buffer.as_ptr().align_offset(ALIGNMENT)), (3 << 20, 0));
    }

    #[test]
    #[cfg(not(miri))] // miri has no huge pages
    fn large_new_memory_uses_huge_pages() {
        let buffer = |room, len| {
            let mut buffer = Buffer::with_capacity(room);
            buffer.set_len(len);
            buffer
        };
        assert!(matches!(buffer(0, HUGE_BYTES - 1).room, Room::Heap(_)));
        assert!(matches!(buffer(2 * HUGE_BYTES, 2 * HUGE_BYTES).room, Room::Heap(_)));
        let large = buffer(0, 2 * HUGE_BYTES);
        assert!(matches!(large.room, Room::Huge(_)) && large.iter().all(|byte| *byte == 0));
        assert_eq!(large.as_ptr().align_offset(HUGE_BYTES), 0);
    }

    #[test]
    fn a_buffer_is_aligned_whatever_its_length() {
        let mut buffer = Buffer::default();
        for len in [0, 1, 5000, 1 << 20, HUGE_BYTES, 17, 9 << 20, HUGE_BYTES + 1] {
            buffer.set_len(len);
            assert_eq!((buffer.len(), buffer.as_ptr().align_offset(ALIGNMENT)), (len, 0));
        }
    }
}
