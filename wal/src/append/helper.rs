//! The log's own thread: it does work that no caller waits for, so that no caller is delayed by it.
//!
//! - It writes when many bytes wait and no caller syncs, so that appending continues in the
//!   meantime.
//! - It syncs for polled tickets, and as often as the sync policy says.
//! - It prepares the next segment's file.
//! - When the last handle of the log is dropped, it writes and syncs the remaining records, and
//!   ends.
//!
//! In an environment without threads ([`pitr_vfs::Spawn::Inline`]) the appending calls do this
//! work.

use super::rounds::Asked;
use crate::options::SyncPolicy;
use crate::shared::{Shared, lock};
use crate::{Error, Result};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Longest time that bytes wait to be written under [`SyncPolicy::Never`].
const WRITE_EVERY: Duration = Duration::from_millis(100);

/// The thread, or its work without one; dropping the value ends it.
#[derive(Debug)]
pub(crate) struct Helper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// The schedule of the appending calls, if there is no thread.
    inline: Mutex<Schedule>,
}

impl Helper {
    pub(crate) fn start(shared: &Arc<Shared>) -> Result<Self> {
        let own = Arc::clone(shared);
        let thread = shared.env.spawn.thread("pitr-wal", move || run(&own));
        let thread = thread.map_err(Error::io("start a thread for", &shared.dir))?;
        Ok(Helper { shared: Arc::clone(shared), thread, inline: Mutex::new(Schedule::new(shared)) })
    }

    /// Does what is due, if there is no thread. Called after an append.
    pub(crate) fn appended(&self) {
        if self.thread.is_none() {
            let asked = self.shared.rounds.take_asked();
            lock(&self.inline).serve(&self.shared, asked);
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        match self.thread.take() {
            Some(thread) => {
                self.shared.queue().ask(|asked| asked.stop = true);
                // A panic of that thread was reported to all waiting threads.
                let _ = thread.join();
            }
            None => serve(&self.shared, Asked { stop: true, ..Asked::default() }, false),
        }
    }
}

/// When the periodic work is due, on the monotonic clock.
#[derive(Debug)]
struct Schedule {
    every: Option<Duration>,
    next: Duration,
}

impl Schedule {
    fn new(shared: &Shared) -> Self {
        let every = match shared.options.sync {
            SyncPolicy::Periodic(period) => Some(period),
            SyncPolicy::Never => Some(WRITE_EVERY),
            SyncPolicy::Each | SyncPolicy::Within(_) => None,
        };
        let next = shared.env.clock.monotonic().saturating_add(every.unwrap_or_default());
        Schedule { every, next }
    }

    /// Time until the work is due; `None` without periodic work.
    fn left(&self, now: Duration) -> Option<Duration> {
        self.every.map(|_| self.next.saturating_sub(now))
    }

    /// Does the requested and the due work.
    fn serve(&mut self, shared: &Shared, asked: Asked) {
        let clock = &shared.env.clock;
        let due = self.every.filter(|_| clock.monotonic() >= self.next);
        serve(shared, asked, due.is_some());
        if let Some(every) = due {
            self.next = clock.monotonic().saturating_add(every);
        }
    }
}

fn run(shared: &Shared) {
    let mut schedule = Schedule::new(shared);
    loop {
        let asked = shared.rounds.idle(schedule.left(shared.env.clock.monotonic()));
        schedule.serve(shared, asked);
        if asked.stop {
            return;
        }
    }
}

/// Does the requested and the due work.
fn serve(shared: &Shared, asked: Asked, is_due: bool) {
    let periodic = is_due && shared.options.sync != SyncPolicy::Never;
    if asked.sync || asked.stop || periodic {
        let queue = shared.queue();
        let round = queue.newest();
        // A failure ended the log: the callers get the error.
        let _ = shared.wait(queue, round);
    } else {
        shared.flush(is_due);
    }
    if asked.spare && !asked.stop {
        shared.prepare_spare();
    }
}
