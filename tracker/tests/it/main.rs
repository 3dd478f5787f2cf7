//! Tests of the tracker through its public API.
#![expect(clippy::unwrap_used, reason = "tests and their shared code may panic on unexpected results")]

mod crash;
mod damage;
mod delta;
mod faults;
mod help;
mod page;
mod threads;
