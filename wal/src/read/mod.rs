//! Reading: batches and records of a log, each checked, from files or in place.
//!
//! [`place`] has the checks between two batches. [`cursor`] applies them to a file, window by
//! window, and [`sealed`] to a segment in memory. [`reader`] reads batch by batch, [`log_scan`]
//! segment by segment, also by several threads (`fold`). [`records`] assembles records from
//! fragments, [`find`] finds commits by the segments' indexes.

mod chain;
mod cursor;
mod find;
#[cfg(feature = "parallel")]
mod fold;
mod log_scan;
mod place;
mod reader;
mod records;
mod sealed;
mod window;

pub use log_scan::LogScan;
pub use reader::{LogBatch, LogReader};
pub use records::Records;
pub use sealed::{Batches, SealedSegment};

pub(crate) use cursor::Cursor;
#[cfg(feature = "parallel")]
pub(crate) use log_scan::Seams;
pub(crate) use place::{Fault, Found, Reach};
#[cfg(feature = "parallel")]
pub(crate) use records::Seam;
