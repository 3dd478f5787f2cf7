//! Point-in-time recovery: the facade of the pitr crates.
//!
//! [`Pitr`] is an open repository: it watches databases, takes snapshots, lists the states that can
//! be restored, and restores them. It re-exports the crates below it, which storage engines can
//! also use one by one.
//!
//! The library has no command line. The program `pitr` is the crate `pitr-cli`.
//!
//! ```no_run
//! use pitr::format::TxId;
//! use pitr::recovery::Target;
//! use pitr::{Pitr, PitrConfig};
//!
//! # fn main() -> Result<(), pitr::Error> {
//! let pitr = Pitr::init(&PitrConfig::at("/srv/backup"))?;
//! let watching = pitr.watch("/srv/shop/shop.db")?; // applications go on writing
//! watching.stop()?;
//!
//! let shop = pitr.only_source()?;
//! for transaction in pitr.history(&shop, None)?.transactions() {
//!     println!("{}", transaction?.commit.tx);
//! }
//! let restored = pitr.restore_to(&shop, &Target::at(TxId::new(7)), "/srv/shop/restored.db")?;
//! println!("restored {}", restored.reached());
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod config;
mod engines;
mod error;
mod facade;
mod live;
mod metadata;
mod native;
mod near;
mod options;
mod rehearsal;
mod up_to_date;
mod validation;
mod watching;

pub use config::{ConfigError, PitrConfig};
pub use error::{Error, Result};
pub use facade::Pitr;
pub use live::LiveOptions;
pub use metadata::{BackupMetadata, Backups};
pub use native::{AttachOptions, AttachState, Attached, Hint, ShipFailure};
pub use options::PruneOptions;
pub use rehearsal::RehearsalRequest;
pub use validation::{Round, ValidationOptions};
pub use watching::Watching;

/// The example in the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub use pitr_archive as archive;
pub use pitr_codec as codec;
pub use pitr_dedup as dedup;
#[cfg(feature = "directory")]
pub use pitr_directory as directory;
pub use pitr_engine as engine;
pub use pitr_format as format;
pub use pitr_objects as objects;
pub use pitr_prune as prune;
pub use pitr_recovery as recovery;
pub use pitr_snapshot as snapshot;
#[cfg(feature = "sqlite")]
pub use pitr_sqlite as sqlite;
#[cfg(feature = "sqlite")]
pub use pitr_sqlite::exact;
pub use pitr_tracker as tracker;
pub use pitr_verify as verify;
pub use pitr_vfs as vfs;
pub use pitr_wal as wal;
