//! The log's own thread: it does work that no caller waits for, so that no caller is delayed by it.
//!
//! - It writes when many bytes wait and no caller syncs, so that appending continues in the meantime.
//! - It syncs for polled tickets, and as often as the sync policy says.
//! - It prepares the next segment's file.
//! - When the last handle of the log is dropped, it writes and syncs the remaining records, and ends.

use crate::options::SyncPolicy;
use crate::shared::Shared;
use crate::{Error, Result};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longest time that bytes wait to be written under [`SyncPolicy::Never`].
const WRITE_EVERY: Duration = Duration::from_millis(100);

/// The thread; dropping the value ends it.
#[derive(Debug)]
pub(crate) struct Helper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Helper {
    pub(crate) fn start(shared: &Arc<Shared>) -> Result<Self> {
        let own = Arc::clone(shared);
        let thread = std::thread::Builder::new().name("pitr-wal".to_owned()).spawn(move || run(&own));
        let thread = Some(thread.map_err(Error::io("start a thread for", &shared.dir))?);
        Ok(Helper { shared: Arc::clone(shared), thread })
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.shared.queue().ask(|asked| asked.stop = true);
        // A panic of that thread was reported to all waiting threads.
        self.thread.take().map(JoinHandle::join);
    }
}

fn run(shared: &Shared) {
    let every = match shared.options.sync {
        SyncPolicy::Periodic(period) => Some(period),
        SyncPolicy::Never => Some(WRITE_EVERY),
        SyncPolicy::Each | SyncPolicy::Within(_) => None,
    };
    let mut due = every.map(|every| Instant::now() + every);
    loop {
        let asked = shared.rounds.idle(due.map(|due| due.saturating_duration_since(Instant::now())));
        let is_due = due.is_some_and(|due| Instant::now() >= due);
        let periodic = is_due && shared.options.sync != SyncPolicy::Never;
        if asked.sync || asked.stop || periodic {
            let queue = shared.queue();
            let round = queue.newest();
            // A failure ended the log: the callers get the error.
            let _ = shared.wait(queue, round);
        } else {
            shared.flush(is_due);
        }
        if asked.stop {
            return;
        }
        if asked.spare {
            shared.prepare_spare();
        }
        if is_due {
            due = every.map(|every| Instant::now() + every);
        }
    }
}
