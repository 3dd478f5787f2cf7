//! An engine of two files, written outside pitr, through the seam: no crate knows of it.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod two_files;
mod world;

mod restores;
