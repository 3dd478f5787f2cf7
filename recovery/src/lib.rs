//! From a recovery target to restored files: a pure plan and one merged pass.
//!
//! ```text
//! History::load -> resolve(target) -> plan(stop) -> Restorer::restore(plan)
//!   listings        a few footers      names only     footers, chunks, frames with images
//! ```
//! A dry run ends at the plan.
//!
//! # Promises
//! - **Exactly the target.** The result is the state of all transactions that committed at or
//!   before the target (or before it, when exclusive), and of none after it. A target that can't be
//!   restored is [`Error::TargetUnreachable`] with the nearest states that can be restored, never
//!   the latest state.
//! - **No half result.** The result is built under a temporary name, with a mark that keeps it from
//!   being opened. It is published when it is complete and durable, and replaces nothing.
//! - **An interrupted restore continues.** What it wrote is used again if its content is right.
//! - **Another way around damage** to the same state is taken if there is one, and told
//!   ([`History::other_way`]).
//! - **Any engine.** An engine's [`RestoreTarget`] lays out its files under the output: one file,
//!   or a folder.
//! - **Logical records** reach the files only through the engine's [`Redo`]. A log that has some
//!   and an engine that can't apply them are refused before anything is written.
//! - **Checksums always.** Everything that is read is checked; there is no setting for it. There is
//!   no differential kind of snapshot: each one can be restored by itself, without a chain.
//! - **One write for each block**, and the same bytes for any number of workers.
//! - **Memory** depends on the number of workers and takes a bit for each block and image. It does
//!   not grow with base or log otherwise: images that wait for their extents go to a temporary
//!   file.
#![forbid(unsafe_code)]

mod around;
mod build;
mod compare;
mod consistency;
mod delta;
mod elsewhere;
mod error;
mod gather;
mod hidden;
mod history;
mod layout;
mod named;
mod plan;
mod rates;
mod redo;
mod replay;
mod request;
mod resolve;
mod restore;
mod rto;
mod sink;
mod staged;
mod stats;
mod target;
mod together;
mod validate;
mod writers;

pub use compare::{CompareOptions, Comparison, Difference, OpenFile};
pub use consistency::{ConsistencyCheck, Finding};
pub use delta::LogDelta;
pub use error::{Damaged, Error, Result, Unreachable, Why};
pub use history::{History, LogCheckpoint, Restorable};
pub use layout::{
    FilePlace, Finished, FolderLayout, Layout, RestoreState, RestoreTarget, SingleFile, Unfinished, is_inside,
};
pub use named::{NewPoint, create_point};
pub use pitr_redo::{BoxError, LogicalRecord, Redo};
pub use plan::{BaseSnapshot, Plan, plan};
pub use rates::{Estimate, Rate, Rates};
pub use replay::{Replayed, replay};
pub use request::{Recovery, RecoveryMode, RecoveryRequest};
pub use restore::{Phase, Progress, RestoreOptions, Restored, Restorer, Room};
pub use rto::{Rpo, Rto};
pub use staged::{OutputRules, StagedOutput};
pub use stats::{Phases, RecoveryStats};
pub use target::{Point, RecoveryTarget, Stop, Target};
pub use together::{earliest_watermark, newest_common};

/// The example in the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
