//! Writing: from the right to write to shipped log objects.
//!
//! [`claim`] takes the right to write. [`ship`] reads the durable part of a log and stores it,
//! [`pack`] builds each object, and [`index`] makes its footer. [`compact`] merges small objects.

mod claim;
mod compact;
mod index;
mod pack;
mod ship;

pub use claim::Writer;
pub use compact::{CompactOptions, Compacted, Compactor};
pub(crate) use index::{Carry, Indexer, LogIdentity};
pub use ship::{ShipOptions, Shipped, Shipper};
