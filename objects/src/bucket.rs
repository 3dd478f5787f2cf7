//! A bucket of a remote store, as its URL names it.

use std::fmt;
use thiserror::Error;

/// Maximum length of a prefix, bytes. Stores allow 1,024 bytes for the whole key.
const PREFIX_BYTES_MAX: usize = 512;
/// Minimum and maximum length of a bucket's name, bytes. Names with dots may be longer than 63
/// bytes on Google Cloud Storage.
const NAME_BYTES: std::ops::RangeInclusive<usize> = 3..=222;

/// The kinds of remote stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum StoreKind {
    /// Amazon S3, and stores that speak its protocol.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure,
}

impl StoreKind {
    pub(crate) fn of_scheme(scheme: &str) -> Option<Self> {
        [StoreKind::S3, StoreKind::Gcs, StoreKind::Azure].into_iter().find(|kind| kind.scheme() == scheme)
    }

    /// The scheme of its URLs.
    #[must_use]
    pub const fn scheme(self) -> &'static str {
        match self {
            StoreKind::S3 => "s3",
            StoreKind::Gcs => "gs",
            StoreKind::Azure => "az",
        }
    }

    /// The Cargo feature that includes it.
    #[must_use]
    pub const fn feature(self) -> &'static str {
        match self {
            StoreKind::S3 => "s3",
            StoreKind::Gcs => "gcs",
            StoreKind::Azure => "azure",
        }
    }

    /// True if this build includes it.
    #[must_use]
    pub const fn is_included(self) -> bool {
        match self {
            StoreKind::S3 => cfg!(feature = "s3"),
            StoreKind::Gcs => cfg!(feature = "gcs"),
            StoreKind::Azure => cfg!(feature = "azure"),
        }
    }

    pub(crate) const fn example(self) -> &'static str {
        match self {
            StoreKind::S3 => "s3://bucket/prefix",
            StoreKind::Gcs => "gs://bucket/prefix",
            StoreKind::Azure => "az://container/prefix",
        }
    }
}

impl fmt::Display for StoreKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StoreKind::S3 => "Amazon S3",
            StoreKind::Gcs => "Google Cloud Storage",
            StoreKind::Azure => "Azure Blob Storage",
        })
    }
}

/// A place in a remote store. [`Display`](fmt::Display) writes its URL.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Bucket {
    /// The kind of store.
    pub store: StoreKind,
    /// Name of the bucket or container.
    pub name: String,
    /// Begins the key of every object, without a slash at its ends. Empty if the repository is the
    /// whole bucket.
    pub prefix: String,
}

/// Why the URL of a bucket is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BucketError {
    /// The URL has a user or a password.
    #[error("no user or password belongs in the URL: credentials come from environment variables")]
    Credentials,
    /// The name of the bucket is missing or not valid.
    #[error(
        "a name has 3 or more lower-case letters, digits, '-', '.' and '_', and begins and ends with a letter or digit"
    )]
    Name,
    /// The prefix is not valid.
    #[error(
        "a prefix has names between single slashes, of at most 512 letters, digits and characters of \"-_.+=,~!()\""
    )]
    Prefix,
}

impl Bucket {
    /// The place at `prefix` of the bucket `name`. A slash at the end of the prefix is left out.
    ///
    /// # Errors
    /// [`BucketError`].
    pub fn new(store: StoreKind, name: &str, prefix: &str) -> Result<Self, BucketError> {
        let is_edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = name.as_bytes();
        let is_name = NAME_BYTES.contains(&bytes.len())
            && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(b))
            && is_edge(bytes.first())
            && is_edge(bytes.last())
            && !name.contains("..");
        if !is_name {
            return Err(BucketError::Name);
        }
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        let is_segment = |segment: &str| {
            !matches!(segment, "" | "." | "..")
                && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.+=,~!()".contains(&b))
        };
        let is_prefix =
            prefix.is_empty() || (prefix.len() <= PREFIX_BYTES_MAX && prefix.split('/').all(is_segment));
        if !is_prefix {
            return Err(BucketError::Prefix);
        }
        Ok(Bucket { store, name: name.to_owned(), prefix: prefix.to_owned() })
    }

    /// The part of a URL after `://`.
    pub(crate) fn parse(store: StoreKind, rest: &str) -> Result<Self, BucketError> {
        if rest.contains('@') {
            return Err(BucketError::Credentials);
        }
        let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        Bucket::new(store, name, prefix)
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.store.scheme(), self.name)?;
        if self.prefix.is_empty() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_bucket_and_a_prefix() {
        for (rest, name, prefix) in [
            ("backup", "backup", ""),
            ("backup/", "backup", ""),
            ("my.back-up_1/shop/db", "my.back-up_1", "shop/db"),
            ("backup/shop/", "backup", "shop"),
        ] {
            let bucket = Bucket::parse(StoreKind::S3, rest).unwrap();
            assert_eq!((bucket.name.as_str(), bucket.prefix.as_str()), (name, prefix));
            assert_eq!(bucket.to_string(), format!("s3://{}", rest.trim_end_matches('/')));
        }
    }

    #[test]
    fn other_names_and_prefixes_are_refused() {
        use BucketError::{Credentials, Name, Prefix};
        for (rest, why) in [
            ("", Name),
            ("ab", Name),
            ("Backup", Name),
            ("-backup", Name),
            ("backup.", Name),
            ("back..up", Name),
            ("backup:9000", Name),
            ("backup?x=1", Name),
            ("key:secret@backup/x", Credentials),
            ("backup/a@b", Credentials),
            ("backup//x", Prefix),
            ("backup/x//", Prefix),
            ("backup/../x", Prefix),
            ("backup/./x", Prefix),
            ("backup/a b", Prefix),
            ("backup/a%20b", Prefix),
            ("backup/a?sig=secret", Prefix),
            ("backup/ä", Prefix),
        ] {
            assert_eq!(Bucket::parse(StoreKind::Gcs, rest), Err(why), "{rest}");
        }
        let long = format!("backup/{}", "x".repeat(513));
        assert_eq!(Bucket::parse(StoreKind::Azure, &long), Err(Prefix));
    }
}
