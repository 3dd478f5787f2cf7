//! What a storage engine is to the rest of pitr.
//!
//! An [`Engine`] has a name, recognizes its sources, and has some of these capabilities:
//!
//! | capability | what the engine does | used by |
//! | --- | --- | --- |
//! | [`Capture`] | turns the commits of a live source into records of a log | `backup`, `watch` |
//! | [`TakeSnapshot`] | takes snapshots of a source that has no log | `backup` |
//! | [`RestoreTarget`] | says how its files are restored | `restore` |
//!
//! An engine that logs through `pitr-wal` needs no [`Capture`]: its commits are records already.
//!
//! A [`Registry`] holds the engines of a program. Each is registered once; everything else asks the
//! registry for a capability, and never for a name.
//!
//! Errors of engines [explain](Explain) themselves, so that a program can report them by kind.
//!
//! [`RestoreTarget`]: pitr_recovery::RestoreTarget
#![forbid(unsafe_code)]

mod capture;
mod error;
mod explain;
mod ranges;
mod registry;
mod take;

pub use capture::{
    Capture, CaptureOptions, EngineContext, Event, Events, Fleet, Found, LiveSource, Located, Matches,
    Outcomes, Search, SourceSearch, Summary,
};
pub use error::{Capability, Error, Result};
pub use explain::{Explain, Explanation, Failure};
pub use ranges::{ChangedRanges, ListError};
pub use registry::{Engine, Registry};
pub use take::{RangesUse, TakeOptions, TakeSnapshot, Taken};

/// The example in the README compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
