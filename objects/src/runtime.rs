//! Where requests run.
//!
//! A request to a remote store is spawned on threads of its own, and its result comes over a
//! channel. So a call works from any thread, also from one of another async runtime. The requests
//! of a local store never wait for another thread: the caller polls them.

use crate::{Error, Result};
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::task::{Context, Poll, Wake};
use std::thread::{Thread, current, park};
use tokio::runtime::Runtime;

/// Threads that drive requests.
const WORKERS: usize = 2;
/// Maximum number of threads for blocking calls of a store.
const BLOCKING_MAX: usize = 4;

#[derive(Debug)]
pub(crate) enum Requests {
    /// Requests run on the caller's thread.
    Caller,
    /// Requests run on a runtime of the store, which is taken out when the last handle is dropped.
    Spawned(Option<Runtime>),
}

impl Requests {
    /// Starts the threads for a store that may wait for sockets and timers.
    pub(crate) fn start() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .max_blocking_threads(BLOCKING_MAX)
            .thread_name("pitr-objects")
            .enable_all()
            .build()
            .map_err(|source| Error::Runtime { source: Some(source) })?;
        Ok(Requests::Spawned(Some(runtime)))
    }

    /// Runs `request` to its end and returns its result.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        request: impl Future<Output = T> + Send + 'static,
    ) -> Result<T> {
        let runtime = match self {
            Requests::Caller => return Ok(block_on(request)),
            Requests::Spawned(runtime) => runtime.as_ref().ok_or(Error::Runtime { source: None })?,
        };
        let (send, receive) = sync_channel(1);
        runtime.spawn(async move {
            // The receiver waits below. If it no longer exists, nobody needs the result.
            let _ = send.send(request.await);
        });
        receive.recv().map_err(|_| Error::Runtime { source: None })
    }
}

impl Drop for Requests {
    /// Does not wait for the threads: the last handle may be dropped inside another runtime.
    fn drop(&mut self) {
        if let Requests::Spawned(runtime) = self
            && let Some(runtime) = runtime.take()
        {
            runtime.shutdown_background();
        }
    }
}

/// Wakes a thread that waits in [`block_on`].
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls a future on this thread until it is ready.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Arc::new(Unpark(current())).into();
    let (mut future, mut context) = (pin!(future), Context::from_waker(&waker));
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(result) => return result,
            Poll::Pending => park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_request_may_also_wait_on_the_callers_thread() {
        let (send, receive) = futures_util::future::abortable(std::future::pending::<()>());
        let waking = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            receive.abort();
        });
        assert!(Requests::Caller.run(send).unwrap().is_err(), "aborted");
        waking.join().unwrap();
    }
}
