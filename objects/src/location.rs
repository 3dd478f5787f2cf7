//! Where a repository is: a path or a URL.

use crate::bucket::{Bucket, BucketError, StoreKind};
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The place of a repository, from a path or a URL.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Location {
    /// A folder of this machine: a plain path, or `file:///path`.
    Folder(PathBuf),
    /// The memory of this process, `memory://`: each open gets an empty store. For tests and
    /// examples.
    Memory,
    /// A bucket of a remote store: `s3://bucket/prefix`, `gs://bucket/prefix`,
    /// `az://container/prefix`. Address and credentials are no part of it.
    Bucket(Bucket),
}

/// A location that this build cannot open.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LocationError {
    /// The path is empty.
    #[error("the path is empty; give a directory or a file:// URL with an absolute path")]
    Empty,
    /// A known kind of store that this build does not include.
    #[error(
        "{scheme}: this build does not include {store}; build it with the feature `{feature}`, or give a directory",
        scheme = .0.scheme(), store = .0, feature = .0.feature()
    )]
    NotIncluded(StoreKind),
    /// The URL of a bucket is not valid. It is not repeated, because it may hold a password.
    #[error("{scheme}: {what}; write {example}", scheme = .store.scheme(), example = .store.example())]
    Bucket {
        /// The kind of store.
        store: StoreKind,
        /// What is wrong.
        what: BucketError,
    },
    /// No store has URLs of this kind.
    #[error("{0}: no store has URLs of this kind; give a directory or a file:// URL with an absolute path")]
    Scheme(String),
    /// The path in a `file` URL is not absolute, names a host, or is not a path.
    #[error("{0}: a file:// URL holds an absolute path, as file:///srv/backup")]
    File(String),
    /// A `memory` URL with a path.
    #[error("{0}: a repository in memory has no name; write memory://")]
    Memory(String),
}

impl Location {
    /// Reads a path or a URL. Text that does not begin with a scheme and `://` is a path, and need
    /// not be UTF-8.
    ///
    /// # Errors
    /// [`LocationError`].
    pub fn parse(text: impl AsRef<OsStr>) -> Result<Self, LocationError> {
        let text = text.as_ref();
        if text.is_empty() {
            return Err(LocationError::Empty);
        }
        let is_scheme = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
        let url = text.to_str().and_then(|text| text.split_once("://"));
        let Some((scheme, rest)) = url.filter(|(scheme, _)| is_scheme(scheme)) else {
            return Ok(Location::Folder(text.into()));
        };
        let url = || format!("{scheme}://{rest}");
        match scheme {
            "file" => decoded(rest).map(Location::Folder).ok_or_else(|| LocationError::File(url())),
            "memory" if rest.is_empty() => Ok(Location::Memory),
            "memory" => Err(LocationError::Memory(url())),
            other => match StoreKind::of_scheme(other) {
                Some(store) => Bucket::parse(store, rest)
                    .map_err(|what| LocationError::Bucket { store, what })
                    .and_then(|bucket| match store.is_included() {
                        true => Ok(Location::Bucket(bucket)),
                        false => Err(LocationError::NotIncluded(store)),
                    }),
                // The part after the scheme may hold a password.
                None => Err(LocationError::Scheme(other.to_owned())),
            },
        }
    }

    /// The folder of this machine, if the location is one.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Location::Folder(folder) => Some(folder),
            Location::Memory | Location::Bucket(_) => None,
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Folder(folder) => folder.display().fmt(f),
            Location::Memory => f.write_str("memory://"),
            Location::Bucket(bucket) => bucket.fmt(f),
        }
    }
}

/// The path of a `file` URL, with escapes such as `%20` decoded.
fn decoded(path: &str) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    if !path.starts_with('/') {
        return None;
    }
    let mut bytes = Vec::with_capacity(path.len());
    let mut parts = path.split('%');
    bytes.extend_from_slice(parts.next()?.as_bytes());
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let byte = is_hex.then(|| u8::from_str_radix(digits, 16).ok()).flatten()?;
        bytes.push(byte);
        bytes.extend_from_slice(rest.as_bytes());
    }
    (!bytes.contains(&0)).then(|| std::ffi::OsString::from_vec(bytes).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn paths_and_file_urls_are_folders() {
        for (text, path) in [
            ("backup", "backup"),
            ("/srv/backup", "/srv/backup"),
            ("a%20b:c", "a%20b:c"),
            ("/srv/a://b", "/srv/a://b"),
            ("file:///srv/backup", "/srv/backup"),
            ("file:///srv/my%20disk/%C3%A4", "/srv/my disk/ä"),
        ] {
            assert_eq!(Location::parse(text), Ok(Location::Folder(path.into())), "{text}");
        }
        let odd = OsStr::from_bytes(b"/srv/\xff://x");
        assert_eq!(Location::parse(odd), Ok(Location::Folder(odd.into())));
        assert_eq!(Location::parse("memory://"), Ok(Location::Memory));
    }

    #[test]
    fn other_locations_are_refused_by_name() {
        for (text, says) in [
            ("", "the path is empty"),
            ("file://host/share", "file:///srv/backup"),
            ("file:///a%2", "file:///srv/backup"),
            ("file:///a%+1", "file:///srv/backup"),
            ("file:///a%00b", "file:///srv/backup"),
            ("memory://x", "memory://"),
            ("s3://user:secret@bucket/prefix", "no user or password belongs in the URL"),
            ("s3://user:secret@bucket", "write s3://bucket/prefix"),
            ("az://container?sig=secret", "a name has"),
            ("gs://", "write gs://bucket/prefix"),
            ("ftp://user:secret@host/x", "ftp: no store"),
        ] {
            let refused = Location::parse(text).unwrap_err().to_string();
            assert!(refused.contains(says) && !refused.contains("secret"), "{text}: {refused}");
        }
    }

    #[test]
    fn buckets_need_their_feature() {
        for (text, feature, is_included) in [
            ("s3://bucket/prefix", "s3", cfg!(feature = "s3")),
            ("gs://bucket", "gcs", cfg!(feature = "gcs")),
            ("az://container", "azure", cfg!(feature = "azure")),
        ] {
            match Location::parse(text) {
                Ok(location) => assert!(is_included && location.to_string() == text, "{location}"),
                Err(error) => {
                    let says = format!("build it with the feature `{feature}`");
                    assert!(!is_included && error.to_string().contains(&says), "{error}");
                }
            }
        }
    }
}
