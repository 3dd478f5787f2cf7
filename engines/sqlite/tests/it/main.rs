//! The SQLite engine against real SQLite in another process.
#![allow(clippy::unwrap_used, reason = "a test that can't continue fails")]

mod attacks;
mod binding;
mod capture;
mod exactly;
mod fleet;
mod watching;

/// Not a test: the application's process (see `pitr_testkit`).
#[test]
fn application() {
    pitr_testkit::serve();
}
