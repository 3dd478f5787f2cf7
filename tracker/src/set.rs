//! What changed: a set of blocks of many files.
//!
//! # Invariants
//! - It only ever grows: every method leaves what was in it.
//! - It never takes more than its share of memory. A page that has no room any more, and everything behind
//!   it in its file, counts as changed; if a file has no room, everything does.

use crate::effect::Effect;
use crate::file_set::{FileSet, NO_CUT, empty_page, ones};
use crate::{BlockSize, FILE_COST, LsnRange, MEMORY_BYTES_MAX, PAGE_BLOCKS, PAGE_COST};
use bit_vec::BitVec;
use pitr_format::FileId;
use pitr_format::record::Record;
use std::collections::BTreeMap;

/// What changed in a range of the log: every block with an image there, and perhaps more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// The range.
    pub range: LsnRange,
    /// What changed.
    pub set: ChangeSet,
}

/// A set of changed blocks. What it doesn't contain is unchanged.
#[derive(Debug, Clone)]
pub struct ChangeSet {
    whole: bool,
    files: BTreeMap<FileId, FileSet>,
    /// Memory that may still be taken, bytes.
    left: u64,
}

impl ChangeSet {
    /// Nothing changed.
    #[must_use]
    pub fn new() -> Self {
        ChangeSet::with_memory(MEMORY_BYTES_MAX)
    }

    /// Everything changed.
    #[must_use]
    pub fn whole() -> Self {
        ChangeSet { whole: true, ..ChangeSet::new() }
    }

    pub(crate) fn with_memory(bytes: u64) -> Self {
        ChangeSet { whole: false, files: BTreeMap::new(), left: bytes.min(MEMORY_BYTES_MAX) }
    }

    /// What an epoch with this much memory found in its files.
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

    /// True if nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.whole && self.files.is_empty()
    }

    /// The files in which something changed, unless [everything](Self::is_whole) did.
    pub fn files(&self) -> impl Iterator<Item = FileId> + '_ {
        self.files.keys().copied()
    }

    /// True if this block of a file with blocks of this size changed.
    #[must_use]
    pub fn contains(&self, file: FileId, size: BlockSize, block: u64) -> bool {
        self.whole || self.files.get(&file).is_some_and(|set| set.contains(size, block))
    }

    /// The changed blocks of a file that has blocks of this size and is `len` bytes long now, ascending.
    pub fn blocks(&self, file: FileId, size: BlockSize, len: u64) -> impl Iterator<Item = u64> + '_ {
        let (set, end) = (self.files.get(&file), size.blocks_in(len));
        let cut = if self.whole { 0 } else { set.map_or(end, |set| set.cut_block(size)).min(end) };
        set.into_iter().flat_map(FileSet::marked).take_while(move |block| *block < cut).chain(cut..end)
    }

    /// The byte from which on everything in this file changed: at most the shortest length that it had. `None`
    /// when it never had less than it has now.
    #[must_use]
    pub fn changed_from(&self, file: FileId) -> Option<u64> {
        let cut = self.files.get(&file).map(|set| set.changed_from).filter(|cut| *cut != NO_CUT);
        if self.whole { Some(0) } else { cut }
    }

    /// True if it contains what `other` does. What is compared are sets, not files: it may say no when both
    /// speak of the same file with different block sizes.
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

    /// A block of a file with blocks of this size changed.
    pub fn mark(&mut self, file: FileId, size: BlockSize, block: u64) {
        if let Some(bits) = self.page_mut(file, size, block / PAGE_BLOCKS, block) {
            bits.set((block % PAGE_BLOCKS) as usize, true);
        }
    }

    /// The file got this length, bytes: from there on nothing is as it was.
    pub fn set_length(&mut self, file: FileId, len: u64) {
        if let Some((set, left)) = self.file_mut(file) {
            *left += set.cut(len) as u64 * PAGE_COST;
        }
    }

    /// Everything changed, or may have.
    pub fn mark_everything(&mut self) {
        self.whole = true;
        self.files.clear();
    }

    /// What a record of the log changes. A gap changes everything: what was done in it was not seen.
    pub fn record(&mut self, record: &Record<'_>) {
        match Effect::of(record) {
            Effect::Block(file, size, block) => self.mark(file, size, block),
            Effect::From(file, byte) => self.set_length(file, byte),
            Effect::Everything => self.mark_everything(),
            Effect::Nothing => {}
        }
    }

    /// Takes in what `other` contains.
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

    /// Takes in the bits of a page, of which the first that is set stands for block `begin`.
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

    /// The file's changes and the memory left. `None` if everything counts as changed, from now on perhaps.
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

    /// A page to set bits in, none of them for a block below `begin`. `None` if all that counts as changed
    /// anyway, from now on perhaps.
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

/// Equal sets contain the same. Sets that contain the same and tell it in other ways are not equal.
impl PartialEq for ChangeSet {
    fn eq(&self, other: &Self) -> bool {
        self.whole == other.whole && self.files == other.files
    }
}

impl Eq for ChangeSet {}

#[cfg(test)]
pub(crate) mod tests;
