//! FAILURES 19: two processes in one repository.

use crate::world::{World, at, keep};
use pitr_dedup::ChunkStore;
use pitr_format::FileId;
use pitr_objects::LEASE_EXPIRY;
use pitr_prune::Error;
use pitr_snapshot::{ErrorKind, Manifest, SnapshotReader, load_all};
use pitr_testkit::{Answer, Request};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Calls `act` at the `step`th request of a handle, before the request is carried out.
pub(crate) fn at_request(
    world: &World,
    step: usize,
    act: impl FnOnce() + Send + 'static,
) -> (pitr_objects::Objects, Arc<AtomicUsize>) {
    let (count, act) = (Arc::new(AtomicUsize::new(0)), Mutex::new(Some(act)));
    let counted = Arc::clone(&count);
    let objects = world.hooked(move |request: &Request| {
        // Reads change nothing, and renewals of a lease must not be delayed.
        let counts = match &request {
            Request::Get(_) => false,
            Request::Put(path) | Request::Delete(path) | Request::List(path) => !path.starts_with("leases"),
        };
        let is_now = counts && counted.fetch_add(1, Ordering::SeqCst) == step;
        if let Some(act) = if is_now { act.lock().unwrap().take() } else { None } {
            act();
        }
        Answer::Serve
    });
    (objects, count)
}

#[test]
fn a_backup_in_the_middle_of_a_prune_loses_nothing() {
    World::both().into_iter().for_each(backs_up_in_the_middle_of_a_prune);
}

fn backs_up_in_the_middle_of_a_prune(mut world: World) {
    // This backup needs the content of the first snapshot, which the prune is about to remove.
    world.change("a", 2, 0, 0);
    for step in 0.. {
        let mut world = world.fork();
        let taken: Arc<Mutex<Option<Manifest>>> = Arc::default();
        let (other, told) = (world.clone(), Arc::clone(&taken));
        let (objects, count) = at_request(&world, step, move || {
            let manifest = other.backup_through(other.open(), "a").unwrap();
            *told.lock().unwrap() = Some(manifest);
        });
        let pruned = world.pruner(objects, keep(1)).max_waste(0.0).execute(at(world.hour));
        assert!(pruned.is_ok(), "step {step}: {pruned:?}");
        if count.load(Ordering::SeqCst) <= step {
            assert!(step > 20, "{step}");
            break;
        }
        let taken = taken.lock().unwrap().take().unwrap();
        world.took(&taken);
        assert!(world.check().contains(&taken.snapshot.id), "step {step}");
        world.pruner(world.open(), keep(1)).execute(at(world.hour)).unwrap();
        assert_eq!(world.check().len(), 2);
        world.check_tidy();
    }
}

/// A prune during a backup. `expiry`: how long the prune watches the lease of the backup.
fn a_prune_in_the_middle_of_a_backup(renewal: Duration, expiry: Duration) -> (usize, usize) {
    let mut world = World::furnished();
    // Half of the backup's chunks are stored, and no other snapshot needs them after the prune.
    world.change("a", 2, 0, 0);
    world.change("a", 2, 1, 99);
    let (mut published, mut lapsed) = (0, 0);
    for step in 0.. {
        let mut world = world.fork();
        let other = world.clone();
        let (objects, count) = at_request(&world, step, move || {
            let pruner = other.pruner(other.open(), keep(1)).max_waste(0.0).lease_expiry(expiry);
            pruner.execute(at(other.hour)).unwrap();
        });
        objects.renew_leases_every(renewal);
        let taken = world.backup_through(objects, "a");
        match &taken {
            Ok(manifest) => {
                world.took(manifest);
                assert!(world.check().contains(&manifest.snapshot.id), "step {step}");
                published += 1;
            }
            Err(error) => {
                // The backup may find a deleted object before it checks its lease.
                let kind = error.kind();
                assert!(matches!(kind, ErrorKind::Lapsed | ErrorKind::Missing), "step {step}: {error}");
                // The next backup does not rely on a listing that was made under an ended lease.
                let again = world.backup_through(world.open(), "a").unwrap();
                world.took(&again);
                assert!(world.check().contains(&again.snapshot.id), "step {step}");
                lapsed += 1;
            }
        }
        world.pruner(world.open(), keep(1)).execute(at(world.hour)).unwrap();
        assert_eq!(world.check().len(), 2, "step {step}");
        world.check_tidy();
        if count.load(Ordering::SeqCst) <= step {
            break;
        }
    }
    (published, lapsed)
}

