//! Parsers of option values.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use pitr::format::{SourceName, SourceNameError};
use pitr::objects::{Location, LocationError};
use pitr::recovery::{Rpo, Rto};
use thiserror::Error;

use super::target::parse_duration;

/// An invalid option value.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum ValueError {
    #[error(
        "RPO 0 is not possible for SQLite: a commit is captured only after it returned to the application; give an RPO such as 100ms"
    )]
    RpoZero,
    #[error("must be greater than zero")]
    Zero,
    #[error("give a number with a unit, such as 500ms, 1s, 5m, 1h or 7d")]
    Duration,
    #[error("give a number of bytes with a unit, such as 500MB, 10GB or 10GiB")]
    Bytes,
    #[error(transparent)]
    Repository(#[from] LocationError),
    #[error("give file permissions that let the owner read and write: 0600, 0640, 0660 or 0644")]
    Mode,
}

/// Parses a duration greater than zero.
pub(crate) fn parse_interval(text: &str) -> Result<Duration, ValueError> {
    match parse_duration(text) {
        Ok(Duration::ZERO) => Err(ValueError::Zero),
        Ok(length) => Ok(length),
        Err(_) => Err(ValueError::Duration),
    }
}

/// Parses an RPO: a duration greater than zero.
pub(crate) fn parse_rpo(text: &str) -> Result<Rpo, ValueError> {
    let interval = parse_interval(text).map(Rpo::new);
    interval.map_err(|error| if error == ValueError::Zero { ValueError::RpoZero } else { error })
}

/// Parses an RTO: a duration greater than zero.
pub(crate) fn parse_rto(text: &str) -> Result<Rto, ValueError> {
    parse_interval(text).map(Rto::new)
}

/// Parses a number of bytes: `1000`, `10GB` (decimal), `10GiB` (binary).
pub(crate) fn parse_bytes(text: &str) -> Result<u64, ValueError> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit = match unit {
        "" | "B" => 1,
        "kB" | "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return Err(ValueError::Bytes),
    };
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    bytes.filter(|bytes| *bytes > 0).ok_or(ValueError::Bytes)
}

/// Parses octal file permissions. The owner must be able to read and write.
pub(crate) fn parse_mode(text: &str) -> Result<u32, ValueError> {
    let octal = text.bytes().all(|b| b.is_ascii_digit());
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| octal && mode & !0o066 == 0o600);
    mode.ok_or(ValueError::Mode)
}

/// Parses a source name: one segment of an object path on any store.
pub(crate) fn parse_source(text: &str) -> Result<String, SourceNameError> {
    SourceName::new(text).map(|name| name.to_string())
}

/// Parses the repository's location.
pub(crate) fn repository_parser() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().try_map(parse_repository)
}

/// A path need not be UTF-8. A wrong URL of a remote store is refused later, because an error from
/// here is printed with the value, which may hold a password.
fn parse_repository(given: OsString) -> Result<PathBuf, ValueError> {
    use LocationError::{Bucket, NotIncluded, Scheme};
    match Location::parse(&given) {
        Ok(Location::Folder(folder)) => Ok(folder),
        Ok(_) | Err(Bucket { .. } | NotIncluded(_) | Scheme(_)) => Ok(given.into()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_lets_the_owner_read_and_write() {
        assert_eq!(parse_mode("0640"), Ok(0o640));
        assert_eq!(parse_mode("600"), Ok(0o600));
        for text in ["", "640x", "0750", "0440", "+600", "7777", "0o600", "rw-r-----"] {
            assert_eq!(parse_mode(text), Err(ValueError::Mode), "{text}");
        }
    }

    #[test]
    fn sizes_have_decimal_or_binary_units() {
        assert_eq!((parse_bytes("7"), parse_bytes("7B")), (Ok(7), Ok(7)));
        assert_eq!((parse_bytes("3GB"), parse_bytes("3GiB")), (Ok(3_000_000_000), Ok(3 << 30)));
        for text in ["", "0", "GB", "-1", "1.5GB", "3gb", "99999999999TB"] {
            assert_eq!(parse_bytes(text), Err(ValueError::Bytes), "{text}");
        }
    }

    #[test]
    fn repositories_are_directories_or_file_urls() {
        let repo = |given: &str| parse_repository(given.into());
        assert_eq!(repo("backup").unwrap(), PathBuf::from("backup"));
        assert_eq!(repo("file:///srv/backup").unwrap(), PathBuf::from("/srv/backup"));
        assert_eq!(repo("memory://").unwrap(), PathBuf::from("memory://"));
        for url in ["s3://bucket/prefix", "gs://bucket/prefix", "az://container/prefix", "s3://u:p@bucket"] {
            assert_eq!(repo(url).unwrap(), PathBuf::from(url));
        }
        assert!(matches!(repo("file://host/share"), Err(ValueError::Repository(LocationError::File(_)))));
        assert_eq!(repo(""), Err(ValueError::Repository(LocationError::Empty)));
    }

    #[test]
    fn source_names_are_one_path_segment() {
        for name in ["shop-1.main", "läden", "日本"] {
            assert_eq!(parse_source(name).as_deref(), Ok(name));
        }
        for name in ["", ".", "..", "a/b", "a b", &"x".repeat(65)] {
            assert_eq!(parse_source(name), Err(SourceNameError(name.to_owned())), "{name}");
        }
    }
}
