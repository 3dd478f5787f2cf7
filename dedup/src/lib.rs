//! A content-addressed chunk store in packs.
//!
//! A chunk is up to 4 MiB of data, named by a SHA-256 over all of it ([`ChunkId`]); storing it twice costs nothing. Chunks
//! lie, compressed, in packs of at most 16 MiB (`docs/format/pack.md`); index objects tell where. Footers of packs tell
//! what chunks consist of, piece by piece ([`ChunkSums`]).
//!
//! ```text
//! packs/<first two digits>/<digest>    chunks as frames, their ids and the sums of their pieces in the footer
//! index/<digest>                       for each of some packs: digest, chunk ids, lengths
//! ```
//!
//! # Promises
//! - **Packs first, then their index.** A crash in between leaves packs that nobody reads: rubbish, no harm. What an index
//!   names stays of use to whoever comes next, also when its writer died.
//! - **What is stored was read back.** Each frame is decoded after it was encoded and compared with the chunk, and each
//!   pack is compared with its frame table, before it is put.
//! - **What is read was checked.** [`ChunkStore::read`] returns bytes of that id or an error that names the pack.
//! - **What is relied on stays.** A store holds a lease; what is condemned after that lease was put is deleted after it
//!   ended, and what was condemned before is not relied on (`docs/format/prune.md`).
//! - **Memory is bounded** by what is in flight (see [`ChunkWriter`]): the index of all chunks, old and new, stands in mapped
//!   files with a filter in front of each, in the system's folder for temporary files, 54 bytes for each chunk. In memory
//!   stand some thousands of new ones, and 130 bytes for each pack.
//!
//! Two calls have the crate's only `unsafe`: those of functions which only some processors can run (`sha256.rs`).
#![deny(unsafe_code)]

mod batch;
mod check;
mod collect;
mod error;
mod filling;
mod grown;
mod id;
mod index;
mod pack;
mod puts;
mod sha256;
mod store;
mod sums;
mod table;
mod writer;

pub use check::{check_index, check_pack};
pub use collect::{Marks, PackUse};
pub use error::{Error, Result};
pub use id::{ChunkId, ChunkIds, PIECE_BYTES, PieceSum, Pieces};
pub use pitr_objects::ErrorKind;
pub use store::{ChunkStore, Damage, Place};
pub use sums::{ChunkSums, SumsOfChunk};
pub use writer::{ChunkWriter, Written};

/// Largest chunk, bytes.
pub const CHUNK_BYTES_MAX: usize = 4 << 20;
