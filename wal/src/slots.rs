//! Who still needs the log from where on, and what gives way when it may not grow any more.
//!
//! The engine states its redo point with every removal; others, an archiver, a replica, a snapshot, hold a [`Slot`] each.
//! Nothing at or above the lowest of these positions is removed. With [`WalOptions::segments_max`](crate::WalOptions)
//! the slots that stand in the way of the cap are dropped, the redo point never: an archive that can't be reached must not
//! fill the disk, and a log that the engine itself needs must not go.
//!
//! Slots live as long as the open log: whoever needs one takes it before the engine removes anything.

use crate::commit::{Shared, lock};
use crate::retain::Segments;
use crate::{Error, Result};
use pitr_format::Lsn;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Something that nobody asked for and somebody must know.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The log reached its cap and a slot stood in the way: its holder no longer gets what it didn't have.
    SlotDropped {
        /// The slot's name.
        name: String,
        /// What its holder needed from here on.
        position: Lsn,
        /// The end of what may be removed now.
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

/// A claim on the log from a position on; dropping it gives the claim up.
#[derive(Debug)]
pub struct Slot {
    shared: Arc<Shared>,
    number: u64,
    name: String,
}

impl Slot {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its holder needs from here on; [`Error::SlotDropped`] if the log gave it up at its cap.
    pub fn position(&self) -> Result<Lsn> {
        let segments = lock(&self.shared.segments);
        segments.slots.held.get(&self.number).map(|held| held.position).ok_or_else(|| self.dropped(&segments))
    }

    /// States that everything below `to` is no longer needed; a position below the present one changes nothing.
    /// [`Error::SlotDropped`] if the log gave the slot up.
    pub fn advance(&self, to: Lsn) -> Result<()> {
        let mut segments = lock(&self.shared.segments);
        match segments.slots.held.get_mut(&self.number) {
            Some(held) => held.position = held.position.max(to),
            None => return Err(self.dropped(&segments)),
        }
        Ok(())
    }

    fn dropped(&self, segments: &Segments) -> Error {
        Error::SlotDropped { name: self.name.clone(), first: segments.first() }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        lock(&self.shared.segments).slots.held.remove(&self.number);
    }
}

/// All slots of a log, and what else holds segments.
#[derive(Debug)]
pub(crate) struct Slots {
    held: BTreeMap<u64, Held>,
    /// Slots taken so far.
    taken: u64,
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
    name: String,
    position: Lsn,
}

impl Slots {
    pub(crate) fn new(segments_max: Option<u32>) -> Self {
        let segments_max = segments_max.map(|max| max as usize);
        Slots {
            held: BTreeMap::new(),
            taken: 0,
            redo: Lsn::ORIGIN,
            segments_max,
            dropped: 0,
            events: Vec::new(),
        }
    }

    pub(crate) fn state_redo(&mut self, redo: Lsn) {
        self.redo = self.redo.max(redo);
    }

    /// Everything below may go.
    pub(crate) fn floor(&self) -> Lsn {
        self.held.values().map(|held| held.position).fold(self.redo, Lsn::min)
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
        let Some(below) = removable.last().copied() else { return };
        for (_, Held { name, position }) in self.held.extract_if(.., |_, held| held.position < below) {
            self.dropped += 1;
            self.events.push(Event::SlotDropped { name, position, below });
        }
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    pub(crate) fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }
}

/// See [`crate::Wal::slot`].
pub(crate) fn take(shared: &Arc<Shared>, name: &str, from: Lsn) -> Result<Slot> {
    let mut segments = lock(&shared.segments);
    let first = segments.first();
    if from < segments.follows() {
        return Err(Error::Removed { lsn: from, first });
    }
    if segments.slots.held.values().any(|held| held.name == name) {
        return Err(Error::SlotTaken { name: name.to_owned() });
    }
    segments.slots.taken += 1;
    let (number, name) = (segments.slots.taken, name.to_owned());
    segments.slots.held.insert(number, Held { name: name.clone(), position: from });
    Ok(Slot { shared: Arc::clone(shared), number, name })
}
