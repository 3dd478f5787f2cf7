//! Settings: plain data, checked before use.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Where a repository is and how it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PitrConfig {
    /// Folder of the repository.
    pub repository: PathBuf,
    /// Level of zstd for snapshots and log, 1 to 22.
    #[serde(default = "default_level")]
    pub zstd_level: i32,
}

/// A setting that can't be obeyed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No repository is named.
    #[error("`repository` is empty; name a folder")]
    NoRepository,
    /// The level is outside of what zstd knows.
    #[error("`zstd_level` is {0}; use 1 to 22")]
    Level(i32),
}

fn default_level() -> i32 {
    3
}

impl PitrConfig {
    /// The default settings for a repository at `folder`.
    #[must_use]
    pub fn at(folder: impl AsRef<Path>) -> Self {
        PitrConfig { repository: folder.as_ref().to_owned(), zstd_level: default_level() }
    }

    /// Refuses what can't be obeyed; nothing is adjusted silently.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.repository.as_os_str().is_empty() {
            return Err(ConfigError::NoRepository);
        }
        if !(1..=22).contains(&self.zstd_level) {
            return Err(ConfigError::Level(self.zstd_level));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_obeyed_is_refused() {
        assert_eq!(PitrConfig::at("/r").validate(), Ok(()));
        assert_eq!(PitrConfig::at("").validate(), Err(ConfigError::NoRepository));
        let config = PitrConfig { zstd_level: 23, ..PitrConfig::at("/r") };
        assert_eq!(config.validate(), Err(ConfigError::Level(23)));
        assert!(serde_json::from_str::<PitrConfig>(r#"{"repository":"/r","levle":3}"#).is_err());
    }
}
