//! The disks that a power loss may leave.
//!
//! [`Survivors`] walks over a trace. It keeps one disk with everything that is durable at the cut,
//! and a short list of the ops that are not. A surviving disk is a copy of that disk plus a
//! selection from the list. Copies share their pages, so building a disk costs in proportion to the
//! pending ops, not to the size of the disk.

use super::disk::Disk;
use super::rng::Rng;
use super::trace::{Op, Synced, Trace};

/// What happens to ops that were issued before the cut and are not durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// All of these ops are lost.
    Synced,
    /// All of these ops survive.
    Prefix,
    /// Each op survives completely or not at all, as the seed selects. Survivors take effect in
    /// order.
    Subset,
    /// Like [`Mode::Subset`], but the survivors take effect in another order.
    Reordered,
    /// Like [`Mode::Subset`], but of some writes only some sectors survive.
    TornSector,
}

impl Mode {
    /// All modes.
    pub const ALL: [Mode; 5] = [Mode::Synced, Mode::Prefix, Mode::Subset, Mode::Reordered, Mode::TornSector];
}

/// Builds the disks that a power loss may leave, cut by cut; see the module documentation.
#[derive(Debug)]
pub struct Survivors<'a> {
    trace: &'a Trace,
    cut: usize,
    durable: Disk,
    /// Indexes in the trace of the ops that may be lost, in order.
    pending: Vec<usize>,
}

impl<'a> Survivors<'a> {
    /// Starts before the first op.
    #[must_use]
    pub fn new(trace: &'a Trace) -> Self {
        Survivors { trace, cut: 0, durable: trace.base.clone(), pending: Vec::new() }
    }

    /// Starts at a power loss after `cut` ops.
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

    /// Number of ops whose survival is open.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Moves the cut past the next op. Returns that op.
    pub fn advance(&mut self) -> Option<&'a Op> {
        let op = self.trace.ops.get(self.cut)?;
        match op {
            Op::Sync { what, began, worked } => {
                // After a failed sync, each write is on the disk or permanently lost. Names may
                // still survive or not.
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
                // Names in a removed folder are lost. They must not come back in another folder of
                // its name.
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

    /// The disk after a power loss at the cut.
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
        disk.drop_unreachable();
        disk
    }
}
