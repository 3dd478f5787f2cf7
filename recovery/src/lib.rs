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
//!   restored is [`Error::Unreachable`] with the nearest that can, never the latest state.
//! - **No half result.** It is built under a temporary name, marked so that it does not open, and
//!   published only when whole and durable, without replacing anything.
//! - **Any engine.** An engine's [`RestoreTarget`] lays out its files under the output: one file,
//!   or a folder.
//! - **One write for each block**, and the same bytes for any number of workers.
//! - **Memory** is bounded by the workers and by bits for blocks and images, not by base or log.
#![forbid(unsafe_code)]

mod build;
mod delta;
mod error;
mod hidden;
mod history;
mod layout;
mod plan;
mod resolve;
mod restore;
mod sink;
mod staged;
mod target;
mod together;

pub use delta::LogDelta;
pub use error::{Damaged, Error, Result, Unreachable, Why};
pub use history::{History, Restorable};
pub use layout::{
    FilePlace, Finished, FolderLayout, Layout, RestoreState, RestoreTarget, SingleFile, Unfinished, is_inside,
};
pub use plan::{BaseSnapshot, Plan, plan};
pub use restore::{Phase, Phases, Progress, RestoreOptions, Restored, Restorer, Room};
pub use staged::{OutputRules, StagedOutput};
pub use target::{Moment, Point, Stop, Target};
pub use together::{earliest_watermark, newest_common};

/// The example in the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
