//! Integration tests of the reference engine.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod crash;
mod fuzzy;
mod life;
mod logical;
mod model;
mod suite;
mod threads;
