//! Folders to snapshots and back. FAILURES 37.

#![allow(clippy::unwrap_used)] // a test's helpers fail by panicking

mod compare;
mod folders;
mod lab;
mod ranges;
