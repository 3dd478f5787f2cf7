//! Appending: from records in a builder to synced batches in segment files.
//!
//! [`builder`] collects records, [`layout`] gives them their positions, [`queue`] decides who
//! writes and syncs for whom, [`rounds`] puts threads to sleep and wakes them, and [`writer`]
//! performs the writes and syncs. [`helper`] is the log's own thread. A [`Ticket`] stands for
//! records that are placed and may not be durable yet.

mod builder;
mod end;
#[cfg(feature = "future")]
mod future;
mod gate;
mod helper;
mod layout;
mod queue;
mod rounds;
mod ticket;
mod writer;

pub use builder::BatchBuilder;
#[cfg(feature = "future")]
pub use future::Durable;
pub use layout::{Appended, Committed};
pub use ticket::Ticket;

pub(crate) use end::End;
pub(crate) use helper::Helper;
pub(crate) use layout::Layout;
pub(crate) use queue::{Queue, Round};
pub(crate) use rounds::{Locked, Rounds};
pub(crate) use writer::Writer;
