//! Who still needs the log from where on, and what gives way when it may not grow any more.
//!
//! The engine states its redo point with every removal; others, an archiver or a replica, hold a [`Slot`] each. Nothing
//! at or above the lowest of these positions is removed. With [`WalOptions::segments_max`](crate::WalOptions) the slots
//! that keep the log over its cap are dropped, the redo point never: an archive that can't be reached must not fill the
//! disk, and a log that the engine itself needs must not go.
//!
//! # Durability
//! A slot outlives the process: it is on disk before [`crate::Wal::slot`] returns, and goes only by [`Slot::release`],
//! [`crate::Wal::drop_slot`] or the cap. Its position is written before segments below it are removed, not with every
//! [`Slot::advance`]: after a crash a slot may hold more than its holder needs, never less. That a slot was dropped is
//! written before anything is removed for it, so its holder is told also after a restart.

use super::retain::Segments;
use super::slot_table::Held;
use crate::shared::{lock, Shared};
use crate::{Error, Result};
use pitr_format::Lsn;
use std::sync::Arc;

/// Something that nobody asked for and somebody must know.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A slot no longer holds the log: the log reached its cap, or segment files below it were deleted while the log was
    /// closed. Its holder no longer gets what it didn't have.
    SlotDropped {
        /// The slot's name.
        name: String,
        /// What its holder needed from here on.
        position: Lsn,
        /// The end of what may be removed now, or is gone.
        below: Lsn,
    },
    /// The log is over its cap, and only the engine's redo point keeps it there.
    OverCap {
        /// Segments held.
        segments: usize,
        /// The cap.
        segments_max: usize,
        /// The redo point that the engine stated last.
        redo: Lsn,
    },
}

/// What is known of a slot; see [`crate::Wal::slots`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotState {
    /// Its name.
    pub name: String,
    /// Its holder needs the log from here on.
    pub position: Lsn,
    /// True if a [`Slot`] of it is held in this process.
    pub is_claimed: bool,
    /// True if the log no longer keeps what the holder needs.
    pub is_dropped: bool,
}

/// A claim on the log from a position on. Dropping the value ends this process's use of the slot and nothing else: the
/// log is kept for the slot until [`Slot::release`] or [`crate::Wal::drop_slot`].
#[derive(Debug)]
pub struct Slot {
    shared: Arc<Shared>,
    name: String,
}

impl Slot {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its holder needs from here on.
    ///
    /// # Errors
    /// [`Error::SlotDropped`] if the log gave the slot up at its cap.
    pub fn position(&self) -> Result<Lsn> {
        let mut segments = lock(&self.shared.segments);
        self.held(&mut segments).map(|held| held.position)
    }

    /// States that everything below `to` is no longer needed; a position below the present one changes nothing.
    ///
    /// # Errors
    /// [`Error::SlotDropped`] if the log gave the slot up at its cap.
    pub fn advance(&self, to: Lsn) -> Result<()> {
        let mut segments = lock(&self.shared.segments);
        let held = self.held(&mut segments)?;
        held.position = held.position.max(to);
        Ok(())
    }

    /// Gives the slot up, durably. Also for one that was dropped.
    ///
    /// # Errors
    /// [`Error::Io`]; the slot then stays, and can be given up by [`crate::Wal::drop_slot`].
    pub fn release(self) -> Result<()> {
        let mut segments = lock(&self.shared.segments);
        segments.slots.remove(self.shared.fs.as_ref(), &self.name)
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
    segments.slots.claim(shared.fs.as_ref(), name, from, first, follows)?;
    Ok(Slot { shared: Arc::clone(shared), name: name.to_owned() })
}

/// See [`crate::Wal::drop_slot`].
pub(crate) fn give_up(shared: &Shared, name: &str) -> Result<bool> {
    let mut segments = lock(&shared.segments);
    match segments.slots.get_mut(name) {
        None => Ok(false),
        Some(held) if held.is_claimed => Err(Error::SlotTaken { name: name.to_owned() }),
        Some(_) => segments.slots.remove(shared.fs.as_ref(), name).map(|()| true),
    }
}
