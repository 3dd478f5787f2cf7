//! Where set-lengths cut a file.

use pitr_format::Lsn;

/// The set-lengths of one file that matter: those that no later set-length undercuts. Lengths
/// therefore ascend with their LSNs, and the shortest length after a position is the first one
/// after it.
///
/// Takes set-lengths in any order; adding one in ascending order of LSNs moves no other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cuts {
    /// LSN of the record and the length that it sets, bytes. Both ascend strictly.
    steps: Vec<(Lsn, u64)>,
}

impl Cuts {
    /// No set-length.
    #[must_use]
    pub const fn new() -> Self {
        Cuts { steps: Vec::new() }
    }

    /// Adds the set-length record at `lsn`; `len` is in bytes.
    pub fn set_length(&mut self, lsn: Lsn, len: u64) {
        let next = self.after(lsn);
        if self.steps.get(next).is_some_and(|(_, later)| *later <= len) {
            return;
        }
        let kept = self.steps[..next].partition_point(|(_, earlier)| *earlier < len);
        if next == self.steps.len() {
            self.steps.truncate(kept);
            self.steps.push((lsn, len));
        } else {
            self.steps.splice(kept..next, [(lsn, len)]);
        }
    }

    /// Adds the set-lengths of `other`, which may lie before, between and after these.
    pub fn join(&mut self, other: &Cuts) {
        let mut added = other.steps.iter().peekable();
        let Some((first, _)) = added.peek() else { return };
        // The ends of both lists ascend: merging them adds only at the end of this one.
        for (lsn, len) in self.steps.split_off(self.after(*first)) {
            while let Some((earlier, cut)) = added.next_if(|(earlier, _)| *earlier < lsn) {
                self.set_length(*earlier, *cut);
            }
            self.set_length(lsn, len);
        }
        added.for_each(|(lsn, len)| self.set_length(*lsn, *len));
    }

    /// Removes the set-lengths before `from`.
    pub fn discard_before(&mut self, from: Lsn) {
        self.steps.drain(..self.after(from));
    }

    /// True if no length was set.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The shortest length that was set at or after `lsn`, bytes; [`u64::MAX`] if none was.
    #[inline]
    #[must_use]
    pub fn shortest_after(&self, lsn: Lsn) -> u64 {
        self.steps.get(self.after(lsn)).map_or(u64::MAX, |(_, len)| *len)
    }

    /// The shortest length that was set, bytes; [`u64::MAX`] if none was.
    #[must_use]
    pub fn shortest(&self) -> u64 {
        self.steps.first().map_or(u64::MAX, |(_, len)| *len)
    }

    /// The last length that was set, bytes.
    #[must_use]
    pub fn last(&self) -> Option<u64> {
        self.steps.last().map(|(_, len)| *len)
    }

    /// Drops all but the shortest and the last length. For a pass that goes newest first: every
    /// further record is older than these set-lengths, so the lengths between them no longer
    /// matter.
    pub fn keep_for_older(&mut self) {
        if self.steps.len() > 2 {
            self.steps.drain(1..self.steps.len() - 1);
        }
    }

    /// Index of the first set-length at or after `lsn`.
    #[inline]
    fn after(&self, lsn: Lsn) -> usize {
        match self.steps.last() {
            Some((last, _)) if *last >= lsn => self.steps.partition_point(|(at, _)| *at < lsn),
            _ => self.steps.len(),
        }
    }
}
