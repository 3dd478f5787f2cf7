//! Whether work may run in separate threads.

use std::io;
use std::thread::{self, JoinHandle};

/// Whether work may run in separate threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Spawn {
    /// Work runs in threads of the operating system.
    #[default]
    Threads,
    /// All work runs in the calling thread, so that a run depends only on its seed. The caller then
    /// triggers periodic work by calls. A channel between stages must therefore have room for
    /// everything that a stage sends.
    Inline,
}

impl Spawn {
    /// True if everything runs in the calling thread.
    #[must_use]
    pub fn is_inline(self) -> bool {
        self == Spawn::Inline
    }

    /// Starts a named thread. Returns `None` if there are no threads; the caller then does the work
    /// itself.
    ///
    /// # Errors
    /// The error of the operating system, if it allows no more threads.
    pub fn thread<T: Send + 'static>(
        self,
        name: &str,
        task: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<Option<JoinHandle<T>>> {
        match self {
            Spawn::Threads => thread::Builder::new().name(name.to_owned()).spawn(task).map(Some),
            Spawn::Inline => Ok(None),
        }
    }

    /// Runs `other` in a separate thread while `own` runs in the calling thread. Inline, `other`
    /// runs first. Returns after both have ended.
    ///
    /// # Panics
    /// If either of them panics.
    pub fn beside<A: Send, B>(self, other: impl FnOnce() -> A + Send, own: impl FnOnce() -> B) -> (A, B) {
        match self {
            Spawn::Threads => thread::scope(|scope| {
                let other = scope.spawn(other);
                let own = own();
                match other.join() {
                    Ok(other) => (other, own),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }),
            Spawn::Inline => {
                let other = other();
                (other, own())
            }
        }
    }
}

/// Priority of the threads that can wait (see nice(2)).
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

/// Lowers the priority of the calling thread, for work that can wait. If the system refuses it, the
/// thread works at normal priority. Outside Linux a priority belongs to the whole process, and stays
/// unchanged.
pub fn lower_priority() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(None, NICENESS);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inline_work_stays_in_the_calling_thread() {
        let here = || thread::current().id();
        let (other, own) = Spawn::Inline.beside(here, here);
        assert!(other == here() && own == here());
        assert!(Spawn::Inline.thread("x", || ()).unwrap().is_none());
        let (other, own) = Spawn::Threads.beside(here, here);
        assert!(other != here() && own == here());
        let started = Spawn::Threads.thread("x", move || thread::current().id()).unwrap();
        assert_ne!(started.unwrap().join().unwrap(), here());
    }
}
