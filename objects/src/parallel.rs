//! Work on many items: in the caller's rayon pool, in threads that wait for a store, or in the
//! calling thread.
//!
//! The crates above take their threads from here, so that a simulation runs in one.

use crossbeam_channel::{Sender, bounded};
use pitr_vfs::Spawn;
use rayon::prelude::*;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Calls `work` for each item and collects the results in the order of the items. Errors end it
/// early if the collection is a [`Result`].
pub fn map<I, R, C>(spawn: Spawn, items: I, work: impl Fn(<I as IntoIterator>::Item) -> R + Sync + Send) -> C
where
    I: IntoIterator + IntoParallelIterator<Item = <I as IntoIterator>::Item>,
    R: Send,
    C: FromIterator<R> + FromParallelIterator<R>,
{
    match spawn {
        Spawn::Threads => items.into_par_iter().map(work).collect(),
        Spawn::Inline => items.into_iter().map(work).collect(),
    }
}

/// Fetches each item, in order, and works on what was fetched, in any order. So that no work waits
/// for a request, `requests` run at the same time, and as many answers wait. The work has as many
/// threads as the caller's rayon pool; they don't belong to it.
///
/// # Errors
/// The first error. After it, nothing else is begun.
pub fn ahead<I: Sync, T: Send, E: Send>(
    spawn: Spawn,
    requests: usize,
    items: &[I],
    fetch: impl Fn(&I) -> Result<T, E> + Sync,
    work: impl Fn(&I, T) -> Result<(), E> + Sync,
) -> Result<(), E> {
    if spawn.is_inline() {
        return items.iter().try_for_each(|item| work(item, fetch(item)?));
    }
    let (failed, next) = (FirstError::default(), AtomicUsize::new(0));
    let (answers, to_do) = bounded::<(&I, T)>(requests.max(1));
    let request = |answers: Sender<_>| {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed))
            && !failed.is_set()
        {
            // Sending fails if all threads that work have panicked.
            let done = fetch(item).map(|answer| answers.send((item, answer)).is_ok());
            match done {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => failed.keep(error),
            }
        }
    };
    let work_on = |(item, answer)| match failed.is_set() {
        true => {} // answers are still received, so that no request waits for room
        false => work(item, answer).unwrap_or_else(|error| failed.keep(error)),
    };
    let (request, work_on) = (&request, &work_on);
    thread::scope(|scope| {
        for _ in 0..requests.clamp(1, items.len().max(1)) {
            let answers = answers.clone();
            scope.spawn(move || request(answers));
        }
        drop(answers);
        for _ in 0..threads(spawn).min(items.len()) {
            let to_do = to_do.clone();
            scope.spawn(move || to_do.into_iter().for_each(work_on));
        }
        drop(to_do);
    });
    failed.or(Ok(()))
}

/// Requests that [`requests`] sends at the same time.
const REQUESTS: usize = 16;

