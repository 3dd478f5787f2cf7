//! Create-only, verified access to a repository's objects over [`object_store`].
//!
//! A repository is a folder or a bucket of containers (`pitr-codec`), each written by one create-only put and never
//! touched again. This crate keeps that discipline, so that those above think in objects and not in requests:
//!
//! - [`Objects::put_new`] creates or fails. A put whose reply was lost is recognised as ours, anything else that
//!   stands at the path is [`Error::Foreign`].
//! - Ranges give exactly the bytes asked for or an error; prefixes match whole path segments.
//! - [`Objects::index`] reads a container by ranges and checks whatever it returns.
//! - In an encrypted repository, once it is [unlocked](Objects::unlock), all that is built and read here is encrypted.
//! - Who relies on objects holds a [`Lease`]; what is [condemned](Condemnation) is deleted when the leases have ended
//!   that stood when it was (`docs/format/prune.md`).
//! - No object past [`pitr_codec::OBJECT_BYTES_LIMIT`] is read into memory.
//!
//! Calls block and may come from any thread, rayon's and an async runtime's included: requests run on a small
//! runtime of the crate's own. Local files are read and written by the caller himself, past the page cache, with fsync of
//! file and folder.
#![forbid(unsafe_code)]

mod condemned;
mod container;
mod error;
mod keys;
pub mod layout;
mod lease;
mod listing;
mod local;
mod location;
mod put;
mod read;
mod repository;
mod runtime;
mod sources;
mod store;

pub use condemned::{Condemnation, Condemned};
pub use error::{Error, ErrorKind, Result};
pub use keys::KeySlot;
pub use lease::{LEASE_EXPIRY, Lease, LeaseRole, LeaseSeen};
pub use listing::{Entry, Listing};
pub use local::{LocalStore, Readers, Stray, StrayKind};
pub use location::{Location, LocationError};
pub use read::Tail;
pub use repository::Repository;
pub use sources::Sources;
pub use store::{Objects, random_bytes, random_id};

pub use bytes::Bytes;
pub use object_store;
