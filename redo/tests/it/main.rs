//! The rules against a naive replay of every record, oldest first.

mod any_order;
mod cuts;
mod log;
mod newest_first;
mod orders;
