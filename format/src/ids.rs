//! Identities and counters.

use std::fmt;

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
