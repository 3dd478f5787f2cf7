//! The running checksum of a `-wal` file: two sums over pairs of 32-bit words, like a Fletcher sum.

/// The two sums at one position of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Checksum {
    /// The first sum.
    pub s0: u32,
    /// The second sum.
    pub s1: u32,
}

impl Checksum {
    /// The sums after `bytes`, whose length is a multiple of eight. `big_endian` is the byte order
    /// that the header of the `-wal` file asks for.
    #[must_use]
    pub fn over(self, bytes: &[u8], big_endian: bool) -> Checksum {
        debug_assert_eq!(bytes.len() % 8, 0);
        let word = |b: &[u8]| {
            let b = [b[0], b[1], b[2], b[3]];
            if big_endian { u32::from_be_bytes(b) } else { u32::from_le_bytes(b) }
        };
        bytes.chunks_exact(8).fold(self, |sum, pair| {
            let s0 = sum.s0.wrapping_add(word(&pair[..4])).wrapping_add(sum.s1);
            let s1 = sum.s1.wrapping_add(word(&pair[4..])).wrapping_add(s0);
            Checksum { s0, s1 }
        })
    }
}
