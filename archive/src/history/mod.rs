//! What can be restored, by the names of objects alone.
//!
//! [`catalog`] decides which objects count, [`lineage`] is the way from the first timeline to one
//! of them, and [`intervals`] tells which states on it can be restored, and why not the others.

mod catalog;
mod cover;
mod intervals;
mod lineage;

pub use catalog::{Catalog, Found};
pub use intervals::{Base, Cause, Coverage, Gap, Interval, Run, Start, coverage, reaches, runs, start_for};
pub use lineage::{Leg, Lineage, Piece};
