//! A set of changed blocks of many files.
//!
//! # Invariants
//! - The set only grows: no method removes a block.
//! - The set never exceeds its memory limit. A page beyond the limit counts as changed, with
//!   everything after it in its file. If a file is beyond the limit, everything counts as changed.

use crate::effect::Effect;
use crate::file_set::{FileSet, NO_CUT, empty_page, ones};
use crate::{BlockSize, FILE_COST, LsnRange, MEMORY_BYTES_MAX, PAGE_BLOCKS, PAGE_COST};
use bit_vec::BitVec;
use pitr_format::FileId;
use pitr_format::record::Record;
use std::collections::BTreeMap;

/// The changes in a range of the log: every block with an image there, and perhaps more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// The range.
    pub range: LsnRange,
    /// The changed blocks.
    pub set: ChangeSet,
}

/// A set of changed blocks. Every block outside the set is unchanged.
#[derive(Debug, Clone)]
pub struct ChangeSet {
    whole: bool,
    files: BTreeMap<FileId, FileSet>,
    /// Memory that the set may still take, bytes.
    left: u64,
}

impl ChangeSet {
    /// An empty set.
    #[must_use]
    pub fn new() -> Self {
        ChangeSet::with_memory(MEMORY_BYTES_MAX)
    }

    /// The set of all blocks of all files.
    #[must_use]
    pub fn whole() -> Self {
        ChangeSet { whole: true, ..ChangeSet::new() }
    }

    pub(crate) fn with_memory(bytes: u64) -> Self {
        ChangeSet { whole: false, files: BTreeMap::new(), left: bytes.min(MEMORY_BYTES_MAX) }
    }

    /// The set of the changes that an epoch with this memory limit found in its files.
    pub(crate) fn from_files(memory_bytes: u64, files: impl Iterator<Item = (FileId, FileSet)>) -> Self {
        let mut set = ChangeSet::with_memory(memory_bytes);
        set.files = files.collect();
        let taken = |file: &FileSet| FILE_COST + file.pages.len() as u64 * PAGE_COST;
        set.left = set.left.saturating_sub(set.files.values().map(taken).sum());
        set
    }

