//! Verification of damaged repositories.
#![allow(clippy::unwrap_used, reason = "a test that can't continue fails")]

mod any_harm;
mod damage;
mod missing;
mod rehearsed;
mod repaired;
mod world;
