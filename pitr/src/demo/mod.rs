//! The demo: an ordinary application in a second process, damaged and brought back.

mod shop;
pub(crate) mod writer;
