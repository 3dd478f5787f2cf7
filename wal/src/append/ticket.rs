//! Tickets: records that have their positions and may not be durable yet.

use super::layout::Appended;
use super::queue::Round;
use crate::Result;
use crate::shared::Shared;
use std::sync::Arc;

/// Records that have their positions and may not be durable yet.
///
/// A ticket alone causes no sync. A thread that waits for a ticket, or for any later ticket, syncs
/// for all of them. So one thread can have thousands of tickets in flight. With the feature
/// `future` a ticket can be awaited.
#[derive(Debug)]
#[must_use = "the records become durable when a thread waits for them"]
pub struct Ticket {
    pub(crate) shared: Arc<Shared>,
    pub(crate) round: Round,
    pub(crate) appended: Appended,
}

impl Ticket {
    pub(crate) fn new(shared: &Arc<Shared>, round: Round, appended: Appended) -> Self {
        Ticket { shared: Arc::clone(shared), round, appended }
    }

    /// The positions of the records.
    #[must_use]
    pub fn appended(&self) -> &Appended {
        &self.appended
    }

    /// True once the records are durable. Does not wait and causes no sync.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.shared.rounds.is_done(self.round)
    }

    /// Returns when the records and everything appended before them are durable.
    pub fn wait(self) -> Result<Appended> {
        if !self.is_durable() {
            self.shared.wait(self.shared.queue(), self.round)?;
        }
        Ok(self.appended)
    }
}
