//! Threads that write extents, so that a thread that decodes does not wait for the disk.

use crate::error::{Error, Result};
use crossbeam_channel::{Receiver, Sender, bounded};
use pitr_objects::parallel::FirstError;
use pitr_vfs::Loan;
use std::io::ErrorKind;
use std::path::Path;
use std::thread;

/// Number of extents that are written at the same time, and of those that wait. All are in memory.
const WRITERS: usize = 4;

/// An extent that is ready to be written.
#[derive(Debug)]
pub(crate) struct Ready {
    /// Offset in the file.
    pub(crate) offset: u64,
    pub(crate) bytes: Loan,
    /// Number of bytes that the log has, if other bytes are from the base.
    pub(crate) of_log: Option<u64>,
}

/// Writes an extent.
type Write<'a> = &'a (dyn Fn(Ready) -> Result<()> + Sync);

/// Where extents are passed on.
pub(crate) enum Writers<'a> {
    /// The thread that has an extent writes it.
    Caller(Write<'a>),
    Threads {
        queue: Sender<Ready>,
        failed: &'a FirstError<Error>,
    },
}

impl Writers<'_> {
    /// Calls `work` with threads that write. Everything is written on return.
    ///
    /// # Errors
    /// The first error of `write`, or else that of `work`.
    pub(crate) fn run(write: Write<'_>, work: impl FnOnce(&Writers<'_>) -> Result<()>) -> Result<()> {
        let failed = FirstError::default();
        let (queue, ready) = bounded(WRITERS);
        let write_each = |ready: Receiver<Ready>| {
            for one in ready {
                // After an error, extents are dropped, so that nobody waits for room.
                if !failed.is_set()
                    && let Err(error) = write(one)
                {
                    failed.keep(error);
                }
            }
        };
        let write_each = &write_each;
        let done = thread::scope(|scope| {
            for _ in 0..WRITERS {
                let ready = ready.clone();
                scope.spawn(move || write_each(ready));
            }
            drop(ready);
            work(&Writers::Threads { queue, failed: &failed }) // the queue ends here
        });
        failed.or(done)
    }

    /// Writes an extent now or soon.
    ///
    /// # Errors
    /// That of an earlier extent; [`run`](Self::run) returns the first.
    pub(crate) fn write(&self, ready: Ready) -> Result<()> {
        match self {
            Writers::Caller(write) => write(ready),
            Writers::Threads { queue, failed } if !failed.is_set() => {
                queue.send(ready).map_err(|_| stopped())
            }
            Writers::Threads { .. } => Err(stopped()),
        }
    }
}

/// Ends the work after an error of a writer, which is the one that is reported.
fn stopped() -> Error {
    Error::io("write", Path::new(""))(ErrorKind::BrokenPipe.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitr_vfs::Buffers;
    use std::sync::atomic::{AtomicU64, Ordering};

    fn ready(offset: u64) -> Ready {
        Ready { offset, bytes: Buffers::default().lend(10), of_log: None }
    }

    #[test]
    fn everything_is_written_on_return() {
        let sum = AtomicU64::new(0);
        let add = |ready: Ready| {
            thread::yield_now();
            sum.fetch_add(ready.offset, Ordering::Relaxed);
            Ok(())
        };
        Writers::run(&add, |writers| (0..1000).try_for_each(|offset| writers.write(ready(offset)))).unwrap();
        assert_eq!(sum.load(Ordering::Relaxed), 499_500);
        Writers::Caller(&add).write(ready(1)).unwrap();
        assert_eq!(sum.load(Ordering::Relaxed), 499_501);
    }

    #[test]
    fn the_error_of_a_writer_ends_the_work_and_is_reported() {
        let (written, begun) = (AtomicU64::new(0), AtomicU64::new(0));
        let fail = |ready: Ready| match ready.offset {
            10 => Err(Error::io("write", Path::new("full"))(ErrorKind::StorageFull.into())),
            _ => {
                written.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
        };
        let result = Writers::run(&fail, |writers| {
            (0..1_000_000).try_for_each(|offset| {
                begun.fetch_add(1, Ordering::Relaxed);
                writers.write(ready(offset))
            })
        });
        assert!(result.unwrap_err().to_string().contains("full"));
        assert!(begun.into_inner() < 1_000_000, "the work goes on after an error");
        assert!(written.into_inner() < 1_000_000);
        let own = Writers::run(&|_| Ok(()), |_| Err(Error::NoTables));
        assert!(matches!(own, Err(Error::NoTables)));
    }
}
