//! Codecs. Compression contexts are kept per thread: creating one costs more than compressing a
//! small frame.

use crate::CodecError;
use std::cell::RefCell;
use std::fmt;
use std::io::{self, Cursor, Read, Write};
use std::str::FromStr;
use thiserror::Error;
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::CParameter;

/// How frames are compressed. Data that does not get smaller is stored uncompressed, whatever the
/// codec.
///
/// The text form is `none`, `zstd:3`, `lz4`, `snappy` or `gzip:6`. Without a level, `zstd` means 3
/// and `gzip` means 6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// No compression.
    None,
    /// Zstandard.
    Zstd {
        /// Compression level, 1 to 22.
        level: i32,
    },
    /// LZ4, one block.
    Lz4,
    /// Snappy, raw format without framing.
    Snappy,
    /// Gzip.
    Gzip {
        /// Compression level, 1 to 9.
        level: u32,
    },
}

impl Default for Codec {
    /// Zstandard at level 3.
    fn default() -> Self {
        Codec::Zstd { level: USUAL_LEVEL }
    }
}

pub(crate) const ID_NONE: u8 = 0;
const ID_ZSTD: u8 = 1;
const ID_LZ4: u8 = 2;
const ID_SNAPPY: u8 = 3;
const ID_GZIP: u8 = 4;

impl Codec {
    /// The codec's number on disk.
    #[must_use]
    pub const fn id(self) -> u8 {
        match self {
            Codec::None => ID_NONE,
            Codec::Zstd { .. } => ID_ZSTD,
            Codec::Lz4 => ID_LZ4,
            Codec::Snappy => ID_SNAPPY,
            Codec::Gzip { .. } => ID_GZIP,
        }
    }

    /// The compression level, 0 if the codec has none. A repository stores only this and
    /// [`id`](Self::id).
    #[must_use]
    pub const fn level(self) -> u32 {
        match self {
            Codec::Zstd { level } => level as u32, // 1 to 22
            Codec::Gzip { level } => level,
            Codec::None | Codec::Lz4 | Codec::Snappy => 0,
        }
    }

    /// The codec with this number and level, if it exists.
    #[must_use]
    pub const fn from_parts(id: u8, level: u32) -> Option<Self> {
        Some(match (id, level) {
            (ID_NONE, 0) => Codec::None,
            (ID_ZSTD, 1..=22) => Codec::Zstd { level: level as i32 },
            (ID_LZ4, 0) => Codec::Lz4,
            (ID_SNAPPY, 0) => Codec::Snappy,
            (ID_GZIP, 1..=9) => Codec::Gzip { level },
            _ => return None,
        })
    }

    /// Appends the compressed bytes to `out`. Returns false and appends nothing if they would not
    /// be fewer than `raw`.
    pub(crate) fn compress_onto(self, out: &mut Vec<u8>, raw: &[u8]) -> Result<bool, CodecError> {
        let begin = out.len();
        let compressed = match self {
            Codec::None => return Ok(false),
            Codec::Zstd { level } => zstd_onto(level, out, raw),
            Codec::Lz4 => {
                out.resize(begin + lz4_flex::block::get_maximum_output_size(raw.len()), 0);
                lz4_flex::block::compress_into(raw, &mut out[begin..]).map_err(io::Error::other)
            }
            Codec::Snappy => {
                out.resize(begin + snap::raw::max_compress_len(raw.len()), 0);
                snap::raw::Encoder::new().compress(raw, &mut out[begin..]).map_err(io::Error::other)
            }
            Codec::Gzip { level } => gzip_onto(level, out, raw),
        };
        let written = compressed.map_err(CodecError::Deflate)?;
        let is_smaller = written < raw.len();
        out.truncate(begin + if is_smaller { written } else { 0 });
        Ok(is_smaller)
    }
}

/// The text does not name a codec.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is not a codec; use none, zstd:1 to zstd:22, lz4, snappy, or gzip:1 to gzip:9")]
pub struct UnknownCodec(String);

impl FromStr for Codec {
    type Err = UnknownCodec;

    fn from_str(text: &str) -> Result<Self, UnknownCodec> {
        let unknown = || UnknownCodec(text.to_owned());
        let (name, level) = match text.split_once(':') {
            Some((name, level)) => (name, Some(level.parse::<u8>().map_err(|_| unknown())?)),
            None => (text, None),
        };
        let (id, usual) = match name {
            "none" => (ID_NONE, 0),
            "zstd" => (ID_ZSTD, 3),
            "lz4" => (ID_LZ4, 0),
            "snappy" => (ID_SNAPPY, 0),
            "gzip" => (ID_GZIP, 6),
            _ => return Err(unknown()),
        };
        match level {
            Some(0) => Err(unknown()), // 0 stands for "no level", which has no text form
            level => Codec::from_parts(id, level.map_or(usual, u32::from)).ok_or_else(unknown),
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Codec::None => f.write_str("none"),
            Codec::Zstd { level } => write!(f, "zstd:{level}"),
            Codec::Lz4 => f.write_str("lz4"),
            Codec::Snappy => f.write_str("snappy"),
            Codec::Gzip { level } => write!(f, "gzip:{level}"),
        }
    }
}

