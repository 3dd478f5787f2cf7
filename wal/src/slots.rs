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

use crate::commit::{Shared, lock};
use crate::retain::Segments;
use crate::slot_file::SlotFile;
use crate::{Error, Result};
use pitr_format::Lsn;
use pitr_format::slots::{SLOT_NAME_BYTES_MAX, SLOTS_MAX, SlotEntry};
use pitr_vfs::FileSystem;
use std::collections::BTreeMap;
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
        let held = segments.slots.held.get_mut(&self.name).filter(|held| !held.is_dropped);
        held.ok_or_else(|| Error::SlotDropped { name: self.name.clone(), first })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(held) = lock(&self.shared.segments).slots.held.get_mut(&self.name) {
            held.is_claimed = false;
        }
    }
}

/// All slots of a log, and what else holds segments.
#[derive(Debug)]
pub(crate) struct Slots {
    held: BTreeMap<String, Held>,
    file: SlotFile,
    /// The engine's redo point, as it stated it last.
    redo: Lsn,
    segments_max: Option<usize>,
    /// Slots dropped so far.
    dropped: u64,
    /// What nobody was told yet.
    events: Vec<Event>,
}

#[derive(Debug)]
struct Held {
    position: Lsn,
    is_claimed: bool,
    is_dropped: bool,
    /// Position and `is_dropped`, as the file has them.
    stored: (Lsn, bool),
}

impl Slots {
    pub(crate) fn new(file: SlotFile, entries: Vec<SlotEntry>, segments_max: Option<u32>) -> Self {
        let held = entries.into_iter().map(|SlotEntry { name, position, is_dropped }| {
            (name, Held { position, is_claimed: false, is_dropped, stored: (position, is_dropped) })
        });
        let segments_max = segments_max.map(|max| max as usize);
        let (redo, events) = (Lsn::ORIGIN, Vec::new());
        Slots { held: held.collect(), file, redo, segments_max, dropped: 0, events }
    }

    pub(crate) fn state_redo(&mut self, redo: Lsn) {
        self.redo = self.redo.max(redo);
    }

    /// Everything below may go.
    pub(crate) fn floor(&self) -> Lsn {
        let holding = self.held.values().filter(|held| !held.is_dropped);
        holding.map(|held| held.position).fold(self.redo, Lsn::min)
    }

    /// True if a log of so many segments is over its cap.
    pub(crate) fn is_over(&self, segments: usize) -> bool {
        self.segments_max.is_some_and(|max| segments > max)
    }

    /// Files that may be kept beside so many segments.
    pub(crate) fn files_left(&self, segments: usize) -> usize {
        self.segments_max.map_or(usize::MAX, |max| max.saturating_sub(segments))
    }

    /// Drops the slots that keep the log over its cap. `ends` are those of the segments, in order.
    pub(crate) fn give_way(&mut self, segments: usize, ends: impl Iterator<Item = Lsn>) {
        let Some(segments_max) = self.segments_max.filter(|max| segments > *max) else { return };
        let surplus = segments - segments_max;
        let removable: Vec<Lsn> = ends.take(surplus).take_while(|end| *end <= self.redo).collect();
        if removable.len() < surplus {
            // Told once, with the latest figures, however long it lasts.
            self.events.retain(|event| !matches!(event, Event::OverCap { .. }));
            self.events.push(Event::OverCap { segments, segments_max, redo: self.redo });
        }
        if let Some(below) = removable.last() {
            self.drop_below(*below);
        }
    }

    /// Drops the slots that need something below a position, which goes or is gone.
    pub(crate) fn drop_below(&mut self, below: Lsn) {
        for (name, held) in &mut self.held {
            if !held.is_dropped && held.position < below {
                held.is_dropped = true;
                self.dropped += 1;
                self.events.push(Event::SlotDropped { name: name.clone(), position: held.position, below });
            }
        }
    }

    /// Makes durable what must be before everything below `end` is removed.
    pub(crate) fn store_before_removal(&mut self, fs: &dyn FileSystem, end: Lsn) -> Result<()> {
        let is_stale = |held: &Held| !held.stored.1 && (held.is_dropped || held.stored.0 < end);
        if self.held.values().any(is_stale) { self.store(fs) } else { Ok(()) }
    }

    fn store(&mut self, fs: &dyn FileSystem) -> Result<()> {
        let entry = |(name, held): (&String, &Held)| SlotEntry {
            name: name.clone(),
            position: held.position,
            is_dropped: held.is_dropped,
        };
        self.file.store(fs, self.held.iter().map(entry).collect())?;
        self.held.values_mut().for_each(|held| held.stored = (held.position, held.is_dropped));
        Ok(())
    }

    /// Claims the slot of this name, a new one from `from` on. `first` is where the log begins, `follows` the end of what
    /// was before.
    fn claim(&mut self, fs: &dyn FileSystem, name: &str, from: Lsn, first: Lsn, follows: Lsn) -> Result<()> {
        let slots = self.held.len();
        match self.held.get_mut(name) {
            Some(held) if held.is_claimed => return Err(Error::SlotTaken { name: name.to_owned() }),
            Some(held) if held.is_dropped => {
                return Err(Error::SlotDropped { name: name.to_owned(), first });
            }
            Some(held) => {
                held.is_claimed = true;
                return Ok(());
            }
            None if from < follows => return Err(Error::Removed { lsn: from, first }),
            None if name.is_empty() || name.len() > SLOT_NAME_BYTES_MAX || slots >= SLOTS_MAX => {
                return Err(Error::SlotRefused { name: name.to_owned() });
            }
            None => {}
        }
        let held = Held { position: from, is_claimed: true, is_dropped: false, stored: (from, false) };
        self.held.insert(name.to_owned(), held);
        self.store(fs).inspect_err(|_| drop(self.held.remove(name)))
    }

    /// Gives a slot up, durably.
    fn remove(&mut self, fs: &dyn FileSystem, name: &str) -> Result<()> {
        let Some(held) = self.held.remove(name) else { return Ok(()) };
        let stored = self.store(fs);
        if stored.is_err() {
            self.held.insert(name.to_owned(), held);
        }
        stored
    }

    /// All slots, by name.
    pub(crate) fn states(&self) -> Vec<SlotState> {
        let state = |(name, held): (&String, &Held)| SlotState {
            name: name.clone(),
            position: held.position,
            is_claimed: held.is_claimed,
            is_dropped: held.is_dropped,
        };
        self.held.iter().map(state).collect()
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    pub(crate) fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
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
    match segments.slots.held.get(name) {
        None => Ok(false),
        Some(held) if held.is_claimed => Err(Error::SlotTaken { name: name.to_owned() }),
        Some(_) => segments.slots.remove(shared.fs.as_ref(), name).map(|()| true),
    }
}
