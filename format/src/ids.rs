//! Identities and counters.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($raw:ty), first $first:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($raw);

        impl $name {
            /// The first number.
            pub const FIRST: $name = $name($first);

            /// Wraps this number.
            #[must_use]
            pub const fn new(raw: $raw) -> Self {
                $name(raw)
            }

            /// The number.
            #[must_use]
            pub const fn get(self) -> $raw {
                self.0
            }

            /// The next number, or `None` at the end of the range.
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
    /// A history of the log. Writing to a restored copy forks a new timeline.
    TimelineId(u32), first 1
}
number! {
    /// Number of a source's writer. Each new writer claims the next number.
    Epoch(u64), first 1
}
number! {
    /// Use count of a segment. It increases when a torn tail is cut or the file is recycled.
    Incarnation(u32), first 1
}
number! {
    /// A transaction. The numbers grow by one with each commit of a source.
    TxId(u64), first 1
}
number! {
    /// The unit that one worker replays in order.
    PartitionId(u32), first 0
}
number! {
    /// A file of a source. A SQLite database has the single file 0.
    FileId(u32), first 0
}

impl TxId {
    /// No transaction: a base taken before the first captured commit has this number.
    pub const NONE: TxId = TxId(0);
}

/// Sixteen random bytes that identify the process that wrote an object.
///
/// After a retried put, an object that is already there is our own if it has our token.
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
