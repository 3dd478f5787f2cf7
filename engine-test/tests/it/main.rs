//! The suite against an engine of somebody else, whole and with each of its faults.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod broken;
mod buckets;
mod whole;
