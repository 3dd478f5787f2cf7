//! The demo: an ordinary application in a second process, damaged and brought back.

pub(crate) mod args;
mod document;
mod shop;
mod story;
pub(crate) mod writer;

pub(crate) use story::run;
