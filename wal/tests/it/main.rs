//! Tests of the log's public interface.
#![expect(clippy::unwrap_used, reason = "an unexpected result fails the test, in helpers too")]

mod analysis;
mod checkpoints;
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
