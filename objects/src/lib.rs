//! Create-only, verified access to a repository's objects over [`object_store`].
//!
//! A repository is a folder or a bucket of containers (`pitr-codec`). One create-only put writes an
//! object, and nothing changes it afterwards. This crate keeps that discipline, so that the crates
//! above work with objects and not with requests:
//!
//! - [`layout`] has the names of all objects, and a [`Location`] is where a repository is.
//! - [`Objects::put_new`] creates an object or fails. A put whose reply was lost is recognised as
//!   ours. Any other object of that name is [`Error::Foreign`].
//! - Ranges give exactly the requested bytes, or an error. Prefixes match whole path segments.
//! - [`Objects::index`] reads a container by ranges, and checks everything that it returns.
//! - In an encrypted repository that was [unlocked](Objects::unlock), every object that is created
//!   or read is encrypted.
//! - A process that relies on objects holds a [`Lease`]. [Condemned](Condemnation) objects are
//!   deleted after the leases of that time have ended (`docs/format/prune.md`).
//! - Objects of more than [`pitr_codec::OBJECT_BYTES_LIMIT`] bytes are not read into memory.
//!
//! ```
//! use pitr_objects::Objects;
//!
//! let objects = Objects::memory()?;
//! objects.put_new("greeting", &b"hello"[..])?;
//! assert_eq!(objects.get("greeting")?, &b"hello"[..]);
//! # Ok::<(), pitr_objects::Error>(())
//! ```
//!
//! Calls block and may come from any thread, also from one of rayon or an async runtime. A store in
//! a folder or in memory does its work in the calling thread; requests to other stores run in
//! threads of this crate. [`parallel`] is where the crates above take threads for their work. In a
//! simulated machine ([`Spawn::Inline`](pitr_vfs::Spawn)) neither starts any.
#![forbid(unsafe_code)]

mod bucket;
mod condemned;
mod container;
mod error;
mod keys;
pub mod layout;
mod lease;
mod listing;
mod local;
mod location;
mod merged;
pub mod parallel;
mod probe;
mod put;
mod rate;
mod read;
mod remote;
mod repository;
mod runtime;
mod sources;
mod store;
mod view;
mod waiting;

pub use bucket::{Bucket, BucketError, StoreKind};
pub use condemned::{Condemnation, Condemned};
pub use error::{Error, ErrorKind, Result};
pub use keys::KeySlot;
pub use lease::{LEASE_EXPIRY, Lease, LeaseRole, LeaseSeen};
pub use listing::{Entry, Listing};
pub use local::{LocalStore, Readers, Stray, StrayKind};
pub use location::{Location, LocationError};
pub use read::Tail;
pub use remote::{CLASS_VARIABLE, INSTANCE_VARIABLE, SetupError};
pub use repository::Repository;
pub use sources::Sources;
pub use store::Objects;

pub use bytes::Bytes;
pub use object_store;

/// The examples in the README compile and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
