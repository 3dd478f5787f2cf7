//! Proof that a repository holds what it should.
//!
//! [`verify`] reads every object and compares all of its stored bytes with the SHA-256 that it states, and its name with its
//! content where names follow from content; then it walks the tree of every snapshot and the log of every timeline: each
//! chunk that is named must be in a pack that is there, each range of the log must be there or be known as a gap. With
//! [`Options::deep`] it goes down to chunks, batches and records as well.
//!
//! # Promises
//! - Nothing is changed, and nothing is trusted: what is damaged is told, and the look goes on behind it.
//! - What the repository states elsewhere is held against what is there: fences and snapshots state how far the log reached, later
//!   objects what came before them, numbers that were given in order which claims and timelines there were. What is missing although
//!   nothing else shows that it existed can't be known: the newest log object of a writer that was killed, the newest snapshot.
//! - Commits that are archived and that no snapshot leads to are a fault of their own, unless retention explains them.
//! - A fault names its object, and the snapshots that it spoils; a pack that is damaged as a whole counts for all of its
//!   chunks. What no fault spoils can be restored.
//! - Memory: one object of at most 20 MiB for each thread, and the index.
//!
//! What was damaged before it was stored no checksum finds: that is why writers decode and compare what they store. Only a
//! restore shows that a database can be opened.
#![forbid(unsafe_code)]

mod contents;
mod error;
mod log;
mod object;
mod report;
mod restorable;
mod statements;

pub use error::{Error, Result};
pub use report::{Fault, FaultKind, Report};

use object::{Checked, check_all};
use pitr_objects::layout::ObjectName;
use pitr_objects::{Condemned, Listing, Objects};

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Decode every chunk, batch and record too, not only the bytes that hold them.
    pub deep: bool,
}

/// How far a verification has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of objects that were read.
    pub done: u64,
    /// Bytes of all.
    pub total: u64,
}

/// Verifies a whole repository. `progress` is called from several threads.
///
/// # Errors
/// Those of a repository that can't be listed or does not answer: what is wrong with objects stands in the report.
pub fn verify(objects: &Objects, options: Options, progress: &(dyn Fn(Progress) + Sync)) -> Result<Report> {
    // What is condemned from here on stays until the lease ends.
    let lease = objects.lease_to_read()?;
    let condemned = match objects.condemned() {
        // It is looked at like every other object.
        Err(error) if error.kind().is_of_one_object() => Condemned::new(),
        other => other?,
    };
    let Listing { mut entries, strays } = objects.listing("")?;
    // They come and go with who works here, ours among them.
    entries.retain(|entry| !matches!(ObjectName::parse(&entry.path), Some(ObjectName::Lease { .. })));
    let mut checked: Checked = check_all(objects, &entries, &condemned, options, progress)?;
    checked.take_strays(strays);
    let ours = lease.as_ref().map(pitr_objects::Lease::id);
    let writers = objects.leases()?.iter().any(|lease| Some(lease.id) != ours);
    contents::check(objects, &entries, &condemned, checked, writers)
}
