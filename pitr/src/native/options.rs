//! Settings of an attached log.

use std::fmt;
use std::time::Duration;

use pitr_engine::Events;

/// How a log is archived.
///
/// ```
/// use pitr::AttachOptions;
/// use std::time::Duration;
///
/// let options = AttachOptions::new("my-engine").ship_every(Some(Duration::from_millis(100)));
/// assert_eq!(options.slot, AttachOptions::SLOT);
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct AttachOptions {
    /// Name of the engine, which must be registered: it restores what is archived here.
    pub engine: String,
    /// Pause between two shipments; `None` to ship only when asked.
    pub ship_every: Option<Duration>,
    /// Name of the slot that holds the log until it is archived.
    pub slot: String,
    /// Continues after log that was removed before it was archived, and with a log that does not
    /// begin at its origin. States in the gap can't be restored, and later ones need a new
    /// snapshot.
    pub accept_gaps: bool,
    /// Maximum bytes of log in an object of the archive, except that one batch may exceed it.
    pub object_bytes: u32,
    /// Receives the events. They are logged if it is `None`.
    pub events: Option<Events>,
}

impl AttachOptions {
    /// The name of the slot unless it is set.
    pub const SLOT: &str = "archiver";

    /// The log of this engine, shipped about once a second. Gaps are refused.
    #[must_use]
    pub fn new(engine: impl Into<String>) -> Self {
        AttachOptions {
            engine: engine.into(),
            ship_every: Some(Duration::from_secs(1)),
            slot: Self::SLOT.to_owned(),
            accept_gaps: false,
            object_bytes: pitr_archive::ShipOptions::default().object_bytes,
            events: None,
        }
    }

    /// Sets the pause between two shipments; `None` to ship only when asked.
    #[must_use]
    pub fn ship_every(self, ship_every: Option<Duration>) -> Self {
        AttachOptions { ship_every, ..self }
    }

    /// Sets the name of the slot. Each archive of a log needs a slot of its own.
    #[must_use]
    pub fn slot(self, slot: impl Into<String>) -> Self {
        AttachOptions { slot: slot.into(), ..self }
    }

    /// Accepts gaps if `accept_gaps` is true.
    #[must_use]
    pub fn accept_gaps(self, accept_gaps: bool) -> Self {
        AttachOptions { accept_gaps, ..self }
    }

    /// Sets the maximum bytes of log in an object.
    #[must_use]
    pub fn object_bytes(self, object_bytes: u32) -> Self {
        AttachOptions { object_bytes, ..self }
    }

    /// Sets the receiver of events. It is called from the threads of shipments and snapshots.
    #[must_use]
    pub fn events(self, events: Events) -> Self {
        AttachOptions { events: Some(events), ..self }
    }
}

impl fmt::Debug for AttachOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttachOptions")
            .field("engine", &self.engine)
            .field("ship_every", &self.ship_every)
            .field("slot", &self.slot)
            .field("accept_gaps", &self.accept_gaps)
            .field("object_bytes", &self.object_bytes)
            .finish_non_exhaustive()
    }
}
