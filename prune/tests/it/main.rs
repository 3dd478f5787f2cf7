//! Prunes with concurrent writers and readers, crashes, and incomplete listings.

#![allow(clippy::unwrap_used)] // test helpers fail by panicking

mod beside;
mod crash;
mod listings;
mod log;
mod model;
mod points;
mod world;
