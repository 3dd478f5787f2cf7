//! Codecs. Contexts are kept per thread: making one costs more than compressing a small frame.

use crate::CodecError;
use std::cell::RefCell;
use std::io::{self, Cursor};
use zstd::bulk::{Compressor, Decompressor};

/// How frames are compressed. What doesn't get smaller is stored as it is, whatever the codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Stored as it is.
    None,
    /// Zstandard.
    Zstd {
        /// Compression level, 1 to 22.
        level: i32,
    },
}

impl Default for Codec {
    /// Zstandard at level 3.
    fn default() -> Self {
        Codec::Zstd { level: 3 }
    }
}

pub(crate) const ID_NONE: u8 = 0;
pub(crate) const ID_ZSTD: u8 = 1;

impl Codec {
    /// The codec's number on disk.
    #[must_use]
    pub const fn id(self) -> u8 {
        match self {
            Codec::None => ID_NONE,
            Codec::Zstd { .. } => ID_ZSTD,
        }
    }

    /// Appends the compressed bytes to `out`; false, and nothing is appended, when they would not be fewer than `raw`.
    pub(crate) fn compress_onto(self, out: &mut Vec<u8>, raw: &[u8]) -> Result<bool, CodecError> {
        match self {
            Codec::None => Ok(false),
            Codec::Zstd { level } => deflate(level, out, raw).map_err(CodecError::Deflate),
        }
    }
}

/// Most that a thread keeps of a buffer between two frames, bytes.
const KEPT_BYTES_MAX: usize = 4 << 20;

thread_local! {
    static DEFLATE: RefCell<Option<(i32, Compressor<'static>)>> = const { RefCell::new(None) };
    static INFLATE: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Lends the thread's buffer, empty: no frame takes fresh memory for what it does not keep.
pub(crate) fn with_scratch<T>(work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.clear();
        let done = work(scratch);
        scratch.clear();
        scratch.shrink_to(KEPT_BYTES_MAX);
        done
    })
}

fn deflate(level: i32, out: &mut Vec<u8>, raw: &[u8]) -> io::Result<bool> {
    DEFLATE.with_borrow_mut(|slot| {
        let compressor = match slot {
            Some((at, compressor)) if *at == level => compressor,
            _ => &mut slot.insert((level, Compressor::new(level)?)).1,
        };
        let begin = out.len();
        out.reserve(zstd::zstd_safe::compress_bound(raw.len()));
        let mut tail = Cursor::new(&mut *out);
        tail.set_position(begin as u64);
        let is_smaller = compressor.compress_to_buffer(raw, &mut tail)? < raw.len();
        if !is_smaller {
            out.truncate(begin);
        }
        Ok(is_smaller)
    })
}

/// Decompresses `stored` into exactly `raw_len` bytes of an empty vector; never takes memory for more.
pub(crate) fn inflate_into(
    out: &mut Vec<u8>,
    codec: u8,
    stored: &[u8],
    raw_len: u32,
) -> Result<(), CodecError> {
    let wrong = |source| CodecError::Inflate { raw_len, source };
    match codec {
        ID_NONE if stored.len() == raw_len as usize => out.extend_from_slice(stored),
        ID_NONE => return Err(wrong(None)),
        ID_ZSTD => INFLATE.with_borrow_mut(|slot| {
            let decompressor = match slot {
                Some(decompressor) => decompressor,
                None => slot.insert(Decompressor::new().map_err(|e| wrong(Some(e)))?),
            };
            // The vector's capacity bounds what is written.
            out.reserve_exact(raw_len as usize);
            let written = decompressor.decompress_to_buffer(stored, out).map_err(|e| wrong(Some(e)))?;
            if written == raw_len as usize { Ok(()) } else { Err(wrong(None)) }
        })?,
        id => return Err(CodecError::Unknown { what: "codec", id }),
    }
    Ok(())
}
