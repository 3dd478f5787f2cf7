//! The source of random numbers for ids, nonces and keys.

use std::fmt::Debug;
use std::io;

/// Mixes the bits of a number: similar numbers give results that look random. The finalizer of
/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
#[must_use]
pub const fn mix64(number: u64) -> u64 {
    let z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A source of random bytes.
pub trait Random: Send + Sync + Debug {
    /// Fills `bytes`. The system's source is suitable for cryptographic keys.
    ///
    /// # Errors
    /// The error of the operating system.
    fn fill(&self, bytes: &mut [u8]) -> io::Result<()>;
}

/// The operating system's random source.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    #[cfg(target_os = "linux")]
    fn fill(&self, bytes: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            match rustix::rand::getrandom(&mut bytes[done..], rustix::rand::GetRandomFlags::empty()) {
                Ok(filled) => done += filled,
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    #[cfg(not(target_os = "linux"))]
    fn fill(&self, bytes: &mut [u8]) -> io::Result<()> {
        io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, bytes)
    }
}
