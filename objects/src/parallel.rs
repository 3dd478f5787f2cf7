//! Work on many items: in the caller's rayon pool, or in the calling thread.
//!
//! The crates above take their threads from here, so that a simulation runs in one.

use pitr_vfs::Spawn;
use rayon::prelude::*;

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
    use std::thread;

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
    fn inline_work_stays_in_the_calling_thread() {
        let here = thread::current().id();
        let used: Vec<_> = map(Spawn::Inline, 0..100, |_| thread::current().id());
        assert!(used.iter().all(|id| *id == here));
        assert_eq!(threads(Spawn::Inline), 1);
    }
}
