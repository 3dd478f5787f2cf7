//! A simulation of the whole system: one machine, one repository, one seed, one thread.
//!
//! # The world
//! A storage engine ([`pitr_testkit::PageEngine`]) commits to a log on a simulated disk. A shipper
//! archives the log in a repository in memory. Two snapshots are taken, the second from the
//! archived log. A prune keeps the second one. Then a state is restored to the simulated disk. The
//! seed decides the engine's size and content, the order of commits, shipments and removals of
//! archived log, the time between them, and the target of the restore.
//!
//! # Invariants
//! - The restored file has the bytes that the engine had at the target.
//! - The prune leaves exactly the second snapshot, and no commit before it can be restored.
//! - A deep verification finds no fault, nothing pending and no foreign file.
//! - Equal seeds give equal objects, byte for byte: files, time, random numbers and the order of
//!   work come from the simulated [`Env`](pitr_vfs::Env) alone.
//!
//! Faults will be further steps of the same schedule: failed syncs and power losses of the
//! simulated disk, and lost replies of the store.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a simulation fails as a test does")]

mod world;

use world::World;

/// Simulates the world of this seed. Returns the SHA-256 of the paths and bytes of all objects.
///
/// # Panics
/// If an invariant is violated.
#[must_use]
pub fn run(seed: u64) -> [u8; 32] {
    let mut world = World::new(seed);
    world.live();
    let first = world.take_full();
    world.live();
    let second = world.take_increment(&first);
    world.live();
    world.prune(&second);
    world.check_restore(&second);
    world.verify();
    world.digest()
}
