//! `pitr demo`: the database of an application in another process is damaged and restored.

pub(crate) mod args;
mod document;
mod shop;
mod story;
pub(crate) mod writer;

pub(crate) use story::run;
