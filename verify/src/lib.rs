//! Verification: proof that a repository holds everything that its objects state.
//!
//! [`verify`] reads every object. It compares all stored bytes with their SHA-256, and it compares
//! those names that are derived from content with that content. Then it walks the tree of every
//! snapshot and the log of every timeline. Each referenced chunk must be in an existing pack, and
//! each range of the log must exist or be a known gap. With [`Options::deep`] it also checks
//! chunks, batches and records. [`Depth::Sample`] reads some frames of each object, and
//! [`Options::metadata`] alone reads footers and trees.
//!
//! # Guarantees
//! - Nothing is changed or trusted. Damage is reported, and the verification continues.
//! - Statements are compared with the existing objects. Fences and snapshots state where the log
//!   ended, later objects refer to earlier ones, and consecutive numbers show which claims and
//!   timelines existed. A loss that no object shows is not found: the newest log object of a killed
//!   writer, and the newest snapshot.
//! - Archived commits that no snapshot leads to are a fault of their own, unless retention explains
//!   them.
//! - Each named recovery point must be restorable by the names of the existing objects.
//! - A fault names its object and the affected snapshots. A pack that is damaged as a whole counts
//!   for all of its chunks. Data without a fault can be restored.
//! - Memory: one object of at most 20 MiB for each thread, and the index.
//!
//! No checksum finds damage from before an object was stored. Therefore writers decode and compare
//! what they store. Only a restore proves that a database opens: [`rehearse`] restores a state into
//! a sandbox, compares the copy with the state, and has the engine and the caller check it.
//! [`Verifications`] is the history of what was verified; [`Coverage`], [`Health`] and [`Audit`]
//! are made from it.
#![forbid(unsafe_code)]

mod audit;
mod contents;
mod coverage;
mod error;
mod history;
mod live;
mod log;
mod object;
mod points;
mod rehearsal;
mod repair;
mod report;
mod restorable;
mod statements;

pub use audit::{Audit, AuditedFault, AuditedRehearsal, AuditedSource, CheckedObjects, Moment, Span};
pub use coverage::{COVERAGE_WINDOW, Candidate, Concern, Coverage, Health, Strategy, select};
pub use error::{Error, Result};
pub use history::{Level, Record, Verifications, VerifiedState};
pub use live::{Live, LiveReport, PinnedSource, compare_live};
pub use rehearsal::{
    Answer, CommandProbe, Probe, Queries, QueryProbe, Rehearsal, RehearsalFinding, RehearsalOptions,
    RestoredCopy, rehearse, run_within, shell,
};
pub use repair::{Outcome, RepairOptions, Repaired, repair};
pub use report::{Fault, FaultKind, Report};

use object::{Checked, check_all};
use pitr_objects::layout::{ObjectName, QUARANTINE};
use pitr_objects::{Condemned, Listing, Objects};
use std::num::NonZeroU32;

/// The example in the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// How much of each object a verification reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Depth {
    /// Header and footer. Damaged frames are not found.
    Footers,
    /// Header, footer and this many frames, which are chosen at random.
    Sample(NonZeroU32),
    /// Every stored byte.
    #[default]
    Whole,
    /// Every stored byte, and every chunk, batch and record is decoded.
    Decoded,
}

/// Options of a verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// How much of each object is read.
    pub depth: Depth,
    /// Also compares the objects with each other: the tree of every snapshot, the log of every
    /// timeline, index, packs and recovery points.
    pub metadata: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { depth: Depth::Whole, metadata: true }
    }
}

impl Options {
    /// Everything is read, decoded and compared.
    #[must_use]
    pub const fn deep() -> Self {
        Options { depth: Depth::Decoded, metadata: true }
    }
}

/// Progress of a verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of objects read so far.
    pub done: u64,
    /// Bytes of all objects.
    pub total: u64,
}

/// Verifies a whole repository. `progress` is called from several threads.
///
/// # Errors
/// Errors of an unreachable repository. Faults of objects are in the report.
pub fn verify(objects: &Objects, options: Options, progress: &(dyn Fn(Progress) + Sync)) -> Result<Report> {
    // Objects that are condemned from now on are kept until the lease ends.
    let lease = objects.lease_to_read()?;
    let condemned = match objects.condemned() {
        // The repository object is checked like every other object.
        Err(error) if error.kind().is_of_one_object() => Condemned::new(),
        other => other?,
    };
    let Listing { mut entries, strays } = objects.listing("")?;
    // Leases come and go during the verification, including its own.
    let is_lease = |path: &str| matches!(ObjectName::parse(path), Some(ObjectName::Lease { .. }));
    let is_set_aside = |path: &str| path.split('/').next() == Some(QUARANTINE);
    entries.retain(|entry| !is_lease(&entry.path) && !is_set_aside(&entry.path));
    let mut checked: Checked = check_all(objects, &entries, &condemned, options, progress)?;
    checked.take_strays(strays);
    let report = if options.metadata {
        let ours = lease.as_ref().map(pitr_objects::Lease::id);
        let writers = objects.leases()?.iter().any(|lease| Some(lease.id) != ours);
        contents::check(objects, &entries, &condemned, checked, writers)?
    } else {
        checked.report()
    };
    Ok(Report { depth: Some(options.depth), ..report })
}
