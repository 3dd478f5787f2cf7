//! Listings that lie. FAILURES 20.

use crate::hooked::{Act, Request};
use crate::world::{World, at, keep};
use pitr_objects::Objects;
use pitr_snapshot::SnapshotId;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A handle whose `step`th listing lacks an object.
fn lying(world: &World, step: usize, lacks: usize) -> (Objects, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let objects = world.hooked(move |request| match request {
        Request::List(_) if counted.fetch_add(1, Ordering::SeqCst) == step => Act::Without(lacks),
        _ => Act::Go,
    });
    (objects, count)
}

#[test]
fn an_object_missing_from_any_listing_costs_nothing_that_is_kept() {
    let world = World::furnished();
    let pruned = world.fork();
    pruned.pruner(pruned.open(), keep(1)).execute(at(9)).unwrap();
    let kept: Vec<SnapshotId> = pruned.check();
    let entries = world.open().list("").unwrap().len();
    let (mut refused, mut done) = (0, 0);
    'all: for step in 0.. {
        for lacks in 0..entries {
            let world = world.fork();
            let (objects, count) = lying(&world, step, lacks);
            match world.pruner(objects, keep(1)).max_waste(0.0).execute(at(9)) {
                Ok(_) => done += 1,
                Err(_) => refused += 1,
            }
            let listed = world.check();
            assert!(kept.iter().all(|id| listed.contains(id)), "listing {step} without {lacks}");
            if count.load(Ordering::SeqCst) <= step {
                break 'all;
            }
        }
    }
    assert!(refused > 10 && done > 10, "{refused} refused, {done} done");
}

#[test]
fn a_listing_that_breaks_off_ends_the_run() {
    let world = World::furnished();
    for step in 0.. {
        let world = world.fork();
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let objects = world.hooked(move |request| match request {
            Request::List(_) if counted.fetch_add(1, Ordering::SeqCst) == step => Act::Fail,
            _ => Act::Go,
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
