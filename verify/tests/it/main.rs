//! Verification of repositories that were damaged in every way.
#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod damage;
mod missing;
mod world;
