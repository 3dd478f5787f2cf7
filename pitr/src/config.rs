//! Settings of a repository: plain data, validated before use.

use std::path::{Path, PathBuf};

use pitr_codec::Codec;
use pitr_objects::{Location, LocationError};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A repository's path, and how it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PitrConfig {
    /// The repository's folder, or its URL ([`Location`]).
    pub repository: PathBuf,
    /// Compression of snapshots and log: `none`, `zstd:3`, `lz4`, `snappy`, `gzip:6`.
    #[serde(default, with = "codec_name")]
    pub codec: Codec,
    /// Permissions of the files of a new repository, `0o600` if `None`. The repository's folder
    /// gets them, and later files follow the folder. Ignored for an existing repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
}

/// An invalid setting.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// `repository` is empty.
    #[error("`repository` is empty; give a folder")]
    NoRepository,
    /// This build cannot open the repository's URL.
    #[error("`repository`: {0}")]
    Repository(#[source] LocationError),
    /// `mode` does not let the owner read and write, or has other bits than file permissions.
    #[error(
        "`mode` is {0:#o}; give file permissions that let the owner read and write, such as 0o600 or 0o640"
    )]
    Mode(u32),
    /// `mode` is given for a repository that has no files.
    #[error("`mode` is for a repository in a folder; the rules of the store say who may use {0}")]
    ModeOfBucket(String),
    /// The [maximum waste](crate::PruneOptions::waste_percent_max) of a prune is more than 100.
    #[error("`waste_percent_max` is {0}; give a percentage from 0 to 100")]
    WastePercent(u8),
}

mod codec_name {
    use pitr_codec::Codec;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(codec: &Codec, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(codec)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Codec, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl PitrConfig {
    /// The default settings for a repository at `folder`.
    #[must_use]
    pub fn at(folder: impl AsRef<Path>) -> Self {
        PitrConfig { repository: folder.as_ref().to_owned(), codec: Codec::default(), mode: None }
    }

    /// The place of the repository.
    ///
    /// # Errors
    /// [`ConfigError::NoRepository`], [`ConfigError::Repository`].
    pub fn location(&self) -> Result<Location, ConfigError> {
        Location::parse(&self.repository).map_err(|error| match error {
            LocationError::Empty => ConfigError::NoRepository,
            other => ConfigError::Repository(other),
        })
    }

    /// Refuses invalid settings. Nothing is adjusted silently.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn validate(&self) -> Result<(), ConfigError> {
        let location = self.location()?;
        match self.mode {
            Some(_) if location.folder().is_none() => Err(ConfigError::ModeOfBucket(location.to_string())),
            Some(mode) if mode & !0o066 != 0o600 => Err(ConfigError::Mode(mode)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_settings_are_refused() {
        assert_eq!(PitrConfig::at("/r").validate(), Ok(()));
        assert_eq!(PitrConfig::at("").validate(), Err(ConfigError::NoRepository));
        let location = |at| PitrConfig::at(at).location();
        assert_eq!(location("file:///srv/a%20b"), Ok(Location::Folder("/srv/a b".into())));
        assert_eq!(location("memory://"), Ok(Location::Memory));
        let refused = PitrConfig::at("s3://user:secret@bucket/prefix").validate().unwrap_err();
        assert!(matches!(&refused, ConfigError::Repository(_)), "{refused}");
        assert!(!refused.to_string().contains("secret"), "{refused}");
        let bucket = PitrConfig::at("s3://bucket/prefix").validate();
        assert_eq!(bucket.is_ok(), cfg!(feature = "s3"), "{bucket:?}");
        let with = |mode| PitrConfig { mode: Some(mode), ..PitrConfig::at("/r") }.validate();
        assert_eq!((with(0o640), with(0o750)), (Ok(()), Err(ConfigError::Mode(0o750))));
        let of_memory = PitrConfig { mode: Some(0o600), ..PitrConfig::at("memory://") }.validate();
        assert_eq!(of_memory, Err(ConfigError::ModeOfBucket("memory://".to_owned())));
        assert!(serde_json::from_str::<PitrConfig>(r#"{"repository":"/r","levle":3}"#).is_err());
        assert!(serde_json::from_str::<PitrConfig>(r#"{"repository":"/r","codec":"zstd:23"}"#).is_err());
    }

    #[test]
    fn a_codec_is_serialized_as_its_name() {
        let config = PitrConfig { codec: Codec::Lz4, ..PitrConfig::at("/r") };
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(text, r#"{"repository":"/r","codec":"lz4"}"#);
        assert_eq!(serde_json::from_str::<PitrConfig>(&text).unwrap(), config);
        let short = serde_json::from_str::<PitrConfig>(r#"{"repository":"/r"}"#).unwrap();
        assert_eq!(short.codec, Codec::default());
    }
}