#[test]
fn a_prune_waits_for_a_running_backup() {
    let (published, lapsed) =
        a_prune_in_the_middle_of_a_backup(Duration::from_millis(3), Duration::from_secs(30));
    assert!(published > 6 && lapsed == 0, "{published} {lapsed}");
}

#[test]
fn a_backup_whose_lease_lapsed_publishes_nothing() {
    // FAILURES 21: the process was paused for longer than its lease.
    let (published, lapsed) =
        a_prune_in_the_middle_of_a_backup(Duration::from_secs(3600), Duration::from_millis(20));
    assert!(published > 0 && lapsed > 3, "{published} {lapsed}");
}

#[test]
fn a_prune_whose_lease_lapsed_loses_nothing() {
    // FAILURES 19, 21: the process was paused for longer than its lease, while another prune and a
    // backup ran.
    let mut world = World::furnished();
    world.change("a", 2, 0, 0);
    let (mut done, mut lapsed) = (0, 0);
    for step in 0.. {
        let mut world = world.fork();
        let taken: Arc<Mutex<Option<Manifest>>> = Arc::default();
        let (other, told) = (world.clone(), Arc::clone(&taken));
        let (objects, count) = at_request(&world, step, move || {
            other.pruner(other.open(), keep(1)).max_waste(0.0).execute(at(other.hour)).unwrap();
            *told.lock().unwrap() = Some(other.backup_through(other.open(), "a").unwrap());
        });
        objects.renew_leases_every(Duration::from_secs(3600));
        match world.pruner(objects, keep(1)).max_waste(0.0).execute(at(world.hour)) {
            Ok(_) => done += 1,
            Err(_) => lapsed += 1,
        }
        if count.load(Ordering::SeqCst) <= step {
            break;
        }
        let taken = taken.lock().unwrap().take().unwrap();
        world.took(&taken);
        assert!(world.check().contains(&taken.snapshot.id), "step {step}");
        world.pruner(world.open(), keep(1)).execute(at(world.hour)).unwrap();
        assert_eq!(world.check().len(), 2, "step {step}");
        world.check_tidy();
    }
    assert!(done > 0 && lapsed > 10, "{done} {lapsed}");
}

#[test]
fn the_next_backup_stores_the_chunks_of_a_missing_pack_again() {
    // FAILURES 25: new objects do not rely on a pack that is only listed.
    let mut world = World::furnished();
    let objects = world.open();
    let newest = load_all(&objects, &crate::world::name("a")).unwrap().snapshots.pop().unwrap();
    for pack in objects.list("packs").unwrap() {
        objects.delete(&pack.path).unwrap();
    }
    let pruned = world.pruner(world.open(), keep(1)).execute(at(9));
    assert!(matches!(pruned, Err(Error::Unreadable { .. } | Error::Lost { .. })), "{pruned:?}");
    let taken = world.backup_through(world.open(), "a").unwrap();
    world.took(&taken);
    world.backup("b");
    let store = ChunkStore::open(world.open()).unwrap();
    for id in [taken.snapshot.id, newest.id] {
        // The chunks that the older snapshot shares with the new one are stored again too.
        let root = load_all(&world.open(), &crate::world::name("a")).unwrap();
        let root = root.snapshots.into_iter().find(|root| root.id == id).unwrap();
        let reader = SnapshotReader::open(store.clone(), root.manifest(&store).unwrap());
        let mut bytes = vec![0; world.contents[&id].len()];
        reader.read_at(FileId::FIRST, 0, &mut bytes).unwrap();
        assert!(bytes == world.contents[&id]);
    }
}

