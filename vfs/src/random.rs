//! The source of random numbers for ids, nonces and keys.

use std::fmt::Debug;
use std::io;

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
