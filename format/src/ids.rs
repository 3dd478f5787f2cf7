//! Identities and counters.

use std::fmt;
use thiserror::Error;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($raw:ty), first $first:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($raw);

        impl $name {
            /// The first one.
            pub const FIRST: $name = $name($first);

            /// The one with this number.
            #[must_use]
            pub const fn new(raw: $raw) -> Self {
                $name(raw)
            }

            /// The number.
            #[must_use]
            pub const fn get(self) -> $raw {
                self.0
            }

            /// The next one; `None` at the end of the range.
            #[must_use]
            pub const fn next(self) -> Option<Self> {
                match self.0.checked_add(1) {
                    Some(raw) => Some($name(raw)),
                    None => None,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A history of the log; a restored copy that is written again forks one.
    TimelineId(u32), first 1
}
number! {
    /// Number of a source's writer; a new writer claims the next one.
    Epoch(u64), first 1
}
number! {
    /// Number of a segment's life: higher after a cut tail or a recycling.
    Incarnation(u32), first 1
}
number! {
    /// A transaction; numbers grow by one for each commit of a source.
    TxId(u64), first 1
}
number! {
    /// The unit replayed by one worker in order.
    PartitionId(u32), first 0
}
number! {
    /// A file of a source; 0 is the only file of a SQLite database.
    FileId(u32), first 0
}

impl TxId {
    /// "No transaction yet": what a base holds that was taken before the first captured commit.
    pub const NONE: TxId = TxId(0);
}

/// Sixteen random bytes that one writer process puts into every object that it makes: an object found after a
/// retried put is ours if it bears our token.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct OwnerToken(pub [u8; 16]);

impl fmt::Debug for OwnerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for OwnerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Name of a source within a repository: 1 to 64 of `a-z A-Z 0-9 . _ -`, not beginning with a dot or a dash.
///
/// It becomes one part of an object's path; nothing that could leave that part is allowed in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceName(String);

/// A source name that is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "source name {0:?} is not allowed: use 1 to 64 of a-z A-Z 0-9 . _ - and begin with a letter, a digit or _"
)]
pub struct SourceNameError(pub String);

impl SourceName {
    /// A checked name.
    pub fn new(name: &str) -> Result<Self, SourceNameError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let first_is_fine = name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        if first_is_fine && name.len() <= 64 && name.chars().all(allowed) {
            Ok(SourceName(name.to_owned()))
        } else {
            Err(SourceNameError(name.to_owned()))
        }
    }

    /// The name made from any text: what is not allowed becomes `_`. `None` when nothing is left.
    #[must_use]
    pub fn from_lossy(text: &str) -> Option<Self> {
        let name: String = text
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' })
            .skip_while(|c| matches!(c, '.' | '-'))
            .take(64)
            .collect();
        SourceName::new(&name).ok()
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_names_cannot_leave_their_folder() {
        for bad in ["", ".", "..", "../x", "a/b", "-x", ".hidden", "é", "a b", &"x".repeat(65)] {
            assert!(SourceName::new(bad).is_err(), "{bad}");
        }
        for good in ["app", "app.db", "_", "A-1_2.x"] {
            assert_eq!(SourceName::new(good).unwrap().as_str(), good);
        }
        assert_eq!(SourceName::from_lossy("../my db.sqlite").unwrap().as_str(), "_my_db.sqlite");
        assert_eq!(SourceName::from_lossy("..."), None);
    }
}
