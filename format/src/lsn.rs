//! Positions in a timeline's log.

use std::{error, fmt};

/// Position in a timeline's log, bytes: `segment number x segment size + offset`. It strictly
/// grows.
///
/// Segment numbers start at 1, so [`Lsn::ORIGIN`] (zero) precedes every logged position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(u64);

impl Lsn {
    /// The position before the first byte of any log.
    pub const ORIGIN: Lsn = Lsn(0);
    /// A position after every one that can be logged.
    pub const MAX: Lsn = Lsn(u64::MAX);

    /// The position with this number.
    #[must_use]
    pub const fn new(raw: u64) -> Self {
        Lsn(raw)
    }

    /// The position as a number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// This position plus `bytes`, or `None` past the end of the range.
    #[must_use]
    pub const fn checked_add(self, bytes: u64) -> Option<Lsn> {
        match self.0.checked_add(bytes) {
            Some(raw) => Some(Lsn(raw)),
            None => None,
        }
    }

    /// The position one byte earlier. The origin stays unchanged.
    #[must_use]
    pub const fn before(self) -> Lsn {
        Lsn(self.0.saturating_sub(1))
    }

    /// Bytes from `earlier` to this position; zero if `earlier` is after it.
    #[must_use]
    pub const fn since(self, earlier: Lsn) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Number of a segment within its timeline, starting at 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentNo(u64);

impl SegmentNo {
    /// The first segment of an unforked timeline.
    pub const FIRST: SegmentNo = SegmentNo(1);

    /// The segment with this number.
    #[must_use]
    pub const fn new(raw: u64) -> Self {
        SegmentNo(raw)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number plus `by`, or `None` past the end of the range.
    #[must_use]
    pub const fn checked_add(self, by: u64) -> Option<SegmentNo> {
        match self.0.checked_add(by) {
            Some(raw) => Some(SegmentNo(raw)),
            None => None,
        }
    }
}

impl fmt::Display for SegmentNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Size of every segment of one timeline: a power of two from 16 KiB to 1 GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentSize(u32);

/// A segment size that the format does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentSizeError(pub u64);

impl fmt::Display for SegmentSizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (min, max) = (SegmentSize::MIN_BYTES, SegmentSize::MAX_BYTES);
        write!(f, "segment size {} is not a power of two from {min} to {max} bytes", self.0)
    }
}

impl error::Error for SegmentSizeError {}

impl SegmentSize {
    /// Smallest size, bytes.
    pub const MIN_BYTES: u32 = 16 << 10;
    /// Largest size, bytes.
    pub const MAX_BYTES: u32 = 1 << 30;
    /// 16 MiB.
    pub const DEFAULT: SegmentSize = SegmentSize(16 << 20);
    /// 1 MiB, for machines that run hundreds of logs.
    pub const SMALL: SegmentSize = SegmentSize(1 << 20);

    /// Creates a segment size, if `bytes` is allowed.
    pub const fn new(bytes: u32) -> Result<Self, SegmentSizeError> {
        if bytes.is_power_of_two() && bytes >= Self::MIN_BYTES && bytes <= Self::MAX_BYTES {
            Ok(SegmentSize(bytes))
        } else {
            Err(SegmentSizeError(bytes as u64))
        }
    }

    /// The size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        self.0
    }

    /// Where segment `no` begins, or `None` past the end of the range.
    #[must_use]
    pub const fn start_of(self, no: SegmentNo) -> Option<Lsn> {
        match no.0.checked_mul(self.0 as u64) {
            Some(raw) => Some(Lsn(raw)),
            None => None,
        }
    }

    /// The segment that holds `lsn`.
    #[must_use]
    pub const fn segment_of(self, lsn: Lsn) -> SegmentNo {
        SegmentNo(lsn.0 / self.0 as u64)
    }

    /// Offset of `lsn` within its segment, bytes.
    #[must_use]
    pub const fn offset_of(self, lsn: Lsn) -> u32 {
        (lsn.0 % self.0 as u64) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_split_into_segment_and_offset() {
        let size = SegmentSize::new(64 << 10).unwrap();
        let lsn = size.start_of(SegmentNo::new(7)).unwrap().checked_add(513).unwrap();
        assert_eq!(size.segment_of(lsn), SegmentNo::new(7));
        assert_eq!(size.offset_of(lsn), 513);
        assert_eq!(size.start_of(SegmentNo::new(u64::MAX)), None);
        assert_eq!(Lsn::MAX.checked_add(1), None);
    }

    #[test]
    fn invalid_segment_sizes_are_refused() {
        for bytes in [0, 1, 4096, (16 << 10) + 1, u32::MAX] {
            assert!(SegmentSize::new(bytes).is_err(), "{bytes}");
        }
    }
}
