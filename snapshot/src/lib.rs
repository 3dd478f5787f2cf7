//! Full and incremental block snapshots over a chunk store.
//!
//! A snapshot is the state of all files of a source, in extents of 1 MiB, or cut by content where a file has no blocks. It is a tree of two levels
//! (`docs/format/manifest.md`):
//!
//! ```text
//! root object -> file -> node (4096 extents) -> extent leaf:  the chunk of each extent
//!                                            -> overlay leaf: blocks that changed since, by 256 extents
//!             -> leaf of 64 files, where there are more of them
//! ```
//!
//! Leaves are chunks like the data: what an increment did not touch it shares with its parent by hash, and yet each
//! snapshot stands by itself. An extent whose overlay has passed half of it is written whole again.
//!
//! # Promises
//! - **The root comes last.** [`write_full`] and [`write_increment`] store chunks and their index; the snapshot exists
//!   from the moment [`Manifest::publish`] has put its root, and not before.
//! - **An increment reads the delta**, leaves of its parent, which must be whole, and extents that it writes whole.
//! - **Exact bytes.** Whatever [`SnapshotReader`] returns was checked by hash; lengths cut, growth and holes are zeros.
//! - **A long history costs nothing**: [`newest`] reads the newest root, and [`load_all`] keeps of no root the files.
//! - **Memory** does not grow with the files except by 16 bytes for each changed block and what one node takes.
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
mod full;
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
pub use full::write_full;
pub use increment::write_increment;
pub use manifest::{
    FileEntry, Manifest, NoSnapshotId, Sizes, Snapshot, SnapshotId, SnapshotKind, SnapshotMeta,
};
pub use pitr_objects::ErrorKind;
pub use reader::SnapshotReader;
pub use roots::{DamagedRoot, Roots, list, load_all, newest};
pub use shape::{BLOCK_BYTES_MAX, BLOCK_BYTES_MIN, EXTENT_BYTES, FileShape};
pub use source::{BlockSource, Delta, ImageSink};
pub use tracked::Tracked;
pub use walk::{Visit, walk};
