//! Reading objects, whole and by ranges.

use crate::store::object_path;
use crate::{Error, Objects, Result};
use bytes::Bytes;
use object_store::{GetOptions, GetRange, ObjectStore};
use std::ops::Range;
use std::sync::Arc;

/// The end of an object.
#[derive(Debug, Clone)]
pub struct Tail {
    /// The last bytes of the object.
    pub bytes: Bytes,
    /// Length of the whole object, bytes.
    pub object_len: u64,
}

impl Objects {
    /// The whole object.
    ///
    /// # Errors
    /// [`Error::Missing`]; [`Error::TooLarge`] before memory is taken for it; errors of the store.
    pub fn get(&self, path: &str) -> Result<Bytes> {
        Ok(self.read(path, None)?.bytes)
    }

    /// Exactly the bytes of a range. An empty range gives no bytes, without a request.
    ///
    /// # Errors
    /// [`Error::Truncated`] when the object ends before the range does; [`Error::TooLarge`];
    /// [`Error::Missing`]; errors of the store.
    pub fn get_range(&self, path: &str, range: Range<u64>) -> Result<Bytes> {
        // FAILURES 28: stores differ in their answers to empty ranges and to ranges past the end.
        let Some(wanted) = range.end.checked_sub(range.start).filter(|n| *n > 0) else {
            return Ok(Bytes::new());
        };
        self.check_size(path, wanted)?;
        let got = match self.read(path, Some(GetRange::Bounded(range.clone()))) {
            Ok(got) => got,
            Err(error @ Error::Unreachable { .. }) if !error.is_silence() => {
                return Err(self.past_end(path, &range).unwrap_or(error));
            }
            Err(error) => return Err(error),
        };
        if got.bytes.len() as u64 == wanted {
            Ok(got.bytes)
        } else {
            Err(Error::Truncated { path: path.to_owned(), end: range.end, len: got.object_len })
        }
    }

    /// The last `len` bytes, or the whole object if it is shorter.
    ///
    /// # Errors
    /// [`Error::Missing`]; [`Error::TooLarge`]; errors of the store.
    pub fn get_tail(&self, path: &str, len: u64) -> Result<Tail> {
        self.check_size(path, len)?;
        match self.read(path, Some(GetRange::Suffix(len))) {
            Err(Error::Unsupported { .. }) => {}
            // Some stores refuse a suffix of an empty object.
            Err(ref error @ Error::Unreachable { .. }) if !error.is_silence() && self.size(path)? == 0 => {
                return Ok(Tail { bytes: Bytes::new(), object_len: 0 });
            }
            other => return other,
        }
        let object_len = self.size(path)?;
        let bytes = self.get_range(path, object_len.saturating_sub(len)..object_len)?;
        Ok(Tail { bytes, object_len })
    }

    fn read(&self, path: &str, range: Option<GetRange>) -> Result<Tail> {
        tracing::trace!(path, ?range, "get");
        let location = object_path(path)?;
        let (store, most) = (Arc::clone(&self.inner.store), pitr_codec::OBJECT_BYTES_LIMIT as u64);
        let read = self.inner.requests.run(async move {
            let options = GetOptions { range, ..GetOptions::default() };
            let found = store.get_opts(&location, options).await?;
            let (object_len, bytes) = (found.meta.size, found.range.end.saturating_sub(found.range.start));
            if bytes > most {
                return Ok(Err(bytes));
            }
            Ok(Ok(Tail { bytes: found.bytes().await?, object_len }))
        })?;
        match read.map_err(|source| Error::from_store(path, source))? {
            Ok(tail) => {
                if let Some(limit) = &self.limit {
                    limit.wait(self.env().clock.as_ref(), tail.bytes.len() as u64);
                }
                Ok(tail)
            }
            Err(bytes) => Err(Error::TooLarge { path: path.to_owned(), bytes, most }),
        }
    }

    /// The error for a refused range, if the object ends before the end of the range.
    fn past_end(&self, path: &str, range: &Range<u64>) -> Option<Error> {
        let len = self.size(path).ok()?;
        (len < range.end).then(|| Error::Truncated { path: path.to_owned(), end: range.end, len })
    }
}
