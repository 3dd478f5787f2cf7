//! An engine of two files, built outside pitr on its public traits. No crate of pitr knows of it.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod two_files;
mod world;

mod restores;
