//! A simulated disk that loses power.
//!
//! [`SimFs`] is a [`crate::FileSystem`] in memory. It behaves like a page cache: written data is
//! readable at once, synced or not. It also records a [`Trace`] of every write, sync and name
//! change, in the order in which they took effect, together with the marks that a test sets by
//! [`SimFs::ack`]. From a trace, [`Survivors`] builds the disks that a power loss at any point may
//! leave, and [`SimFs::on`] starts a machine with such a disk.
//!
//! # The weakest contract of a disk
//! - Bytes written before a sync *began* survive once the sync *ended* successfully. Any subset of
//!   the other writes may survive, in any order, by sectors of [`SECTOR_BYTES`]; see [`Mode`].
//! - Name changes (create, publish, remove) survive once their folder was synced. Before that, each
//!   of them may or may not survive, in any order. A published name is never incomplete.
//! - Folders made by [`crate::FileSystem::create_dir_all`] survive from their creation, as it
//!   promises. Those made by [`crate::FileSystem::create_dir`] are names like others. A folder is
//!   removed whole or not at all.
//! - Names in a folder that were not synced before it was published or removed are lost.
//! - If the sync of a file fails, each write that it covered is either on the disk or permanently
//!   lost, and no later sync changes that. The write stays readable until the power loss. The
//!   survival of names stays open.
//!
//! For a given trace, everything here is a pure function of the cut, the mode and a seed.

mod clock;
mod content;
mod disk;
mod fs;
mod random;
mod rng;
mod survive;
mod trace;

pub use clock::SimClock;
pub use content::SECTOR_BYTES;
pub use disk::{Disk, Inode};
pub use fs::{Fault, SimFs};
pub use random::SimRandom;
pub use rng::Rng;
pub use survive::{Mode, Survivors};
pub use trace::{Op, Synced, Trace};

#[cfg(test)]
mod tests;
