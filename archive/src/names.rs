//! The names of the archive's objects, as values. [`crate::layout`] writes and reads their paths.

use pitr_format::{Epoch, Lsn, TimelineId};
use std::fmt;

/// Bytes of a restored state's mark.
pub(crate) const MARK_BYTES: usize = 16;

/// The name of a log object: its range of a timeline's log, and its writer.
///
/// Names sort by timeline, then by position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogName {
    /// Timeline that the range belongs to.
    pub timeline: TimelineId,
    /// Start of the range: the end of the previous one, unless there is a gap between the two.
    pub from: Lsn,
    /// End of the last batch of the range.
    pub to: Lsn,
    /// The writer.
    pub epoch: Epoch,
}

impl fmt::Display for LogName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "log/{:08x}/{:016x}/{:016x}-{:016x}",
            self.timeline.get(),
            self.epoch.get(),
            self.from.get(),
            self.to.get()
        )
    }
}

/// A range of a timeline's log whose objects were removed by retention, or are about to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PrunedRange {
    /// The timeline.
    pub timeline: TimelineId,
    /// Start of the first object.
    pub from: Lsn,
    /// End of the last object.
    pub to: Lsn,
}

impl PrunedRange {
    /// True if the object lies in the range.
    #[must_use]
    pub fn holds(&self, name: &LogName) -> bool {
        name.timeline == self.timeline && self.from <= name.from && name.to <= self.to
    }
}

impl fmt::Display for PrunedRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}/{:016x}-{:016x}", self.timeline.get(), self.from.get(), self.to.get())
    }
}

/// The name of a restored state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RestoredName {
    /// Derived from the fingerprint; keyed in an encrypted repository.
    pub mark: [u8; MARK_BYTES],
    /// The timeline of the state.
    pub timeline: TimelineId,
    /// Its position.
    pub lsn: Lsn,
}

impl fmt::Display for RestoredName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:08x}-{:016x}", digits(&self.mark), self.timeline.get(), self.lsn.get())
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The name of an object of a source's archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Name {
    /// History of a timeline.
    Timeline(TimelineId),
    /// Claim of a writer.
    Claim(Epoch),
    /// Fence of a writer.
    Fence(Epoch),
    /// A range of the log.
    Log(LogName),
    /// A range of the log that retention removed.
    Pruned(PrunedRange),
    /// The place of the source.
    Origin(Epoch),
    /// A restored state.
    Restored(RestoredName),
}
