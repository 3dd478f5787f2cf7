//! The threads that requests run on.
//!
//! A request is spawned and waited for over a channel, instead of being run by the caller: so calls work from any
//! thread, also from one that belongs to another async runtime.

use crate::{Error, Result};
use std::sync::mpsc::sync_channel;
use tokio::runtime::Runtime;

/// Threads that drive requests.
const WORKERS: usize = 2;
/// Most local folders that are listed, and files deleted, at once; they are read and written by the caller.
const BLOCKING_MAX: usize = 4;

#[derive(Debug)]
pub(crate) struct Requests {
    runtime: Option<Runtime>,
}

impl Requests {
    pub(crate) fn start() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .max_blocking_threads(BLOCKING_MAX)
            .thread_name("pitr-objects")
            .enable_all()
            .build()
            .map_err(|source| Error::Runtime { source: Some(source) })?;
        Ok(Requests { runtime: Some(runtime) })
    }

    /// Runs `request` to its end and returns what it gives.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        request: impl Future<Output = T> + Send + 'static,
    ) -> Result<T> {
        let runtime = self.runtime.as_ref().ok_or(Error::Runtime { source: None })?;
        let (send, receive) = sync_channel(1);
        runtime.spawn(async move {
            // The receiver waits below; if it is gone nobody wants the answer.
            let _ = send.send(request.await);
        });
        receive.recv().map_err(|_| Error::Runtime { source: None })
    }
}

impl Drop for Requests {
    /// Waiting for the threads is not allowed when the last handle goes away inside another runtime.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
