//! All slots of a log: which hold segments, which are dropped at the cap, and when the slot file is
//! written. [`super::slots`] states the promises.

use super::slot_file::SlotFile;
use super::slots::{Event, SlotState};
use crate::{Error, Result};
use pitr_format::Lsn;
use pitr_format::slots::{SLOT_NAME_BYTES_MAX, SLOTS_MAX, SlotEntry};
use pitr_vfs::FileSystem;
use std::collections::BTreeMap;

/// All slots of a log, and the redo point. Together they keep segments from being removed.
#[derive(Debug)]
pub(crate) struct Slots {
    held: BTreeMap<String, Held>,
    file: SlotFile,
    /// The engine's last stated redo point.
    redo: Lsn,
    /// The checkpoints that the log keeps need everything from here on.
    checkpoints: Lsn,
    segments_max: Option<usize>,
    /// Slots dropped so far.
    dropped: u64,
    /// Events that were not reported yet.
    events: Vec<Event>,
}

/// A slot.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) position: Lsn,
    pub(crate) is_claimed: bool,
    pub(crate) is_dropped: bool,
    /// `position` and `is_dropped` as stored in the file.
    stored: (Lsn, bool),
}

impl Slots {
    pub(crate) fn new(file: SlotFile, entries: Vec<SlotEntry>, segments_max: Option<u32>) -> Self {
        let held = entries.into_iter().map(|SlotEntry { name, position, is_dropped }| {
            (name, Held { position, is_claimed: false, is_dropped, stored: (position, is_dropped) })
        });
        let segments_max = segments_max.map(|max| max as usize);
        let (redo, checkpoints, events) = (Lsn::ORIGIN, Lsn::MAX, Vec::new());
        Slots { held: held.collect(), file, redo, checkpoints, segments_max, dropped: 0, events }
    }

    /// The slot of this name.
    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut Held> {
        self.held.get_mut(name)
    }

    pub(crate) fn state_redo(&mut self, redo: Lsn) {
        self.redo = self.redo.max(redo);
    }

    /// Keeps everything from `lsn` on for checkpoints, whatever the engine states.
    pub(crate) fn keep_from(&mut self, lsn: Lsn) {
        self.checkpoints = lsn;
    }

    /// The engine and its checkpoints need nothing below this position.
    fn redo(&self) -> Lsn {
        self.redo.min(self.checkpoints)
    }

    /// Everything below this position may be removed.
    pub(crate) fn floor(&self) -> Lsn {
        let holding = self.held.values().filter(|held| !held.is_dropped);
        holding.map(|held| held.position).fold(self.redo(), Lsn::min)
    }

    /// True if a log with this number of segments is over its cap.
    pub(crate) fn is_over(&self, segments: usize) -> bool {
        self.segments_max.is_some_and(|max| segments > max)
    }

    /// Number of free files that may be kept in addition to this number of segments.
    pub(crate) fn files_left(&self, segments: usize) -> usize {
        self.segments_max.map_or(usize::MAX, |max| max.saturating_sub(segments))
    }

    /// Drops the slots that keep the log over its cap. `ends` are the ends of the segments, in
    /// order.
    pub(crate) fn give_way(&mut self, segments: usize, ends: impl Iterator<Item = Lsn>) {
        let Some(segments_max) = self.segments_max.filter(|max| segments > *max) else { return };
        let (surplus, redo) = (segments - segments_max, self.redo());
        let removable: Vec<Lsn> = ends.take(surplus).take_while(|end| *end <= redo).collect();
        if removable.len() < surplus {
            // Reported once, with the latest numbers, however long it lasts.
            self.events.retain(|event| !matches!(event, Event::OverCap { .. }));
            self.events.push(Event::OverCap { segments, segments_max, redo });
        }
        if let Some(below) = removable.last() {
            self.drop_below(*below);
        }
    }

    /// Drops the slots that need positions below this one, which are removed or about to be.
    pub(crate) fn drop_below(&mut self, below: Lsn) {
        for (name, held) in &mut self.held {
            if !held.is_dropped && held.position < below {
                held.is_dropped = true;
                self.dropped += 1;
                self.events.push(Event::SlotDropped { name: name.clone(), position: held.position, below });
            }
        }
    }

    /// Stores the slots if that is needed before everything below `end` is removed.
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

    /// Claims the slot of this name. A new slot starts at `from`. `first` is the start of the log,
    /// `follows` the end of the history before it.
    pub(crate) fn claim(
        &mut self,
        fs: &dyn FileSystem,
        name: &str,
        from: Lsn,
        first: Lsn,
        follows: Lsn,
    ) -> Result<()> {
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
        let stored = self.store(fs);
        if stored.is_err() {
            self.held.remove(name);
        }
        stored
    }

    /// Removes a slot durably.
    pub(crate) fn remove(&mut self, fs: &dyn FileSystem, name: &str) -> Result<()> {
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
