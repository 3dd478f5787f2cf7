//! The rules against a naive replay of every record, oldest first.
#![expect(clippy::unwrap_used, reason = "an unexpected result fails the test, in helpers too")]

mod any_order;
mod cuts;
mod defaults;
mod log;
mod newest_first;
mod open;
mod orders;
