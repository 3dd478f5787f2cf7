//! Memory for reads and writes past the page cache.

const HUGE_PAGE_BYTES: usize = 2 << 20;

/// A buffer that begins at a huge page, and consists of huge pages if the system has some: both are
/// faster.
#[derive(Debug)]
pub(super) struct Room {
    bytes: Vec<u8>,
    aligned: usize,
    len: usize,
}

impl Room {
    pub(super) fn new(len: usize) -> Room {
        let mut bytes: Vec<u8> = Vec::with_capacity(len + 2 * HUGE_PAGE_BYTES);
        let aligned = bytes.as_ptr().align_offset(HUGE_PAGE_BYTES);
        let huge = len.next_multiple_of(HUGE_PAGE_BYTES);
        #[expect(unsafe_code, reason = "advice for memory")]
        // SAFETY: the range is within the capacity, and the advice changes no content. If the
        // kernel refuses it, the pages are small.
        let _ = unsafe {
            let start = bytes.as_mut_ptr().add(aligned);
            rustix::mm::madvise(start.cast(), huge, rustix::mm::Advice::LinuxHugepage)
        };
        bytes.resize(bytes.capacity(), 0);
        Room { bytes, aligned, len }
    }

    pub(super) fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes[self.aligned..][..self.len]
    }
}
