//! The archive on a real log and a real repository.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod checkpoints;
mod claimed;
mod compaction;
mod logical;
mod model;
mod replies;
mod source;
mod world;
mod writers;
