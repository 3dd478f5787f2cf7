//! What a power loss leaves.
//!
//! [`Survivors`] walks over a trace. Behind it lies one disk with all that is durable by then, and a short
//! list of what was issued and is not; a surviving disk is a copy of the one with a choice from the other.
//! Copies share their pages, so that building a disk costs what is in doubt, not what the disk holds.

use super::disk::Disk;
use super::rng::Rng;
use super::trace::{Op, Synced, Trace};

/// What becomes of that which was issued before the cut and not made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// All of it is lost.
    Synced,
    /// All of it survives.
    Prefix,
    /// Each op survives whole or not at all, as the seed says; survivors take effect in order.
    Subset,
    /// As [`Mode::Subset`], with the survivors in another order.
    Reordered,
    /// As [`Mode::Subset`], with some writes in only some of their sectors.
    TornSector,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Mode; 5] = [Mode::Synced, Mode::Prefix, Mode::Subset, Mode::Reordered, Mode::TornSector];
}

/// Builds the disks that a power loss may leave, cut by cut. See the module's head.
#[derive(Debug)]
pub struct Survivors<'a> {
    trace: &'a Trace,
    cut: usize,
    durable: Disk,
    /// Places in the trace of what may be lost, in order.
    pending: Vec<usize>,
}

impl<'a> Survivors<'a> {
    /// Stands before the first op.
    #[must_use]
    pub fn new(trace: &'a Trace) -> Self {
        Survivors { trace, cut: 0, durable: trace.base.clone(), pending: Vec::new() }
    }

    /// Stands where the power is lost after `cut` ops.
    #[must_use]
    pub fn at(trace: &'a Trace, cut: usize) -> Self {
        let mut survivors = Survivors::new(trace);
        while survivors.cut < cut && survivors.advance().is_some() {}
        survivors
    }

    /// Number of ops before the cut.
    #[must_use]
    pub fn cut(&self) -> usize {
        self.cut
    }

    /// Number of ops whose fate is open.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Moves the cut behind the next op and returns that op.
    pub fn advance(&mut self) -> Option<&'a Op> {
        let op = self.trace.ops.get(self.cut)?;
        match op {
            Op::Sync { what, began, worked } => {
                // A failed sync leaves each write on the disk or lost for good, and the names in doubt.
                let decided = *worked || matches!(what, Synced::File(_));
                let mut coin = Rng::new(self.cut as u64);
                let (ops, durable) = (&self.trace.ops, &mut self.durable);
                let mut ended = Vec::new();
                self.pending.retain(|place| {
                    let covered = decided && place < began && ops[*place].belongs_to(what);
                    if covered && (*worked || coin.once_in(2)) {
                        durable.apply(&ops[*place]);
                        ended.extend(ops[*place].ends_folder().map(|folder| (*place, folder)));
                    }
                    !covered
                });
                // Names in a folder that is gone are lost: they must not come back in another folder of its name.
                let is_lost = |place: &usize| {
                    ended.iter().any(|(end, folder)| place < end && ops[*place].is_in(folder))
                };
                self.pending.retain(|place| !is_lost(place));
            }
            op if op.waits_for_sync() => self.pending.push(self.cut),
            op => self.durable.apply(op),
        }
        self.cut += 1;
        Some(op)
    }

    /// The disk that is left if the power is lost here.
    #[must_use]
    pub fn disk(&self, mode: Mode, seed: u64) -> Disk {
        let mut disk = self.durable.clone();
        let mut rng = Rng::new(seed);
        let mut chosen = self.pending.clone();
        match mode {
            Mode::Synced => chosen.clear(),
            Mode::Prefix => {}
            Mode::Subset | Mode::TornSector => chosen.retain(|_| !rng.once_in(3)),
            Mode::Reordered => {
                chosen.retain(|_| !rng.once_in(3));
                for last in (1..chosen.len()).rev() {
                    chosen.swap(last, rng.below(last as u64 + 1) as usize);
                }
            }
        }
        for place in chosen {
            let op = &self.trace.ops[place];
            if mode == Mode::TornSector && rng.once_in(2) {
                disk.apply_torn(op, || rng.once_in(2));
            } else {
                disk.apply(op);
            }
        }
        disk
    }
}
