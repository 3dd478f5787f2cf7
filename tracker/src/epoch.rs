//! One epoch of the live bitmap: the changed blocks of all files since it began.
//!
//! # Layout
//! The epoch holds the first 8 files directly, and the others in a tree keyed by the four bytes of
//! their number. As in a file, each part is allocated on first use and never moves, so a lookup
//! takes no lock.

use crate::effect::Effect;
use crate::live::LiveFile;
use crate::page::set_all;
use crate::slot::{Budget, Node, Slot, empty_node};
use crate::{BlockSize, ChangeSet, FILE_COST};
use pitr_format::FileId;
use pitr_format::record::Record;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

const NEAR_FILES: usize = 8;
const FAN: usize = 256;
/// Size of a node of the tree, bytes.
const NODE_COST: u64 = (FAN * size_of::<Slot<LiveFile>>()) as u64;

type Leaf = Node<LiveFile, FAN>;
type Third = Node<Leaf, FAN>;
type Second = Node<Third, FAN>;

/// The changes of all files; see the module documentation.
#[derive(Debug)]
pub(crate) struct Epoch {
    near: [Slot<LiveFile>; NEAR_FILES],
    far: Node<Second, FAN>,
    whole: AtomicBool,
    memory_bytes: u64,
    budget: Arc<Budget>,
}

impl Epoch {
    pub(crate) fn new(memory_bytes: u64) -> Self {
        Epoch {
            near: [const { OnceLock::new() }; NEAR_FILES],
            far: [const { OnceLock::new() }; FAN],
            whole: AtomicBool::new(false),
            memory_bytes,
            budget: Arc::new(Budget::new(memory_bytes)),
        }
    }

    /// The bits of the file, allocated on first use. Returns `None` if the memory limit is reached;
    /// then everything counts as changed.
    pub(crate) fn file(&self, file: FileId) -> Option<&LiveFile> {
        let live = self.make_file(file);
        if live.is_none() {
            self.mark_everything();
        }
        live
    }

    fn make_file(&self, file: FileId) -> Option<&LiveFile> {
        let budget = &self.budget;
        let slot = match self.near.get(file.get() as usize) {
            Some(near) => near,
            None => {
                let [a, b, c, d] = file.get().to_be_bytes().map(usize::from);
                let second = budget.fill(&self.far[a], NODE_COST, empty_node)?;
                let third = budget.fill(&second[b], NODE_COST, empty_node)?;
                &budget.fill(&third[c], NODE_COST, empty_node)?[d]
            }
        };
        budget.fill(slot, FILE_COST, || Box::new(LiveFile::new(Arc::clone(budget))))
    }

    /// Marks the changes that a record of the log makes.
    pub(crate) fn record(&self, record: &Record<'_>) {
        self.apply(Effect::of(record));
    }

    pub(crate) fn apply(&self, effect: Effect) {
        match effect {
            Effect::Block(file, size, block) => self.mark(file, size, block),
            Effect::From(file, byte) => self.set_length(file, byte),
            Effect::Everything => self.mark_everything(),
            Effect::Nothing => {}
        }
    }

    fn mark(&self, file: FileId, size: BlockSize, block: u64) {
        if let Some(live) = self.file_of_size(file, size) {
            live.mark(block);
        }
    }

    /// Marks these blocks as changed.
    pub(crate) fn mark_all(&self, blocks: &[(FileId, BlockSize, u64)]) {
        set_all(
            blocks.iter().filter_map(|(file, size, block)| self.file_of_size(*file, *size)?.unset(*block)),
        );
    }

    /// Like [`Epoch::file`], and sets the block size.
    pub(crate) fn file_of_size(&self, file: FileId, size: BlockSize) -> Option<&LiveFile> {
        let live = self.file(file)?;
        live.set_size(size);
        Some(live)
    }

    /// Marks everything from byte `len` on as changed: the file got this length.
    pub(crate) fn set_length(&self, file: FileId, len: u64) {
        if let Some(live) = self.file(file) {
            live.cut(len);
        }
    }

    /// Marks everything as changed.
    pub(crate) fn mark_everything(&self) {
        self.whole.store(true, Relaxed);
    }

    /// Marks changes that are already known.
    pub(crate) fn mark_known(&self, known: &ChangeSet) {
        if known.is_whole() {
            self.mark_everything();
        }
        for (file, set) in known.file_sets() {
            let Some(live) = self.file(*file) else { return };
            live.cut(set.changed_from);
            if let Some(size) = set.size {
                live.set_size(size);
                for block in set.marked() {
                    live.mark(block);
                }
            }
        }
    }

    /// The changes of the epoch.
    pub(crate) fn to_set(&self) -> ChangeSet {
        if self.whole.load(Relaxed) {
            return ChangeSet::whole();
        }
        ChangeSet::from_files(self.memory_bytes, self.files().map(|(file, live)| (file, live.to_set())))
    }

    fn files(&self) -> impl Iterator<Item = (FileId, &LiveFile)> {
        let near = filled(&self.near, 0);
        let leaves = filled(&self.far, 0)
            .flat_map(|(a, second)| filled(second, a))
            .flat_map(|(ab, third)| filled(third, ab));
        let far = leaves.flat_map(|(abc, leaf)| filled(leaf, abc));
        near.chain(far).map(|(number, live)| (FileId::new(number), live))
    }
}

/// The filled slots of a table, each with its number: the number of the table, extended by one
/// byte.
fn filled<T>(slots: &[Slot<T>], table: u32) -> impl Iterator<Item = (u32, &T)> {
    let made = slots.iter().enumerate().filter_map(|(place, slot)| Some((place, slot.get()?)));
    made.map(move |(place, part)| (table * FAN as u32 + place as u32, part.as_ref()))
}

#[cfg(test)]
mod tests;