    /// True if every block of every file counts as changed.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// True if the set contains no block.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.whole && self.files.is_empty()
    }

    /// The files with changes, unless [everything](Self::is_whole) changed.
    pub fn files(&self) -> impl Iterator<Item = FileId> + '_ {
        self.files.keys().copied()
    }

    /// True if the set contains this block of a file with blocks of this size.
    #[must_use]
    pub fn contains(&self, file: FileId, size: BlockSize, block: u64) -> bool {
        self.whole || self.files.get(&file).is_some_and(|set| set.contains(size, block))
    }

    /// The changed blocks, ascending, of a file with blocks of this size that is `len` bytes long
    /// now.
    pub fn blocks(&self, file: FileId, size: BlockSize, len: u64) -> impl Iterator<Item = u64> + '_ {
        let (set, end) = (self.files.get(&file), size.blocks_in(len));
        let cut = if self.whole { 0 } else { set.map_or(end, |set| set.cut_block(size)).min(end) };
        set.into_iter().flat_map(FileSet::marked).take_while(move |block| *block < cut).chain(cut..end)
    }

    /// The byte from which on everything in this file changed: at most its shortest length in the
    /// range. `None` if the file was never shorter than now.
    #[must_use]
    pub fn changed_from(&self, file: FileId) -> Option<u64> {
        let cut = self.files.get(&file).map(|set| set.changed_from).filter(|cut| *cut != NO_CUT);
        if self.whole { Some(0) } else { cut }
    }

    /// True if the set contains every block of `other`. It compares sets, not files: it may return
    /// false if both sets contain the same file with different block sizes.
    #[must_use]
    pub fn is_superset(&self, other: &ChangeSet) -> bool {
        let holds = |own: &FileSet, set: &FileSet| {
            let same_size = set.size.is_none() || own.size == set.size;
            let page = |(number, bits): (&u64, &BitVec)| {
                ones(bits)
                    .all(|bit| own.size.is_some_and(|size| own.contains(size, number * PAGE_BLOCKS + bit)))
            };
            own.changed_from == 0
                || (own.changed_from <= set.changed_from && same_size && set.pages.iter().all(page))
        };
        self.whole
            || (!other.whole
                && other
                    .files
                    .iter()
                    .all(|(file, set)| self.files.get(file).is_some_and(|own| holds(own, set))))
    }

    /// Adds a block of a file with blocks of this size.
    pub fn mark(&mut self, file: FileId, size: BlockSize, block: u64) {
        if let Some(bits) = self.page_mut(file, size, block / PAGE_BLOCKS, block) {
            bits.set((block % PAGE_BLOCKS) as usize, true);
        }
    }

    /// Adds everything in the file from byte `len` on: the file got this length.
    pub fn set_length(&mut self, file: FileId, len: u64) {
        if let Some((set, left)) = self.file_mut(file) {
            *left += set.cut(len) as u64 * PAGE_COST;
        }
    }

    /// Adds everything.
    pub fn mark_everything(&mut self) {
        self.whole = true;
        self.files.clear();
    }

    /// Adds the changes that a record of the log makes. A gap changes everything, because the
    /// changes in it were not captured.
    pub fn record(&mut self, record: &Record<'_>) {
        match Effect::of(record) {
            Effect::Block(file, size, block) => self.mark(file, size, block),
            Effect::From(file, byte) => self.set_length(file, byte),
            Effect::Everything => self.mark_everything(),
            Effect::Nothing => {}
        }
    }

    /// Adds the content of `other`.
    pub fn union(&mut self, other: &ChangeSet) {
        if other.whole {
            self.mark_everything();
        }
        for (file, set) in &other.files {
            self.set_length(*file, set.changed_from);
            let Some(size) = set.size else { continue };
            self.set_size(*file, size);
            for (number, bits) in &set.pages {
                let first = number * PAGE_BLOCKS;
                let begin = ones(bits).next().map_or(first, |bit| first + bit);
                self.union_page(*file, size, *number, begin, bits);
            }
        }
    }

    /// Adds the bits of a page. Its first set bit is block `begin`.
    pub(crate) fn union_page(&mut self, file: FileId, size: BlockSize, page: u64, begin: u64, bits: &BitVec) {
        if let Some(own) = self.page_mut(file, size, page, begin) {
            own.or(bits);
        }
    }

    pub(crate) fn set_size(&mut self, file: FileId, size: BlockSize) {
        if let Some((set, left)) = self.file_mut(file) {
            *left += set.set_size(size) as u64 * PAGE_COST;
        }
    }

    pub(crate) fn file_sets(&self) -> &BTreeMap<FileId, FileSet> {
        &self.files
    }

    /// The file's changes and the remaining memory. `None` if everything counts as changed,
    /// possibly because the memory limit was reached here.
    fn file_mut(&mut self, file: FileId) -> Option<(&mut FileSet, &mut u64)> {
        if !self.whole && !self.files.contains_key(&file) {
            match self.left.checked_sub(FILE_COST) {
                Some(left) => self.left = left,
                None => self.mark_everything(),
            }
        }
        if self.whole {
            return None;
        }
        Some((self.files.entry(file).or_insert_with(FileSet::new), &mut self.left))
    }

    /// The page for bits of blocks at or after `begin`. `None` if they all count as changed,
    /// possibly because the memory limit was reached here.
    fn page_mut(&mut self, file: FileId, size: BlockSize, page: u64, begin: u64) -> Option<&mut BitVec> {
        let (set, left) = self.file_mut(file)?;
        *left += set.set_size(size) as u64 * PAGE_COST;
        if begin >= set.cut_block(size) {
            return None;
        }
        if !set.pages.contains_key(&page) {
            match left.checked_sub(PAGE_COST) {
                Some(rest) => *left = rest,
                None => {
                    *left += set.cut(size.start_of(begin)) as u64 * PAGE_COST;
                    return None;
                }
            }
        }
        Some(set.pages.entry(page).or_insert_with(empty_page))
    }
}

impl Default for ChangeSet {
    fn default() -> Self {
        ChangeSet::new()
    }
}

/// Equal sets contain the same blocks. The reverse does not hold: sets with the same blocks may
/// differ in representation.
impl PartialEq for ChangeSet {
    fn eq(&self, other: &Self) -> bool {
        self.whole == other.whole && self.files == other.files
    }
}

impl Eq for ChangeSet {}

#[cfg(test)]
pub(crate) mod tests;
