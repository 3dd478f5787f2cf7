//! The functions that the fuzz targets call with a fuzzer's bytes.
//!
//! Each public module has one function, `run`, which returns or panics. A panic is a finding. So is
//! a run that takes more than some seconds or much memory; `cargo xtask fuzz` sets both limits.
//! Checksums would reject nearly every input, so the targets insert valid ones ([`seal`]), unless
//! the input disables that.
//!
//! Each finding becomes a test of the crate in which it was found.

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
