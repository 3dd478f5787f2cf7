//! A crash at any step. FAILURES 23.

use crate::world::{World, at, keep};
use pitr_objects::Objects;
use pitr_testkit::{Answer, Request};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A handle whose process dies at its `step`th change. Counts the changes.
fn dying(world: &World, step: usize) -> (Objects, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let objects = world.hooked(move |request: &Request| {
        let so_far = match request.changes() {
            true => counted.fetch_add(1, Ordering::SeqCst),
            false => counted.load(Ordering::SeqCst),
        };
        if so_far < step || (so_far == step && !request.changes()) { Answer::Serve } else { Answer::Die }
    });
    (objects, count)
}

/// The next run leaves the repository as if there had been no crash.
fn recovers(world: &World, kept: usize) {
    world.check();
    world.pruner(world.open(), keep(1)).execute(at(world.hour)).unwrap();
    assert_eq!(world.check().len(), kept);
    world.check_tidy();
}

#[test]
fn a_prune_that_dies_at_any_step_loses_nothing_and_is_finished_later() {
    World::both().iter().for_each(dies_in_a_prune);
}

fn dies_in_a_prune(world: &World) {
    for step in 0.. {
        let world = world.fork();
        let (objects, count) = dying(&world, step);
        let died = world.pruner(objects, keep(1)).max_waste(0.0).execute(at(world.hour)).is_err();
        recovers(&world, 2);
        if !died && count.load(Ordering::SeqCst) <= step {
            assert!(step > 15, "{step}");
            break;
        }
    }
}

#[test]
fn a_prune_that_dies_while_it_finishes_another_run_loses_nothing() {
    World::both().iter().for_each(dies_in_a_second_prune);
}

fn dies_in_a_second_prune(world: &World) {
    // The first prune dies after the condemnation: at its first deletion of an index object.
    let first = world.fork();
    let objects = first.hooked(|request| match request {
        Request::Delete(path) if path.starts_with("index/") => Answer::Die,
        _ => Answer::Serve,
    });
    assert!(first.pruner(objects, keep(1)).execute(at(9)).is_err());
    assert!(!first.open().condemned().unwrap().is_empty());
    for step in 0.. {
        let world = first.fork();
        let (objects, count) = dying(&world, step);
        let died = world.pruner(objects, keep(1)).execute(at(world.hour)).is_err();
        recovers(&world, 2);
        if !died && count.load(Ordering::SeqCst) <= step {
            break;
        }
    }
}

#[test]
fn objects_of_a_backup_that_dies_at_any_step_are_collected() {
    World::both().into_iter().for_each(dies_in_a_backup);
}

fn dies_in_a_backup(mut world: World) {
    world.change("a", 2, 0, 70);
    for step in 0.. {
        let mut world = world.fork();
        let (objects, count) = dying(&world, step);
        let taken = world.backup_through(objects, "a");
        let done = count.load(Ordering::SeqCst) <= step;
        if let Ok(manifest) = &taken {
            world.took(manifest);
        } else if let Some(put) = unacknowledged(&world) {
            // The writer died after the put of its root: the snapshot exists, but was not reported.
            let content = world.current[&put.meta.source].clone();
            world.contents.insert(put.id, content);
        }
        recovers(&world, 2);
        if done {
            assert!(taken.is_ok() && step > 3, "{step}");
            break;
        }
    }
}

fn unacknowledged(world: &World) -> Option<pitr_snapshot::Snapshot> {
    let roots = pitr_snapshot::load_all(&world.open(), &crate::world::name("a")).unwrap();
    roots.snapshots.into_iter().find(|root| !world.contents.contains_key(&root.id))
}
