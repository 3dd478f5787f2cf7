//! Test code that several crates share.
//!
//! - Feature `store`: an object store that fails, delays and counts as a test asks (`TestStore`).
//! - Feature `sqlite`: a SQLite application in its own process (`App`, `serve`).
//! - Feature `engine`: an external storage engine that uses only published crates (`PageEngine`).
#![forbid(unsafe_code)]

#[cfg(feature = "sqlite")]
mod app;
#[cfg(feature = "engine")]
mod engine;
#[cfg(feature = "store")]
mod store;

#[cfg(feature = "sqlite")]
pub use app::{App, serve};
#[cfg(feature = "engine")]
pub use engine::PageEngine;
#[cfg(feature = "store")]
pub use store::{Answer, Request, TestStore};
