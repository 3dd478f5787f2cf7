//! Sizes on the command line, and the space that they need.

use crate::Result;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// A number of bytes: `6G`, `500M`; decimal units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Size(u64);

const GIGA: u64 = 1_000_000_000;
const MEGA: u64 = 1_000_000;

impl Size {
    pub(crate) const fn mega(megabytes: u64) -> Size {
        Size(megabytes * MEGA)
    }

    pub(crate) const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let refused = || format!("{text:?} is no size; give one such as 6G or 500M");
        let (number, unit) = match text.strip_suffix('G') {
            Some(number) => (number, GIGA),
            None => (text.strip_suffix('M').ok_or_else(refused)?, MEGA),
        };
        let number: u64 = number.parse().map_err(|_| refused())?;
        number.checked_mul(unit).filter(|bytes| *bytes > 0).map(Size).ok_or_else(refused)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.is_multiple_of(GIGA) {
            true => write!(f, "{}G", self.0 / GIGA),
            false => write!(f, "{}M", self.0 / MEGA),
        }
    }
}

/// The sizes of one run: the base, and the log after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) base: Size,
    pub(crate) log: Size,
}

impl FromStr for Sizes {
    type Err = String;

    /// `6+3` in gigabytes, or with units: `200M+100M`.
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (base, log) =
            text.split_once('+').ok_or_else(|| format!("{text:?}: give base and log, such as 6+3"))?;
        let size = |text: &str| match text.parse::<u64>() {
            Ok(_) => format!("{text}G").parse(),
            Err(_) => text.parse(),
        };
        Ok(Sizes { base: size(base)?, log: size(log)? })
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.base, self.log)
    }
}

/// Fails unless the file system of `dir` has `needed` free bytes. Returns the free bytes.
pub(crate) fn check_free(dir: &Path, needed: u64) -> Result<u64> {
    let found = rustix::fs::statvfs(dir)?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    if free < needed {
        return Err(format!(
            "the disk of the build folder has {} MB free and the run needs {} MB",
            free / MEGA,
            needed / MEGA
        )
        .into());
    }
    Ok(free)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_printed() {
        for (text, bytes) in [("6G", 6 * GIGA), ("500M", 500 * MEGA), ("1500M", 1500 * MEGA)] {
            let size: Size = text.parse().unwrap();
            assert_eq!((size.bytes(), size.to_string().as_str()), (bytes, text));
        }
        for text in ["", "6", "G", "0M", "-1G", "6g", "99999999999999G"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
        let sizes: Sizes = "2+500M".parse().unwrap();
        assert_eq!((sizes.base.bytes(), sizes.log.bytes()), (2 * GIGA, 500 * MEGA));
        assert_eq!(sizes.to_string(), "2G+500M");
        assert!("2".parse::<Sizes>().is_err() && "2+".parse::<Sizes>().is_err());
    }

    #[test]
    fn too_little_space_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(check_free(dir.path(), 1).unwrap() > 1);
        assert!(check_free(dir.path(), u64::MAX).is_err());
    }
}
