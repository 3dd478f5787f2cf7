//! Integration tests of the library, without the engines that come with it.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod faults;
mod interleaved;
mod native;
mod validated;
mod world;