#[test]
fn packs_of_a_reader_are_kept_until_its_lease_ends() {
    let world = World::furnished();
    let objects = world.open();
    objects.renew_leases_every(Duration::from_millis(3));
    let store = ChunkStore::open(objects.clone()).unwrap();
    let oldest = load_all(&objects, &crate::world::name("a")).unwrap().snapshots.remove(0);
    let oldest = oldest.manifest(&store).unwrap();
    let pruner = world.pruner(world.open(), keep(1)).lease_expiry(LEASE_EXPIRY);
    let report = pruner.execute(at(9)).unwrap();
    assert!(report.condemned > 0 && report.waiting.len() == 1, "{report:?}");
    // Another run waits for the same lease.
    assert!(matches!(pruner.execute(at(9)), Err(Error::Unfinished { .. })));
    let id = oldest.snapshot.id;
    let reader = SnapshotReader::open(store, oldest);
    let mut bytes = vec![0; world.contents[&id].len()];
    reader.read_at(FileId::FIRST, 0, &mut bytes).unwrap();
    assert!(bytes == world.contents[&id]);
    drop(reader);
    let report = pruner.execute(at(9)).unwrap();
    assert!(report.freed > 1 << 20 && report.condemned == 0, "{report:?}");
    world.check_tidy();
}

#[test]
fn indexed_packs_of_a_dead_backup_are_reused_or_deleted() {
    // FAILURES 19, 23: the killed backup ran long enough to put an index object, and put no root.
    let world = World::furnished();
    let open = || {
        let objects = world.open();
        objects.renew_leases_every(Duration::from_millis(3));
        ChunkStore::open(objects).unwrap()
    };
    let before = open().len().unwrap();
    let writer = open().writer(pitr_codec::Codec::None);
    let ids: Vec<_> = (0..5_000u64).map(|n| writer.put(&n.to_le_bytes().repeat(2_500)).unwrap()).collect();
    drop(writer);
    let (next, first) = (open(), ids[0]);
    assert!(next.relies_on(&first).unwrap() && next.len().unwrap() > before + 800);
    // A process that relies on the pack has a lease.
    let pruner = world.pruner(world.open(), keep(9)).lease_expiry(LEASE_EXPIRY);
    let report = pruner.execute(at(9)).unwrap();
    assert!(report.condemned > 1 && report.waiting.len() == 1, "{report:?}");
    assert_eq!(next.read(&first).unwrap().len(), 20_000);
    // A process that starts later does not rely on the pack.
    assert!(open().contains(&first).unwrap() && !open().relies_on(&first).unwrap());
    drop(next);
    let report = pruner.execute(at(9)).unwrap();
    assert!(report.freed > 5_000 * 20_000 - (16 << 20) && report.condemned == 0, "{report:?}");
    assert!(!open().contains(&first).unwrap());
    assert_eq!(open().len().unwrap(), before);
    world.check_tidy();
}

#[test]
fn only_one_process_prunes_at_a_time() {
    let world = World::furnished();
    let objects = world.open();
    objects.renew_leases_every(Duration::from_millis(3));
    let other = objects.lease(pitr_objects::LeaseRole::Collect).unwrap();
    let pruner = world.pruner(world.open(), keep(1)).lease_expiry(LEASE_EXPIRY);
    let locked = pruner.execute(at(9));
    assert!(
        matches!(&locked, Err(Error::Locked { lease }) if *lease == other.id().to_string()),
        "{locked:?}"
    );
    assert_eq!(world.check().len(), 6);
    drop(other);
    pruner.execute(at(9)).unwrap();
    assert_eq!(world.check().len(), 2);
}

#[test]
fn a_read_only_repository_is_read_without_a_lease() {
    let world = World::furnished();
    let objects = world.hooked(|request| if request.changes() { Answer::Deny } else { Answer::Serve });
    let store = ChunkStore::open(objects.clone()).unwrap();
    let newest = load_all(&objects, &crate::world::name("a")).unwrap().snapshots.pop().unwrap();
    let id = newest.id;
    let newest = newest.manifest(&store).unwrap();
    let mut bytes = vec![0; world.contents[&id].len()];
    SnapshotReader::open(store.clone(), newest).read_at(FileId::FIRST, 0, &mut bytes).unwrap();
    assert!(bytes == world.contents[&id]);
    let planned = world.pruner(objects.clone(), keep(1)).plan(at(9)).unwrap();
    assert!(planned.freed > 0);
    assert!(store.lease().is_err());
    let refused = store.writer(pitr_codec::Codec::None).put(b"new").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Denied, "{refused}");
    assert!(world.pruner(objects, keep(1)).execute(at(9)).is_err());
}
