//! Awaiting tickets under any executor: the log's own thread syncs and wakes.

use super::layout::Appended;
use super::ticket::Ticket;
use crate::{Error, Result};
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Poll};

/// Becomes ready when the records of a [`Ticket`] are durable, or when the log has failed. Polling
/// makes the log's own thread sync; dropping it does not undo the append.
#[derive(Debug)]
#[must_use = "a future does nothing unless it is polled"]
pub struct Durable {
    ticket: Option<Ticket>,
    /// Number under which the waker is kept, from the first poll on.
    number: Option<u64>,
}

impl IntoFuture for Ticket {
    type Output = Result<Appended>;
    type IntoFuture = Durable;

    fn into_future(self) -> Durable {
        Durable { ticket: Some(self), number: None }
    }
}

impl Future for Durable {
    type Output = Result<Appended>;

    /// [`Error::Options`] if the log has no thread of its own.
    ///
    /// # Panics
    /// If the future is polled after it was ready.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Appended>> {
        let Durable { ticket, number } = &mut *self;
        let waiting = ticket.as_ref().expect("not polled after it was ready");
        if !waiting.is_durable() {
            if !waiting.shared.options.background {
                return Poll::Ready(Err(Error::Options { what: "awaiting a ticket needs `background`" }));
            }
            if waiting.shared.env.spawn.is_inline() {
                // There is no thread that could wake the task.
                return Poll::Ready(ticket.take().expect("it was there above").wait());
            }
            let mut queue = waiting.shared.queue();
            // Check again under the lock: a report that comes now finds the waker.
            if !waiting.is_durable() {
                if let Err(failed) = queue.check() {
                    return Poll::Ready(Err(failed));
                }
                let number = *number.get_or_insert_with(|| queue.number());
                queue.poll(number, waiting.round, context.waker().clone());
                return Poll::Pending;
            }
        }
        let appended = ticket.take().map(|ticket| ticket.appended);
        Poll::Ready(Ok(appended.expect("it was there above")))
    }
}

impl Drop for Durable {
    fn drop(&mut self) {
        if let (Some(ticket), Some(number)) = (&self.ticket, self.number) {
            ticket.shared.queue().forget(number);
        }
    }
}
