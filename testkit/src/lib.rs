//! Test code that several crates share.
//!
//! - Always: bytes of a seed (`noise`), a view of bytes for checks of format pages (`Bytes`), and
//!   the files of a folder (`files_below`, `copy_folder`).
//! - Feature `store`: an object store that fails, delays and counts as a test asks (`TestStore`).
//! - Feature `files`: a file system that counts and misbehaves as a test asks (`TestFs`).
//! - Feature `sqlite`: a SQLite application in its own process (`App`, `serve`).
//! - Feature `servers`: real object stores in processes of their own ([`servers`]), and a proxy
//!   that injects faults in front of them ([`proxy`]).
//! - Feature `engine`: an external storage engine that uses only published crates (`PageEngine`).
#![forbid(unsafe_code)]

#[cfg(feature = "sqlite")]
mod app;
mod bytes;
#[cfg(feature = "engine")]
mod engine;
#[cfg(feature = "files")]
mod files;
mod folders;
#[cfg(feature = "servers")]
mod http;
#[cfg(feature = "servers")]
pub mod proxy;
#[cfg(feature = "servers")]
pub mod servers;
#[cfg(feature = "store")]
mod store;

#[cfg(feature = "sqlite")]
pub use app::{App, serve};
pub use bytes::{Bytes, noise};
#[cfg(feature = "engine")]
pub use engine::PageEngine;
#[cfg(feature = "files")]
pub use files::{Operation, Outcome, TestFs};
pub use folders::{copy_folder, files_below};
#[cfg(feature = "store")]
pub use store::{Answer, ListingOrder, Request, TestStore};
