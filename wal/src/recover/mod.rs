//! Recovery: opening a log after a crash, and replaying it.
//!
//! [`open`] creates and opens logs. [`scan`] finds the end of the valid batches, [`tail`] decides
//! between a torn tail and a hole. [`inspect`] shows the same decision without changing a file.
//! [`analysis`] finds which transactions committed and what they leave of each block ([`effects`]);
//! [`committed`] hands their records to the calling thread, `replay` to one worker for each
//! partition.

mod analysis;
mod committed;
mod effects;
mod inspect;
pub(crate) mod open;
#[cfg(feature = "parallel")]
mod replay;
mod scan;
mod tail;

pub use analysis::{AbortedTx, Analysis, CommittedTx};
pub use inspect::{Contents, Finding, Inspection, Tail, TailEnd};
pub use open::{Cut, Recovered};
