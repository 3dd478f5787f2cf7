//! Puts at a store that fails.

use pitr_format::Timestamp;
use pitr_objects::object_store::memory::InMemory;
use pitr_objects::*;
use pitr_testkit::{Answer, Request, TestStore};
use pitr_vfs::sim::{SimClock, SimFs};
use pitr_vfs::{Clock, Env};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Small objects are sent again at once, large ones are looked for first.
const SIZES: [usize; 2] = [10, 100_000];

fn simulated(seed: u64) -> (Arc<SimClock>, Env) {
    let clock = Arc::new(SimClock::new(Timestamp::MIN));
    (Arc::clone(&clock), Env::simulated(Arc::new(SimFs::new()), clock, seed))
}

fn objects(store: TestStore, seed: u64) -> (Arc<SimClock>, Objects) {
    let (clock, env) = simulated(seed);
    (clock, Objects::over(Arc::new(store), &env).unwrap())
}

#[test]
fn a_put_ends_well_whatever_happens_to_its_attempts() {
    // FAILURES 27, 46
    let faults = [Answer::Break, Answer::LoseReply, Answer::Conflict, Answer::Serve];
    for len in SIZES {
        for case in 0..faults.len().pow(3) {
            let answers = [case % 4, case / 4 % 4, case / 16].map(|at| faults[at]);
            let (_, objects) = objects(TestStore::memory().answering_puts(answers), 1);
            objects.put_new("x", vec![1; len]).unwrap_or_else(|error| panic!("{answers:?}: {error}"));
            assert_eq!(objects.get("x").unwrap(), vec![1; len], "{answers:?}");
        }
    }
}

#[test]
fn a_refused_put_of_an_object_that_is_not_there_is_repeated() {
    // FAILURES 46: the answer was 409, and neither of two concurrent puts was carried out.
    let (_, objects) = objects(TestStore::memory().answering_puts([Answer::Conflict; 3]), 1);
    objects.put_new("x", vec![1; 10]).unwrap();
    assert_eq!(objects.get("x").unwrap(), vec![1; 10]);

    let (_, objects) = self::objects(TestStore::memory().answering_puts([Answer::Conflict; 4]), 1);
    let error = objects.put_new("x", vec![1; 10]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "it can be tried later: {error}");
}

#[test]
fn a_put_that_is_carried_out_after_we_looked_is_ours() {
    // FAILURES 46: the first attempt arrives between our look and the second attempt.
    for len in SIZES {
        let shared = Arc::new(InMemory::new());
        let late = Objects::with_store(shared.clone()).unwrap();
        let (puts, looks) = (AtomicU32::new(0), Arc::new(AtomicU32::new(0)));
        let looked = Arc::clone(&looks);
        let store = TestStore::around(shared).answering(move |request| match request {
            Request::Put(_) if puts.fetch_add(1, Ordering::Relaxed) == 0 => Answer::Break,
            Request::Put(path) => {
                late.put_new(path, vec![1; len]).unwrap();
                Answer::Serve
            }
            _ => {
                looked.fetch_add(1, Ordering::Relaxed);
                Answer::Serve
            }
        });
        let (_, objects) = objects(store, 1);
        objects.put_new("x", vec![1; len]).unwrap();
        assert_eq!(objects.get("x").unwrap(), vec![1; len]);
        assert!(looks.load(Ordering::Relaxed) > 0);
    }
}

#[test]
fn an_answer_that_was_damaged_on_its_way_is_not_another_writers_object() {
    // FAILURES 46
    for len in SIZES {
        let reads = Arc::new(AtomicU32::new(0));
        let (puts, counted) = (AtomicU32::new(0), Arc::clone(&reads));
        let store = TestStore::memory().answering(move |request| match request {
            Request::Put(_) if puts.fetch_add(1, Ordering::Relaxed) == 0 => Answer::LoseReply,
            Request::Get(_) if counted.fetch_add(1, Ordering::Relaxed) == 0 => Answer::Flip,
            _ => Answer::Serve,
        });
        let (_, objects) = objects(store, 1);
        objects.put_new("x", vec![1; len]).unwrap();
        assert!(reads.load(Ordering::Relaxed) > 1, "the damaged answer was not seen");
        assert_eq!(objects.get("x").unwrap(), vec![1; len]);
    }
}

#[test]
fn another_writers_object_is_found_by_every_kind_of_attempt() {
    // FAILURES 21
    for len in SIZES {
        for fault in [Answer::Break, Answer::LoseReply, Answer::Conflict] {
            for theirs in [vec![2; len], vec![2; len + 1]] {
                let shared = Arc::new(InMemory::new());
                Objects::with_store(shared.clone()).unwrap().put_new("x", theirs.clone()).unwrap();
                let (_, objects) = objects(TestStore::around(shared).answering_puts([fault; 2]), 1);
                let error = objects.put_new("x", vec![1; len]).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Foreign, "{fault:?}: {error}");
                assert_eq!(objects.get("x").unwrap(), theirs);
            }
        }
    }
}

