//! Incomplete listings. FAILURES 20.

use crate::world::{World, at, keep};
use pitr_objects::{LEASE_EXPIRY, Objects};
use pitr_snapshot::SnapshotId;
use pitr_testkit::{Answer, Request};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Runs `act` on a fork for each listing and each object, with a listing that lacks that object.
pub(crate) fn with_each_lack(world: &World, mut run: impl FnMut(&World, Objects, &str)) {
    for step in 0.. {
        for lacks in 0.. {
            let world = world.fork();
            let (asked, listed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let (counts, tells, sound) = (Arc::clone(&asked), Arc::clone(&listed), world.open());
            let objects = world.hooked(move |request| match request {
                Request::List(folder) if counts.fetch_add(1, Ordering::SeqCst) == step => {
                    tells.store(sound.list(folder).unwrap().len(), Ordering::SeqCst);
                    Answer::ListWithout(lacks)
                }
                _ => Answer::Serve,
            });
            run(&world, objects, &format!("listing {step} without {lacks}"));
            if asked.load(Ordering::SeqCst) <= step {
                return;
            }
            if lacks + 1 >= listed.load(Ordering::SeqCst) {
                break;
            }
        }
    }
}

#[test]
fn an_object_missing_from_any_listing_loses_no_kept_snapshot() {
    let world = World::furnished();
    let pruned = world.fork();
    pruned.pruner(pruned.open(), keep(1)).execute(at(9)).unwrap();
    let kept: Vec<SnapshotId> = pruned.check();
    let (mut refused, mut done) = (0, 0);
    with_each_lack(&world, |world, objects, lacking| {
        match world.pruner(objects, keep(1)).max_waste(0.0).execute(at(9)) {
            Ok(_) => done += 1,
            Err(_) => refused += 1,
        }
        let listed = world.check();
        assert!(kept.iter().all(|id| listed.contains(id)), "{lacking}");
    });
    assert!(refused > 10 && done > 10, "{refused} refused, {done} done");
}

#[test]
fn a_root_put_during_a_condemnation_is_kept_with_any_incomplete_listing() {
    // A backup is about to publish when a prune condemns its packs, which no root needs yet.
    let mut world = World::furnished();
    world.change("a", 2, 0, 77);
    let (other, condemned) = (world.clone(), Arc::new(AtomicBool::new(false)));
    let once = Arc::clone(&condemned);
    let objects = world.hooked(move |request| {
        let publishes = matches!(request, Request::Put(path) if path.contains("/snapshots/"));
        if publishes && !once.swap(true, Ordering::SeqCst) {
            let pruner = other.pruner(other.open(), keep(9)).lease_expiry(LEASE_EXPIRY);
            let report = pruner.execute(at(9)).unwrap();
            assert!(report.condemned > 1 << 20 && report.waiting.len() == 1, "{report:?}");
        }
        Answer::Serve
    });
    objects.renew_leases_every(Duration::from_millis(3));
    let taken = world.backup_through(objects, "a").unwrap();
    world.took(&taken);
    assert!(condemned.load(Ordering::SeqCst));
    let root = taken.snapshot.path(&world.open());
    let (mut done, mut lied) = (0, 0);
    for step in 0.. {
        let world = world.fork();
        let count = Arc::new(AtomicUsize::new(0));
        let (counted, sound, root) = (Arc::clone(&count), world.open(), root.clone());
        let objects = world.hooked(move |request| match request {
            Request::List(folder) if counted.fetch_add(1, Ordering::SeqCst) == step => {
                let listed = sound.list(folder).unwrap();
                listed.iter().position(|entry| entry.path == root).map_or(Answer::Serve, Answer::ListWithout)
            }
            _ => Answer::Serve,
        });
        match world.pruner(objects, keep(9)).execute(at(9)) {
            Ok(_) => done += 1,
            Err(_) => lied += 1,
        }
        assert!(world.check().contains(&taken.snapshot.id), "listing {step}");
        if count.load(Ordering::SeqCst) <= step {
            break;
        }
    }
    assert!(done > 10, "{done} {lied}");
}

#[test]
fn a_listing_that_breaks_off_ends_the_run() {
    let world = World::furnished();
    for step in 0.. {
        let world = world.fork();
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let objects = world.hooked(move |request| match request {
            Request::List(_) if counted.fetch_add(1, Ordering::SeqCst) == step => Answer::Die,
            _ => Answer::Serve,
        });
        let pruned = world.pruner(objects, keep(1)).execute(at(9));
        world.check();
        if count.load(Ordering::SeqCst) <= step {
            assert!(pruned.is_ok() && step > 5, "{pruned:?}");
            break;
        }
        assert!(pruned.is_err(), "{step}");
    }
}

#[test]
fn a_root_that_cannot_be_read_ends_the_run() {
    let world = World::furnished();
    let objects = world.open();
    let root = objects.list("sources/a/snapshots").unwrap().remove(2).path;
    let whole = objects.get(&root).unwrap();
    objects.delete(&root).unwrap();
    let mut damaged = whole.to_vec();
    damaged[100] ^= 1;
    objects.put_new(&root, damaged).unwrap();
    let error = world.pruner(world.open(), keep(1)).execute(at(9)).unwrap_err();
    assert!(matches!(&error, pitr_prune::Error::Unreadable { root: path, .. } if *path == root), "{error}");
    objects.delete(&root).unwrap();
    objects.put_new(&root, whole).unwrap();
    assert_eq!(world.check().len(), 6);
}
