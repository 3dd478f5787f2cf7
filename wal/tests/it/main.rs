//! Tests of the log's public interface.
#![expect(
    clippy::unwrap_used,
    reason = "what a test does not expect may end it, also in what its tests share"
)]

mod analysis;
mod crash;
mod damage;
mod decisions;
mod faults;
mod files;
mod find;
mod follow;
mod help;
mod inspect;
mod lives;
mod page;
mod policy;
mod roundtrip;
mod scan;
mod second;
mod seeds;
mod slots;
mod workload;
