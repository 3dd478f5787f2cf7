//! What stands for records that have their place and may not be durable yet.

use super::layout::Appended;
use super::queue::Round;
use crate::shared::Shared;
use crate::Result;
use std::sync::Arc;

/// Records that have their place and may not be durable yet.
///
/// Nobody syncs for a ticket alone: whoever waits for it, or for any later one, does it for all. So thousands may be
/// in flight for one waiter. With the feature `future` a ticket can be awaited.
#[derive(Debug)]
#[must_use = "the records are not durable before someone waits"]
pub struct Ticket {
    pub(crate) shared: Arc<Shared>,
    pub(crate) round: Round,
    pub(crate) appended: Appended,
}

impl Ticket {
    pub(crate) fn new(shared: &Arc<Shared>, round: Round, appended: Appended) -> Self {
        Ticket { shared: Arc::clone(shared), round, appended }
    }

    /// Where the records stand.
    #[must_use]
    pub fn appended(&self) -> &Appended {
        &self.appended
    }

    /// True once the records are durable. Does not wait, and makes nobody sync.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.shared.rounds.is_done(self.round)
    }

    /// Returns when the records, and everything appended before them, are durable.
    pub fn wait(self) -> Result<Appended> {
        if !self.is_durable() {
            self.shared.wait(self.shared.queue(), self.round)?;
        }
        Ok(self.appended)
    }
}
