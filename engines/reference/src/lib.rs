//! A small transactional store of tables, built on the crates of pitr: the worked example for teams
//! that build a storage engine. The [guide] goes through it in four steps.
//!
//! A table has rows by number. Each table is a file of 4 KiB pages in the store's folder. A
//! transaction changes rows of any tables. There are two kinds of tables:
//! - A *physical* table has rows of one size. The log has images of the pages that change.
//! - A *logical* table has rows of any size up to its limit. The log has the rows that change.
//!
//! # What it promises
//! - **A commit is durable when it returns**, and a transaction is seen whole or not at all, also
//!   after a power loss at any point. Commits of several threads share one sync.
//! - **Exact snapshots while it is written** ([`Snapshot`]), full or of the changed pages only.
//! - **Every page read back is checked**: its checksum, its file and its number.
//!
//! # How it works
//! - `commit.rs`: a commit logs an image of each physical page that it changes, and each logical
//!   row, in the partition of the table, then the commit record. No page in a file changes at that
//!   moment: the new pages are in memory. A long transaction logs its rows before it commits.
//! - `locks.rs`: a row of a logical table that an open transaction changed is locked, because a
//!   replay goes by the order of records and not of commits.
//! - `checkpoint.rs`: a checkpoint writes those pages to the files, then states in `CONTROL` from
//!   where the log is still needed.
//! - `open.rs`: opening replays the log from that position, by the rules in `pitr-redo`. An image
//!   replaces its page whole, so pages that a crash left torn are repaired without being read.
//!   `spare.rs` does the same for logical pages, of which the log has no images.
//! - `redo.rs`: the replay of rows, for opening and for a restore. A page states which records it
//!   has.
//! - `snapshot.rs`: a snapshot reads pages while transactions go on. It states from where the log
//!   must be replayed over it.
//! - `engine.rs`: what the rest of pitr must know to restore a store.
//!
//! # What it does not do
//! It has no isolation: a read may see a commit shortly before that is durable. In a physical table
//! it has no locks: of two transactions that change a row, the later commit wins. In a logical
//! table a locked row is an error ([`Error::RowLocked`]), and there is no waiting. A restored store
//! may use the number of a transaction again that got it before the restored moment and committed
//! later. It keeps no cache of unchanged pages, and never removes a table.
//!
//! # Example
//! ```
//! use pitr_reference::Store;
//!
//! # let temp = tempfile::tempdir()?;
//! # let dir = temp.path().join("bank");
//! let store = Store::open_or_create(&dir)?;
//! let accounts = store.create_table("accounts", 8)?;
//!
//! let mut transfer = store.begin();
//! transfer.put(accounts, 7, &80_u64.to_le_bytes())?;
//! transfer.put(accounts, 9, &20_u64.to_le_bytes())?;
//! transfer.commit()?; // durable on return
//!
//! assert_eq!(store.get(accounts, 9)?, Some(20_u64.to_le_bytes().to_vec()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod checkpoint;
mod commit;
mod control;
mod engine;
mod error;
mod locks;
mod open;
mod page;
mod record;
mod redo;
mod rows;
mod snapshot;
mod spare;
mod state;
mod store;

pub use commit::Transaction;
pub use engine::ReferenceEngine;
pub use error::{Error, PageFault, Result};
pub use open::Options;
pub use page::NAME_BYTES_MAX;
pub use pitr_vfs::Env;
pub use pitr_wal::Committed;
pub use rows::{LOGICAL_ROW_BYTES_MAX, ROW_BYTES_MAX};
pub use snapshot::Snapshot;
pub use store::{Store, TableId};

#[doc = include_str!("../GUIDE.md")]
pub mod guide {}

/// The example in the README compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
