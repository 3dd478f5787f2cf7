//! Runs the program from its command line, against a SQLite application in another process.
#![allow(clippy::unwrap_used, reason = "a test that can't continue fails")]

mod around;
mod captured;
mod copies;
mod delta;
mod encrypted;
mod folders;
mod golden;
mod identity;
mod links;
mod listed;
mod live;
mod misuse;
mod points;
mod private;
mod pruned;
mod repaired;
mod requests;
mod restoring;
mod second;
mod shapes;
mod story;
mod strays;
mod tenants;
mod verified;
mod wal;
mod watcher_gone;
mod world;

/// Not a test: the application's process (see `pitr_testkit`).
#[test]
fn application() {
    pitr_testkit::serve();
}
