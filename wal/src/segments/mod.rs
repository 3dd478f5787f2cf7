//! The segment files of a log: creating, recycling and removing them, and what holds them.
//!
//! [`segment`] has their names, headers and creation, [`sequence`] the rule by which each follows
//! its predecessor. [`retain`] keeps the list of local segments and removes the oldest. Slots
//! ([`slots`]) and pins ([`pin`]) hold them.

mod lock;
mod pin;
mod retain;
pub(crate) mod segment;
pub(crate) mod sequence;
mod slot_file;
mod slot_table;
pub(crate) mod slots;

pub use slots::{Event, Slot, SlotState};

pub(crate) use lock::DirLock;
pub(crate) use pin::Pin;
pub(crate) use retain::Segments;
pub(crate) use segment::Room;
pub(crate) use slot_file::SlotFile;
pub(crate) use slot_table::Slots;
