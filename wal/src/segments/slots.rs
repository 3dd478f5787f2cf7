//! Slots: named positions that keep the log from being removed.
//!
//! The engine states its redo point with every removal. Other readers, such as an archiver or a
//! replica, hold a [`Slot`] each. Nothing at or above the lowest of these positions is removed.
//! With [`WalOptions::segments_max`](crate::WalOptions) the slots that keep the log over its cap
//! are dropped, but never the redo point: an unreachable archive must not fill the disk, and the
//! log that the engine itself needs must stay.
//!
//! # Durability
//! A slot outlives the process. It is on disk before [`crate::Wal::slot`] returns, and only
//! [`Slot::release`], [`crate::Wal::drop_slot`] or the cap removes it. Its position is written
//! before segments below it are removed, not with every [`Slot::advance`]: after a crash a slot may
//! hold more than its holder needs, never less. A drop is written before any segment is removed
//! because of it, so the holder learns of it after a restart too.

use super::retain::Segments;
use super::slot_table::Held;
use crate::shared::{Shared, lock};
use crate::{Error, Result};
use pitr_format::Lsn;
use std::sync::Arc;

/// Something that happened without a call, and that the engine should know.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A slot was dropped: the log reached its cap, or segment files were deleted from outside
    /// while the log was closed. The holder can no longer read the log without a gap.
    SlotDropped {
        /// The slot's name.
        name: String,
        /// First position that the slot's holder still needed.
        position: Lsn,
        /// Everything below this position may now be removed, or is missing.
        below: Lsn,
    },
    /// The log is over its cap because of the engine's redo point alone.
    OverCap {
        /// Number of segments.
        segments: usize,
        /// The cap.
        segments_max: usize,
        /// The engine's last stated redo point.
        redo: Lsn,
    },
}

/// State of a slot; see [`crate::Wal::slots`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotState {
    /// Name of the slot.
    pub name: String,
    /// First position that the slot's holder needs.
    pub position: Lsn,
    /// True if this process holds the [`Slot`].
    pub is_claimed: bool,
    /// True if the log no longer keeps the positions that the slot's holder needs.
    pub is_dropped: bool,
}

/// A claim on the log from a position on. Dropping the value only ends this process's use of the
/// slot: the log is kept for it until [`Slot::release`] or [`crate::Wal::drop_slot`].
#[derive(Debug)]
pub struct Slot {
    shared: Arc<Shared>,
    name: String,
}

impl Slot {
    /// Name of the slot.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// First position that the slot's holder needs.
    ///
    /// # Errors
    /// [`Error::SlotDropped`] if the log dropped the slot at its cap.
    pub fn position(&self) -> Result<Lsn> {
        let mut segments = lock(&self.shared.segments);
        self.held(&mut segments).map(|held| held.position)
    }

    /// States that the holder no longer needs anything below `to`. A position below the current one
    /// changes nothing.
    ///
    /// # Errors
    /// [`Error::SlotDropped`] if the log dropped the slot at its cap.
    pub fn advance(&self, to: Lsn) -> Result<()> {
        let mut segments = lock(&self.shared.segments);
        let held = self.held(&mut segments)?;
        held.position = held.position.max(to);
        Ok(())
    }

    /// Removes the slot durably, also one that was dropped.
    ///
    /// # Errors
    /// [`Error::Io`]; the slot then stays, and [`crate::Wal::drop_slot`] can remove it.
    pub fn release(self) -> Result<()> {
        let mut segments = lock(&self.shared.segments);
        segments.slots.remove(self.shared.env.fs.as_ref(), &self.name)
    }

    fn held<'a>(&self, segments: &'a mut Segments) -> Result<&'a mut Held> {
        let first = segments.first();
        let held = segments.slots.get_mut(&self.name).filter(|held| !held.is_dropped);
        held.ok_or_else(|| Error::SlotDropped { name: self.name.clone(), first })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(held) = lock(&self.shared.segments).slots.get_mut(&self.name) {
            held.is_claimed = false;
        }
    }
}

/// See [`crate::Wal::slot`].
pub(crate) fn claim(shared: &Arc<Shared>, name: &str, from: Lsn) -> Result<Slot> {
    let mut segments = lock(&shared.segments);
    let (first, follows) = (segments.first(), segments.follows());
    segments.slots.claim(shared.env.fs.as_ref(), name, from, first, follows)?;
    Ok(Slot { shared: Arc::clone(shared), name: name.to_owned() })
}

/// See [`crate::Wal::drop_slot`].
pub(crate) fn give_up(shared: &Shared, name: &str) -> Result<bool> {
    let mut segments = lock(&shared.segments);
    match segments.slots.get_mut(name) {
        None => Ok(false),
        Some(held) if held.is_claimed => Err(Error::SlotTaken { name: name.to_owned() }),
        Some(_) => segments.slots.remove(shared.env.fs.as_ref(), name).map(|()| true),
    }
}
