//! What the fuzz targets do with a fuzzer's bytes.
//!
//! Each module has one function, `run`. It ends quietly or panics; a panic is a finding, and so is a run that
//! takes more than some seconds or much memory (`cargo xtask fuzz` sets both limits). Checksums would keep a
//! fuzzer at the door, so where one stands the targets put the right one in ([`seal`]), unless the input says
//! otherwise.
//!
//! A finding becomes a test of the crate that it was found in.

#![forbid(unsafe_code)]

pub mod claims;
pub mod frames;
mod input;
mod log;
pub mod objects;
pub mod records;
mod seal;
pub mod segment;
pub mod tail;
