//! Recovery objectives: how long a recovery may take, and how much may be lost.

use std::fmt;
use std::time::Duration;

macro_rules! objective {
    ($(#[$about:meta])* $name:ident) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Duration);

        impl $name {
            /// One minute.
            pub const ONE_MINUTE: Self = Self::new(Duration::from_secs(60));
            /// Five minutes.
            pub const FIVE_MINUTES: Self = Self::new(Duration::from_secs(5 * 60));
            /// Fifteen minutes.
            pub const FIFTEEN_MINUTES: Self = Self::new(Duration::from_secs(15 * 60));
            /// Thirty minutes.
            pub const THIRTY_MINUTES: Self = Self::new(Duration::from_secs(30 * 60));
            /// One hour.
            pub const ONE_HOUR: Self = Self::new(Duration::from_secs(60 * 60));

            /// An objective of this length.
            #[must_use]
            pub const fn new(length: Duration) -> Self {
                Self(length)
            }

            /// Its length.
            #[must_use]
            pub const fn get(self) -> Duration {
                self.0
            }
        }

        impl From<Duration> for $name {
            fn from(length: Duration) -> Self {
                Self::new(length)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

objective! {
    /// Recovery time objective: how long a recovery may take.
    ///
    /// ```
    /// use pitr_recovery::Rto;
    ///
    /// assert!(Rto::FIVE_MINUTES < Rto::new(std::time::Duration::from_secs(301)));
    /// ```
    Rto
}

objective! {
    /// Recovery point objective: how much may be lost, as a time before the failure. A log is
    /// archived at least this often.
    Rpo
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_named_objectives_have_the_lengths_of_their_names() {
        let minutes = |objective: Rto| objective.get().as_secs() / 60;
        let named =
            [Rto::ONE_MINUTE, Rto::FIVE_MINUTES, Rto::FIFTEEN_MINUTES, Rto::THIRTY_MINUTES, Rto::ONE_HOUR];
        assert_eq!(named.map(minutes), [1, 5, 15, 30, 60]);
        assert_eq!(Rpo::ONE_HOUR.get(), Duration::from_secs(3600));
        assert_eq!(Rto::FIVE_MINUTES.to_string(), "300s");
    }
}
