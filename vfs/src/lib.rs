//! The seam between pitr and the machine: files, time, random numbers and threads come from outside.
//!
//! # Purpose
//! Every crate that does I/O takes an [`Env`]: [`Env::system`] in a program. A crash test passes
//! `sim::SimFs` (feature `sim`), which records every request to the disk. From that record it builds the
//! disk that a power loss at any point would have left.
//!
//! # What may be relied on
//! - Bytes are durable after [`File::sync_data`] returned `Ok`; bytes written while it ran are not.
//! - A name is durable after [`FileSystem::sync_dir`] of its folder returned `Ok`; a file's own sync says
//!   nothing of its name.
//! - After a failed sync of a file nothing is known about what was written before it, and a later sync that
//!   works proves nothing about those bytes. After a failed sync of a folder its names are in doubt until a
//!   later one works: file systems with a journal stop when they can't write it.
//! - [`FileSystem::publish`] is atomic and never replaces a file.
//!
//! Three modules have the crate's only `unsafe`: [`view`](View) maps files, one asks what of a file is in the system's cache,
//! one tells the allocator what to do with large pieces.
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
pub use fs::{Access, File, FileSystem, Lock};
pub use os::{OsFile, OsFs};
pub use permissions::Attributes;
pub use random::{Random, SystemRandom};
pub use regular::{NotAFile, check_regular, open_file, read_file};
pub use spawn::Spawn;
pub use view::View;
