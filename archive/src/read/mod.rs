//! Reading: commits, transactions and images of the archived log.
//!
//! [`search`] finds commits by the footers, and [`transactions`] lists them. [`merge`] selects the
//! newest image of each block and reads only the frames that have one. [`checkpoint`] reads the
//! state of an engine's checkpoint, [`notes`] the notes of commits. [`check`] verifies whole log
//! objects.

mod check;
mod checkpoint;
mod merge;
mod notes;
mod search;
mod transactions;

pub use merge::{BlockSet, Image, Logical, Merged};
pub use notes::NotedCommit;
pub use search::{Around, Search};
pub use transactions::{Transaction, Transactions};
