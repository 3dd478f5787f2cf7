//! Full and incremental block snapshots over a chunk store.
//!
//! A snapshot is the state of all files of a source. A file with blocks is divided into extents of
//! 1 MiB, a file without blocks is cut by its content. A snapshot is a tree of two levels
//! (`docs/format/manifest.md`):
//!
//! ```text
//! root object -> file -> node (4096 extents) -> extent leaf:  the chunk of each extent
//!                                            -> overlay leaf: changed blocks, per 256 extents
//!             -> leaf of 64 files, if there are more than 64
//! ```
//!
//! Leaves are chunks like the data. An increment shares unchanged chunks with its parent by hash,
//! and yet each snapshot is self-contained. An extent is rewritten when more than half of it is
//! overlaid.
//!
//! # Guarantees
//! - **The root comes last.** [`write_full`] and [`write_increment`] store chunks and their index.
//!   The snapshot exists only after [`Manifest::publish`] has put its root.
//! - **An increment reads little**: the delta, the leaves of its parent, which must be intact, and
//!   the extents that it rewrites.
//! - **Exact bytes.** [`SnapshotReader`] returns only data that was checked by hash. Truncated
//!   ranges, growth and holes are zeros.
//! - **A long history costs nothing.** [`newest`] reads the newest root, and [`load_all`] does not
//!   keep the files of any root.
//! - **Bounded memory.** Memory grows only by 16 bytes per changed block, and by the size of one
//!   node.
#![forbid(unsafe_code)]

mod assemble;
mod cache;
mod collect;
mod compare;
mod cut;
mod differ;
mod error;
mod extent_leaf;
mod file_leaf;
mod file_source;
mod full;
mod fuzzy;
mod id;
mod increment;
mod manifest;
mod merge;
mod overlay;
mod pipeline;
mod reader;
mod roots;
mod scattered;
mod shape;
mod source;
mod tracked;
mod tree;
mod walk;

pub use error::{BoxError, Error, Result};
pub use file_source::FileSource;
pub use full::write_full;
pub use fuzzy::{ConsistentAt, FuzzySource, Quiet};
pub use id::{NoSnapshotId, SnapshotId};
pub use increment::write_increment;
pub use manifest::{FileEntry, Manifest, Sizes, Snapshot, SnapshotKind, SnapshotMeta};
pub use pitr_objects::ErrorKind;
pub use reader::SnapshotReader;
pub use roots::{DamagedRoot, Roots, list, load_all, newest};
pub use shape::{BLOCK_BYTES_MAX, BLOCK_BYTES_MIN, EXTENT_BYTES, FileShape};
pub use source::{BlockSource, Delta, ImageSink};
pub use tracked::Tracked;
pub use walk::{Visit, walk};

/// The example in the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
