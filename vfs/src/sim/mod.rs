//! A simulated disk that loses power.
//!
//! [`SimFs`] is a [`crate::FileSystem`] in memory. It behaves like a page cache: what was written is read
//! back at once, synced or not. Beside that it records a [`Trace`] of every write, sync and change of a name,
//! in the order in which they took effect, with the marks that a test sets by [`SimFs::ack`]. From a trace,
//! [`Survivors`] builds what a power loss at any point of it may have left on the disk, and [`SimFs::on`]
//! starts a machine on that.
//!
//! # The disk's contract, at its weakest
//! - Synced bytes survive: those written before a sync *began*, once it *ended* well. Any part of the others
//!   may survive, in any order, by sectors of [`SECTOR_BYTES`]; see [`Mode`].
//! - Names (created, published, removed) survive once their folder was synced; before that each of them may
//!   or may not, in any order. A published name is never half there. Folders survive from their creation, as
//!   [`crate::FileSystem::create_dir_all`] promises.
//! - When the sync of a file fails, each write that it should have made durable is on the disk or lost for
//!   good, and no later sync changes that; it can still be read until the power is lost. Names stay in doubt.
//!
//! Given a trace, everything here is a pure function of the cut, the mode and a seed.

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
