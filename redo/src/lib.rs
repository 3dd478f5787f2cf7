//! The rules of replay: which records count, which image of a block is the newest, and how
//! set-lengths cut it.
//!
//! Local crash recovery ([`pitr-wal`](https://docs.rs/pitr-wal)) and restore from an archive
//! ([`pitr-archive`](https://docs.rs/pitr-archive)) read the same records in different orders. The
//! first joins pieces of a log in any order, the second reads the newest object first. Both must
//! restore the same bytes, so both ask this crate. Only the order in which they read records is
//! their own.
//!
//! # Rules
//! - **Commit coverage** ([`CommitSpan`], [`Winners`]). A commit covers the records of its
//!   transaction from the first LSN that the commit states up to the commit itself. A record that
//!   no commit at or before the target covers leaves no trace. A transaction number that is reused
//!   after an abort or a crash is a new transaction.
//! - **Open transactions** ([`OpenTransactions`]). A transaction is open from its first record to
//!   its commit or abort. A new incarnation of the log ends all open transactions: their writer
//!   died.
//! - **Newest image.** Of the images of a block that count, the one at the highest LSN wins. An
//!   engine owns a block until it commits, so positions decide.
//! - **Cuts** ([`Cuts`]). A set-length discards everything at and after that length. An older image
//!   keeps only the bytes before the shortest later length, even if the file grows again: shrink
//!   and regrow yields zeros (FAILURES 45).
//! - **Growth** ([`FileChange`]). An image that ends after the end of its file lengthens the file,
//!   as a write does.
//! - **Block size** ([`FileChange::set_block_bytes`]). All images of a file that count have one
//!   size.
//! - **Logical records** ([`Redo`]). Only their engine can apply them: each partition by one worker
//!   at a time, in LSN order, and only records of transactions that committed at or before the
//!   target.
//!
//! # Promises
//! - Pure: no I/O, no clock, no threads.
//! - Associative: however a log is divided, and in whichever order its parts are joined, the result
//!   is the same (law 6). Property tests compare both traversals with a replay of every record,
//!   oldest first.
//!
//! # Example
//! ```
//! use pitr_redo::{BlockImage, Cuts, Lsn};
//!
//! // The file is cut to 10,000 bytes at LSN 500, after an image of block 2 was logged at LSN 400.
//! let mut cuts = Cuts::new();
//! cuts.set_length(Lsn::new(500), 10_000);
//!
//! let image = BlockImage { block: 2, block_bytes: 4096 };
//! let kept = image.kept(cuts.shortest_after(Lsn::new(400)));
//! assert_eq!(kept, 10_000 - 2 * 4096);
//! ```
#![forbid(unsafe_code)]

mod coverage;
mod cuts;
mod file;
mod image;
mod logical;
mod open;

pub use coverage::{CommitSpan, Winners, is_within};
pub use cuts::Cuts;
pub use file::{FileChange, MixedBlockSizes};
pub use image::BlockImage;
pub use logical::{BoxError, LogicalRecord, Redo};
pub use open::{Open, OpenTransactions};
pub use pitr_format::{Incarnation, Lsn, PartitionId, TxId};

/// The examples in the README compile and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
