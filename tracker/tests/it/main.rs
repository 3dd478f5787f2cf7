//! Tests of the tracker through its public face.
#![expect(
    clippy::unwrap_used,
    reason = "what a test does not expect may end it, also in what its tests share"
)]

mod delta;
mod help;
mod threads;