/// Calls `work` for each item and collects the results in the order of the items. For work that
/// mostly waits for a store: up to 16 calls run at the same time, whatever the number of cores.
///
/// # Errors
/// The first error. After it, nothing else is begun.
pub fn requests<I: Sync, T: Send, E: Send>(
    spawn: Spawn,
    items: &[I],
    work: impl Fn(&I) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E> {
    if items.len() < 2 {
        return items.iter().map(work).collect();
    }
    let done: Mutex<Vec<Option<T>>> = Mutex::new(items.iter().map(|_| None).collect());
    let numbered: Vec<(usize, &I)> = items.iter().enumerate().collect();
    let keep = |(number, _): &(usize, &I), answer: T| {
        if let Some(place) = done.lock().unwrap_or_else(PoisonError::into_inner).get_mut(*number) {
            *place = Some(answer);
        }
        Ok(())
    };
    ahead(spawn, REQUESTS, &numbered, |(_, item)| work(item), keep)?;
    Ok(done.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().flatten().collect())
}

/// The first error of several threads, after which none of them begins anything else.
#[derive(Debug)]
pub struct FirstError<E> {
    is_set: AtomicBool,
    error: Mutex<Option<E>>,
}

impl<E> Default for FirstError<E> {
    fn default() -> Self {
        FirstError { is_set: AtomicBool::new(false), error: Mutex::new(None) }
    }
}

impl<E> FirstError<E> {
    /// Keeps an error, unless there is one.
    pub fn keep(&self, error: E) {
        self.is_set.store(true, Ordering::Relaxed);
        self.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    /// True if there is an error.
    pub fn is_set(&self) -> bool {
        self.is_set.load(Ordering::Relaxed)
    }

    /// The error if there is one, and else `done`.
    ///
    /// # Errors
    /// The first error, or that of `done`.
    pub fn or<T>(self, done: Result<T, E>) -> Result<T, E> {
        self.error.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(done, Err)
    }
}

/// Number of threads that [`map`] uses.
#[must_use]
pub fn threads(spawn: Spawn) -> usize {
    match spawn {
        Spawn::Threads => rayon::current_num_threads(),
        Spawn::Inline => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    #[test]
    fn inline_and_parallel_work_give_the_same_results() {
        let odd = |n: u32| if n.is_multiple_of(2) { Err(n) } else { Ok(n) };
        for spawn in [Spawn::Threads, Spawn::Inline] {
            assert_eq!(
                map::<_, _, Vec<u32>>(spawn, 0..100, |n| n * 2),
                (0..200).step_by(2).collect::<Vec<_>>()
            );
            assert_eq!(map::<_, _, Result<Vec<u32>, u32>>(spawn, vec![1, 3], odd), Ok(vec![1, 3]));
            assert_eq!(map::<_, _, Result<(), u32>>(spawn, &[1, 4, 5], |n| odd(*n).map(drop)), Err(4));
        }
    }

    #[test]
    fn requests_wait_at_the_same_time_and_keep_their_order() {
        let odd = |n: &u32| if n.is_multiple_of(2) { Err(*n) } else { Ok(*n) };
        for spawn in [Spawn::Threads, Spawn::Inline] {
            for count in [0, 1, 2, 100] {
                let items: Vec<u32> = (0..count).collect();
                let doubled = items.iter().map(|n| n * 2).collect();
                assert_eq!(requests(spawn, &items, |n| Ok::<u32, ()>(n * 2)), Ok(doubled));
            }
            assert_eq!(requests(spawn, &[1, 4, 5], odd), Err(4));
        }
        // Each waits until all others have begun.
        let barrier = std::sync::Barrier::new(REQUESTS);
        let items = [(); REQUESTS];
        requests(Spawn::Threads, &items, |()| Ok::<_, ()>(barrier.wait().is_leader())).unwrap();
    }

    #[test]
    fn what_is_fetched_is_worked_on_once_and_the_first_error_ends_it() {
        for spawn in [Spawn::Threads, Spawn::Inline] {
            for requests in [0, 1, 3, 100] {
                let items: Vec<u64> = (0..50).collect();
                let sum = AtomicU64::new(0);
                let add = |item: &u64, fetched: u64| {
                    assert_eq!(fetched, item * 2);
                    sum.fetch_add(fetched, Ordering::Relaxed);
                    Ok::<(), u64>(())
                };
                ahead(spawn, requests, &items, |item| Ok(item * 2), add).unwrap();
                assert_eq!(sum.into_inner(), 2450);
                let at_7 = |item: &u64| if *item == 7 { Err(7) } else { Ok(()) };
                assert_eq!(ahead(spawn, requests, &items, at_7, |_, ()| Ok(())), Err(7));
                assert_eq!(ahead(spawn, requests, &items, |_| Ok(()), |item, ()| at_7(item)), Err(7));
                let late = AtomicU64::new(0);
                let count = |_: &u64, ()| Err(late.fetch_add(1, Ordering::Relaxed));
                let many: Vec<u64> = (0..10_000).collect();
                ahead(spawn, requests, &many, |_| Ok(()), count).unwrap_err();
                assert!(late.into_inner() < 10, "work goes on after an error");
            }
            assert_eq!(ahead(spawn, 4, &[] as &[u8], |_| Err(1), |_, ()| Ok(())), Ok(()));
        }
    }

    #[test]
    fn inline_work_stays_in_the_calling_thread() {
        let here = thread::current().id();
        let used: Vec<_> = map(Spawn::Inline, 0..100, |_| thread::current().id());
        assert!(used.iter().all(|id| *id == here));
        assert_eq!(threads(Spawn::Inline), 1);
    }
}
