//! Point-in-time recovery: the facade of the pitr crates and the program.

#![forbid(unsafe_code)]

pub use pitr_sqlite::exact;
