//! Recovery on a real log, a real repository and real snapshots.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod checkpoints;
mod compare;
mod defaults;
mod forks;
mod hidden;
mod lab;
mod ledger;
mod logical;
mod model;
mod output;
mod outside;
mod points;
mod random;
mod report;
mod requests;
mod resume;
mod story;
mod targets;
mod together;
#[path = "../../../archive/tests/it/world.rs"]
mod world;
