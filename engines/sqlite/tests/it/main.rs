//! The SQLite engine against real SQLite in another process.

mod attacks;
mod capture;
mod exactly;

/// Not a test of its own: the application's process (see `pitr_testkit`).
#[test]
fn application() {
    pitr_testkit::serve();
}
