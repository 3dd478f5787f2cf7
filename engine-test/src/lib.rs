//! A suite of checks that a team runs against its own storage engine, to know that `pitr` can
//! protect it.
//!
//! The team implements [`Subject`]: how a store is created and opened, how a transaction writes,
//! and which parts of the seam the engine has. The [`Suite`] then runs the store on a simulated
//! machine and checks one [`Rule`] after the other.
//!
//! # What it promises
//! - **A failure names the rule and the place**: the cut of the run, the transaction, the record.
//! - **A run depends only on its seed**, except [`Rule::Workers`], which uses threads.
//! - It touches no file of this machine.
//!
//! # What it relies on
//! The store uses files, clock, random numbers and threads only through the [`pitr::vfs::Env`] that
//! it gets. Keys and values are whatever the engine makes of a number and some bytes.
#![forbid(unsafe_code)]

mod checks;
mod driven;
mod failure;
mod lab;
mod subject;
mod suite;
mod writer;

pub use failure::{Failure, Report, Rule};
pub use subject::{Limits, Rows, Subject, Transaction};
pub use suite::Suite;

/// The example in the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
