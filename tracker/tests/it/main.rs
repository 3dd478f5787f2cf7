//! Tests of the tracker through its public face.
#![expect(
    clippy::unwrap_used,
    reason = "what a test does not expect may end it, also in what its tests share"
)]

mod crash;
mod damage;
mod delta;
mod faults;
mod help;
mod page;
mod threads;
