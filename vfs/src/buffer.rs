//! Memory that direct requests can be made for.
//!
//! A request to a disk names its memory in stretches that are contiguous for the machine, and takes a limited number of them:
//! over pages of 4 KiB one of 4 MiB becomes five, and where a disk grants so many requests a second, as those of rented machines do,
//! a third of the bytes (`docs/choices.md`). So what is made large to be filled lies on huge pages, if the system has some.

use memmap2::{MmapMut, MmapOptions};
use std::ops::{Deref, DerefMut};

/// Bytes of a huge page.
const HUGE_BYTES: usize = 2 << 20;

/// Bytes at an address that direct requests can be made for.
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

    /// On huge pages if it is large and there are some.
    fn huge(bytes: usize) -> Self {
        if bytes < HUGE_BYTES || cfg!(miri) {
            return Room::ordinary(bytes);
        }
        let Ok(pages) = MmapOptions::new().len(bytes + HUGE_BYTES).map_anon() else {
            return Room::ordinary(bytes);
        };
        // Where there are none the others do.
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

    /// What a buffer's address in it is a multiple of; so much of it is lost to that.
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
    /// What its address is a multiple of, and what direct requests want offsets and lengths to be multiples of, bytes: enough for file
    /// systems and disks of today.
    pub const ALIGNMENT: usize = 4096;

    pub(crate) const fn new() -> Self {
        Buffer { room: Room::Heap(Vec::new()), begin: 0, len: 0 }
    }

    /// An empty one with room for so many bytes. What of it is never written to takes no memory, which is why it is on ordinary pages.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Buffer { room: Room::ordinary(bytes), begin: 0, len: 0 }
    }

    /// Makes it so long; what it holds afterwards is any bytes. Room that it doesn't have comes on huge pages, if it is 2 MiB or more.
    pub fn set_len(&mut self, len: usize) {
        if !self.has_room(len) {
            self.room = Room::huge(len);
        }
        let alignment = self.room.alignment();
        self.begin = self.room.bytes().as_ptr().align_offset(alignment).min(alignment);
        self.len = len;
    }

    /// Makes it so long: what it holds stays as far as it is so long, and zeros follow.
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
    fn a_buffer_keeps_what_it_holds_and_grows_by_zeros() {
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
    #[cfg(not(miri))] // It has no huge pages.
    fn what_is_made_large_lies_on_huge_pages() {
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
