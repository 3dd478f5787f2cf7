//! A small transactional store of tables, built on the crates of pitr: the worked example for teams
//! that build a storage engine. The [guide] goes through it in four steps.
//!
//! A table has rows of a fixed size, by number. Each table is a file of 4 KiB pages in the store's
//! folder. A transaction changes rows of any tables.
//!
//! # What it promises
//! - **A commit is durable when it returns**, and a transaction is seen whole or not at all, also
//!   after a power loss at any point. Commits of several threads share one sync.
//! - **Exact snapshots while it is written** ([`Snapshot`]), full or of the changed pages only.
//! - **Every page read back is checked**: its checksum, its file and its number.
//!
//! # How it works
//! - `commit.rs`: a commit logs an image of each page that it changes, in the partition of the
//!   page's table, then the commit record. No page in a file changes at that moment: the new pages
//!   are in memory.
//! - `checkpoint.rs`: a checkpoint writes those pages to the files, then states in `CONTROL` from
//!   where the log is still needed.
//! - `open.rs`: opening replays the log from that position, by the rules in `pitr-redo`. An image
//!   replaces its page whole, so pages that a crash left torn are repaired without being read.
//! - `snapshot.rs`: a snapshot reads pages while transactions go on. It states from where the log
//!   must be replayed over it.
//! - `engine.rs`: what the rest of pitr must know to restore a store.
//!
//! # What it does not do
//! It has no locks and no isolation: of two transactions that change a row, the later commit wins,
//! and a read may see a commit shortly before that is durable. Rows have one size for each table.
//! It logs no logical records, keeps no cache of unchanged pages, and never removes a table.
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
mod open;
mod page;
mod snapshot;
mod state;
mod store;

pub use commit::Transaction;
pub use engine::ReferenceEngine;
pub use error::{Error, PageFault, Result};
pub use open::Options;
pub use page::{NAME_BYTES_MAX, ROW_BYTES_MAX};
pub use pitr_vfs::Env;
pub use pitr_wal::Committed;
pub use snapshot::Snapshot;
pub use store::{Store, TableId};

#[doc = include_str!("../GUIDE.md")]
pub mod guide {}

/// The example in the README compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
