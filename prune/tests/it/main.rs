//! Pruning as those see it who write, read, crash and lie beside it.

#![allow(clippy::unwrap_used)] // a test's helpers fail by panicking

mod beside;
mod crash;
mod listings;
mod log;
mod model;
mod world;