#[test]
fn a_large_object_that_has_arrived_is_not_sent_again() {
    let puts = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&puts);
    let store = TestStore::memory().answering(move |request| match request {
        Request::Put(_) if counted.fetch_add(1, Ordering::Relaxed) == 0 => Answer::LoseReply,
        _ => Answer::Serve,
    });
    let (_, objects) = objects(store, 1);
    objects.put_new("x", vec![1; 1 << 20]).unwrap();
    assert_eq!(puts.load(Ordering::Relaxed), 1);
}

#[test]
fn attempts_are_bounded_and_come_at_random_times() {
    let waited = |seed| {
        let times = Arc::new(Mutex::new(Vec::new()));
        let (clock, env) = simulated(seed);
        let (noted, at) = (Arc::clone(&times), Arc::clone(&clock));
        let store = TestStore::memory().answering(move |_| {
            noted.lock().unwrap().push(at.monotonic());
            Answer::Break
        });
        let objects = Objects::over(Arc::new(store), &env).unwrap();
        assert_eq!(objects.put_new("x", vec![1]).unwrap_err().kind(), ErrorKind::Unreachable);
        let times = times.lock().unwrap();
        times.windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<Duration>>()
    };
    let waits = waited(1);
    assert_eq!(waits.len(), 3);
    for (wait, most) in waits.iter().zip([100, 200, 400].map(Duration::from_millis)) {
        assert!(*wait >= most / 2 && *wait <= most, "{waits:?}");
    }
    assert_ne!(waits, waited(2));
    assert_eq!(waits, waited(1), "from the same seed");
}

#[test]
fn a_store_that_replaces_objects_is_refused() {
    let store = Arc::new(TestStore::memory().answering(|_| Answer::Overwrite));
    let objects = Objects::with_store(store).unwrap();
    let error = objects.init_repository(Timestamp::MIN).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let says = error.to_string();
    assert!(says.contains("create-only") && says.contains("docs/stores.md"), "{says}");
    assert_eq!(objects.listing("").unwrap().entries, [], "nothing is left");
    assert_eq!(objects.open_repository().unwrap_err().kind(), ErrorKind::NotARepository);
    assert!(objects.prove_create_only().is_ok(), "the probe is for stores that are opened by URL");
}

#[test]
fn a_new_repository_costs_five_more_requests_than_its_object() {
    let requests = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&requests);
    let store = TestStore::memory().answering(move |request| {
        noted.lock().unwrap().push(request.clone());
        Answer::Serve
    });
    let objects = Objects::with_store(Arc::new(store)).unwrap();
    objects.init_repository(Timestamp::MIN).unwrap();
    let requests = std::mem::take(&mut *requests.lock().unwrap());
    let probes = requests.iter().filter(|request| format!("{request:?}").contains("probes/")).count();
    // Two puts, a get of the object that the second one found, a deletion.
    assert_eq!((requests.len(), probes), (6, 5), "{requests:?}");
    let left: Vec<_> = objects.list("").unwrap().into_iter().map(|entry| entry.path).collect();
    assert_eq!(left, [layout::REPOSITORY]);
}

/// A store that deletes the probe before each of these puts of it, as a collector could.
fn collected_before(numbers: &'static [u32]) -> Objects {
    let shared = Arc::new(InMemory::new());
    let collector = Objects::with_store(shared.clone()).unwrap();
    let puts = AtomicU32::new(0);
    let store = TestStore::around(shared).answering(move |request| {
        if let Request::Put(path) = request
            && path.starts_with(layout::PROBES)
            && numbers.contains(&(puts.fetch_add(1, Ordering::Relaxed) + 1))
        {
            collector.delete(path).unwrap();
        }
        Answer::Serve
    });
    Objects::with_store(Arc::new(store)).unwrap()
}

#[test]
fn a_probe_that_a_collector_deletes_too_early_is_put_again() {
    let none: &'static [u32] = &[];
    for numbers in [none, &[2], &[2, 3]] {
        let objects = collected_before(numbers);
        objects.init_repository(Timestamp::MIN).unwrap_or_else(|error| panic!("{numbers:?}: {error}"));
        assert_eq!(objects.list(layout::PROBES).unwrap(), [], "{numbers:?}");
    }
    // Then it is as if the store had replaced the object each time.
    let error = collected_before(&[2, 3, 4]).init_repository(Timestamp::MIN).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}

#[test]
fn probes_of_dead_processes_are_deleted() {
    let shared = Arc::new(InMemory::new());
    // The process dies after its first put.
    let requests = AtomicU32::new(0);
    let store = TestStore::around(shared.clone()).answering(move |_| {
        if requests.fetch_add(1, Ordering::Relaxed) == 0 { Answer::Serve } else { Answer::Die }
    });
    let dead = Objects::with_store(Arc::new(store)).unwrap();
    dead.init_repository(Timestamp::MIN).unwrap_err();
    let objects = Objects::with_store(shared).unwrap();
    objects.init_repository(Timestamp::MIN).unwrap();
    let foreign = format!("{}/note", layout::PROBES);
    objects.put_new(&foreign, vec![1]).unwrap();
    let paths = || objects.list(layout::PROBES).unwrap().into_iter().map(|entry| entry.path);
    assert_eq!(paths().count(), 2);
    objects.forget_leftovers().unwrap();
    assert_eq!(paths().collect::<Vec<_>>(), [foreign], "an object that is no probe stays");
}