/// The default level.
const USUAL_LEVEL: i32 = 3;
/// log2 of zstd's hash table size at the default level.
///
/// For a frame of 1 MiB, zstd by default uses two tables of 2^17 and 2^16 entries, more than the
/// second-level cache of a core. With 2^16 both tables fit: on a database file this is 8 to 12%
/// faster and stores 0.8% more (docs/choices.md).
const HASH_LOG: u32 = 16;
/// Largest buffer that a thread keeps between two frames, bytes.
const KEPT_BYTES_MAX: usize = 4 << 20;

thread_local! {
    static DEFLATE: RefCell<Option<(i32, Compressor<'static>)>> = const { RefCell::new(None) };
    static INFLATE: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
    static SCRATCH: RefCell<[Vec<u8>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// Lends the thread's two buffers, with arbitrary content. They avoid a fresh allocation for each
/// frame.
pub(crate) fn with_scratch<T>(work: impl FnOnce(&mut Vec<u8>, &mut Vec<u8>) -> T) -> T {
    SCRATCH.with_borrow_mut(|[one, other]| {
        let done = work(one, other);
        for scratch in [one, other] {
            scratch.truncate(KEPT_BYTES_MAX);
            scratch.shrink_to(KEPT_BYTES_MAX);
        }
        done
    })
}

fn compressor(level: i32) -> io::Result<Compressor<'static>> {
    let mut compressor = Compressor::new(level)?;
    if level == USUAL_LEVEL {
        compressor.set_parameter(CParameter::HashLog(HASH_LOG))?;
    }
    Ok(compressor)
}

/// Compresses without moving data: the compressor writes right after the content of `out`.
fn zstd_onto(level: i32, out: &mut Vec<u8>, raw: &[u8]) -> io::Result<usize> {
    DEFLATE.with_borrow_mut(|slot| {
        let compressor = match slot {
            Some((at, compressor)) if *at == level => compressor,
            _ => &mut slot.insert((level, compressor(level)?)).1,
        };
        let begin = out.len() as u64;
        out.reserve(zstd::zstd_safe::compress_bound(raw.len()));
        let mut tail = Cursor::new(out);
        tail.set_position(begin);
        compressor.compress_to_buffer(raw, &mut tail)
    })
}

fn gzip_onto(level: u32, out: &mut Vec<u8>, raw: &[u8]) -> io::Result<usize> {
    let begin = out.len();
    let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::new(level));
    encoder.write_all(raw)?;
    Ok(encoder.finish()?.len() - begin)
}

/// Decompresses `stored`, which must fill `out` exactly.
pub(crate) fn inflate_into(out: &mut [u8], codec: u8, stored: &[u8]) -> Result<(), CodecError> {
    let whole = out.len();
    // At most FRAME_BYTES_MAX.
    let wrong = |source| CodecError::Inflate { raw_len: whole as u32, source };
    let written = match codec {
        ID_NONE if stored.len() == whole => {
            out.copy_from_slice(stored);
            Ok(whole)
        }
        ID_NONE => return Err(wrong(None)),
        ID_ZSTD => unzstd(out, stored),
        ID_LZ4 => lz4_flex::block::decompress_into(stored, out).map_err(io::Error::other),
        ID_SNAPPY => snap::raw::Decoder::new().decompress(stored, out).map_err(io::Error::other),
        ID_GZIP => gunzip(out, stored),
        id => return Err(CodecError::Unknown { what: "codec", id }),
    };
    match written {
        Ok(written) if written == whole => Ok(()),
        Ok(_) => Err(wrong(None)),
        Err(source) => Err(wrong(Some(source))),
    }
}

fn unzstd(out: &mut [u8], stored: &[u8]) -> io::Result<usize> {
    INFLATE.with_borrow_mut(|slot| {
        let decompressor = match slot {
            Some(decompressor) => decompressor,
            None => slot.insert(Decompressor::new()?),
        };
        decompressor.decompress_to_buffer(stored, out)
    })
}

/// Returns the number of decompressed bytes. If they do not fit, that is `out.len() + 1`.
fn gunzip(out: &mut [u8], stored: &[u8]) -> io::Result<usize> {
    let (mut decoder, mut done) = (flate2::read::GzDecoder::new(stored), 0);
    loop {
        let read = match done < out.len() {
            true => decoder.read(&mut out[done..])?,
            false => return Ok(done + decoder.read(&mut [0])?),
        };
        if read == 0 {
            return Ok(done);
        }
        done += read;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codec_names_round_trip() {
        let all =
            [Codec::None, Codec::Zstd { level: 22 }, Codec::Lz4, Codec::Snappy, Codec::Gzip { level: 1 }];
        for codec in all {
            assert_eq!(codec.to_string().parse(), Ok(codec));
            assert_eq!(Codec::from_parts(codec.id(), codec.level()), Some(codec));
        }
        assert!(
            [(5, 0), (0, 1), (1, 0), (1, 23), (4, 10)]
                .iter()
                .all(|(id, level)| Codec::from_parts(*id, *level).is_none())
        );
        assert_eq!(("zstd".parse(), "gzip".parse()), (Ok(Codec::default()), Ok(Codec::Gzip { level: 6 })));
        for wrong in
            ["", "zstd:0", "zstd:23", "zstd:-1", "gzip:10", "lz4:1", "none:0", "brotli", "zstd:", "zstd:3 "]
        {
            assert!(wrong.parse::<Codec>().is_err(), "{wrong}");
        }
    }
}
