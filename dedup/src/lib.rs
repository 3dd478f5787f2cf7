//! A content-addressed chunk store in packs.
//!
//! A chunk is up to 4 MiB of data. Its name is a SHA-256 over all of it ([`ChunkId`]), so storing a
//! chunk twice costs nothing. Packs of at most 16 MiB hold compressed chunks
//! (`docs/format/pack.md`), and index objects hold the place of each chunk. The footer of a pack
//! describes its chunks piece by piece ([`ChunkSums`]).
//!
//! ```text
//! packs/<first two digits>/<digest>    chunks as frames; their ids and piece sums in the footer
//! index/<digest>                       for each of some packs: digest, chunk ids, lengths
//! ```
//!
//! ```
//! use pitr_dedup::{ChunkStore, Codec, Objects};
//!
//! let store = ChunkStore::open(Objects::memory()?)?;
//! let writer = store.writer(Codec::default());
//! let id = writer.put(b"some bytes")?;
//! writer.finish()?;
//! assert_eq!(store.read(&id)?, b"some bytes");
//! # Ok::<(), pitr_dedup::Error>(())
//! ```
//!
//! # Guarantees
//! - **Packs first, then their index.** A crash in between leaves unreferenced packs, which nothing
//!   reads. Chunks in an index object can be reused, even if their writer died.
//! - **Stored data was read back.** Each frame is decoded after encoding and compared with the
//!   chunk. Each pack is compared with its frame table before it is put.
//! - **Read data was checked.** [`ChunkStore::read`] returns the bytes of that id, or an error with
//!   the pack.
//! - **Chunks that a writer relies on are kept.** A store holds a lease. A pack that is condemned
//!   after the lease was put is deleted after the lease has ended. A pack that was condemned before
//!   is not relied on (`docs/format/prune.md`).
//! - **Memory is bounded** by the data in flight (see [`ChunkWriter`]). The index of all chunks is
//!   in mapped files with a filter for each, in the system's folder for temporary files. It takes
//!   54 bytes for each chunk. In memory are some thousands of new chunks, and 130 bytes for each
//!   pack.
//!
//! The crate's only `unsafe` is in two calls of functions that only some processors can run
//! (`sha256.rs`).
#![deny(unsafe_code)]

mod batch;
mod check;
mod collect;
mod error;
mod id;
mod index;
mod location;
mod memtable;
mod open_packs;
mod pack;
mod sha256;
mod store;
mod sums;
mod table;
mod uploader;
mod writer;

pub use check::{check_index, check_index_footer, check_pack, check_pack_footer};
pub use collect::{Marks, PackUse};
pub use error::{Error, Result};
pub use id::{ChunkId, ChunkIds, PieceSum, Pieces};
pub use pitr_codec::Codec;
pub use pitr_objects::{ErrorKind, Objects};
pub use store::{ChunkStore, Damage, Place};
pub use sums::{ChunkSums, SumsOfChunk};
pub use uploader::Written;
pub use writer::ChunkWriter;

/// Maximum size of a chunk, bytes.
pub const CHUNK_BYTES_MAX: usize = 4 << 20;
/// Size of a piece, bytes. The last piece of a chunk may be shorter.
pub const PIECE_BYTES: usize = 4096;

/// The examples in the README compile and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
