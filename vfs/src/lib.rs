//! Interfaces between pitr and the machine: files, time, random numbers and threads are passed in.
//!
//! # Purpose
//! Every crate that does I/O takes an [`Env`]; a program passes [`Env::system`]. A crash test
//! passes `sim::SimFs` (feature `sim`), which records every request to the disk. From that record
//! it builds the disks that a power loss at any point would have left.
//!
//! # Guarantees
//! - Bytes are durable after [`File::sync_data`] returned `Ok`. Bytes written while it ran are not.
//! - A name is durable after [`FileSystem::sync_dir`] of its folder returned `Ok`. The sync of a
//!   file does not cover its name.
//! - After a failed sync of a file, the state of everything written before it is unknown. A later
//!   successful sync proves nothing about those bytes. After a failed sync of a folder, its names
//!   are in doubt until a later sync succeeds: file systems with a journal stop when they cannot
//!   write it.
//! - [`FileSystem::publish`] is atomic and never replaces a file.
//!
//! Three modules contain the crate's only `unsafe`: [`view`](View) maps files, `resident` queries
//! which parts of a file are in the system's cache, `allocator` configures the allocator for large
//! allocations.
#![deny(unsafe_code)]

mod allocator;
mod buffer;
mod buffers;
mod clock;
mod env;
mod fs;
mod once;
mod os;
mod permissions;
mod random;
mod rate;
mod regular;
mod resident;
#[cfg(feature = "sim")]
pub mod sim;
mod spawn;
mod view;

pub use allocator::give_large_allocations_back;
pub use buffer::Buffer;
pub use buffers::{Buffers, Loan};
pub use clock::{Clock, SystemClock};
pub use env::Env;
pub use fs::{Access, File, FileSystem, Lock, Metadata};
pub use os::{OsFile, OsFs};
pub use permissions::{Attributes, is_denied};
pub use random::{Random, SystemRandom, mix64};
pub use rate::Rate;
pub use regular::{NotAFile, check_regular, open_file, read_file};
pub use spawn::{Spawn, lower_priority};
pub use view::View;

/// The examples in the README compile.
#[cfg(all(doctest, feature = "sim"))]
#[doc = include_str!("../README.md")]
struct Readme;
