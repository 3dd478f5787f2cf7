//! Settings: plain data, checked before use.

use std::path::{Path, PathBuf};

use pitr_codec::Codec;
use pitr_objects::{Location, LocationError};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Where a repository is and how it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PitrConfig {
    /// The repository: a folder, or a URL ([`Location`]).
    pub repository: PathBuf,
    /// How snapshots and log are compressed: `none`, `zstd:3`, `lz4`, `snappy`, `gzip:6`.
    #[serde(default, with = "codec_name")]
    pub codec: Codec,
    /// Permissions of the files of a repository that is made; `0o600` if they are not given. They become those of its folder, which
    /// later files follow, and mean nothing for a repository that is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
}

/// A setting that can't be obeyed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No repository is named.
    #[error("`repository` is empty; name a folder")]
    NoRepository,
    /// The repository's URL can't be opened by this build.
    #[error("`repository`: {0}")]
    Repository(#[source] LocationError),
    /// Permissions that keep the owner out, or are not those of files.
    #[error(
        "`mode` is {0:#o}; give permissions of files that their owner reads and writes, as 0o600 or 0o640"
    )]
    Mode(u32),
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
    pub fn location(&self) -> Result<Location, ConfigError> {
        Location::parse(&self.repository).map_err(|error| match error {
            LocationError::Empty => ConfigError::NoRepository,
            other => ConfigError::Repository(other),
        })
    }

    /// Refuses what can't be obeyed; nothing is adjusted silently.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.location()?;
        match self.mode {
            Some(mode) if mode & !0o066 != 0o600 => Err(ConfigError::Mode(mode)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_obeyed_is_refused() {
        assert_eq!(PitrConfig::at("/r").validate(), Ok(()));
        assert_eq!(PitrConfig::at("").validate(), Err(ConfigError::NoRepository));
        let location = |at| PitrConfig::at(at).location();
        assert_eq!(location("file:///srv/a%20b"), Ok(Location::Folder("/srv/a b".into())));
        assert_eq!(location("memory://"), Ok(Location::Memory));
        let refused = PitrConfig::at("s3://bucket/prefix").validate().unwrap_err();
        assert!(matches!(&refused, ConfigError::Repository(_)), "{refused}");
        assert!(refused.to_string().contains("does not include Amazon S3 yet"), "{refused}");
        let with = |mode| PitrConfig { mode: Some(mode), ..PitrConfig::at("/r") }.validate();
        assert_eq!((with(0o640), with(0o750)), (Ok(()), Err(ConfigError::Mode(0o750))));
        assert!(serde_json::from_str::<PitrConfig>(r#"{"repository":"/r","levle":3}"#).is_err());
        assert!(serde_json::from_str::<PitrConfig>(r#"{"repository":"/r","codec":"zstd:23"}"#).is_err());
    }

    #[test]
    fn a_codec_is_written_by_its_name() {
        let config = PitrConfig { codec: Codec::Lz4, ..PitrConfig::at("/r") };
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(text, r#"{"repository":"/r","codec":"lz4"}"#);
        assert_eq!(serde_json::from_str::<PitrConfig>(&text).unwrap(), config);
        let short = serde_json::from_str::<PitrConfig>(r#"{"repository":"/r"}"#).unwrap();
        assert_eq!(short.codec, Codec::default());
    }
}
