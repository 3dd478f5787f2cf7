//! The kinds of objects in a source's folder: what each says, and its bytes.
//!
//! [`footer`] is the index of a log object. [`claim`] and [`fence`] begin and end an epoch,
//! [`timeline`] is the history of a timeline, and [`origin`] the place of the source. [`restored`]
//! describes a restored state, [`point`] a named recovery point, and [`pruned`] a range that
//! retention removed. [`state`] has the fields with which restored states and points begin.

mod claim;
mod fence;
mod footer;
mod origin;
mod point;
mod pruned;
mod restored;
mod state;
mod timeline;

pub use claim::Instance;
pub use fence::Fence;
pub use footer::{CheckpointEntry, CommitEntry, CommitPoint, Footer, Mark, MarkKind};
pub use origin::Origin;
pub use point::{NamedPoint, PointName, PointNameError, Points};
pub use restored::{Fingerprint, RestoredState};
pub use timeline::{ForkReason, Timeline};

pub(crate) use claim::Claim;
pub(crate) use footer::{
    CutRecord, FileImages, FrameStart, ImageEntry, LogicalEntry, OpenTx, RECORD_HEAD_BYTES, SetLengthEntry,
    Span,
};
