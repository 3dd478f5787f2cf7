//! What an engine's error is to the user of a program.
//!
//! A program that reports errors by kind, with advice, asks the error itself: it needs to know no
//! engine.

use std::error::Error;

/// An error of an engine that explains itself.
pub trait Explain: Error + Send + Sync + 'static {
    /// What the error is, and what to do about it.
    fn explain(&self) -> Explanation<'_>;

    /// True if the text does not name the source, although the error is about opening it.
    fn lacks_the_source(&self) -> bool {
        false
    }
}

/// What an error is, and what to do about it.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Explanation<'a> {
    /// The engine's own failure.
    Own {
        /// What it is.
        failure: Failure,
        /// What the user can do about it, if the text does not say it.
        advice: Option<&'static str>,
    },
    /// The error of an object, or of something in it.
    Objects(pitr_objects::ErrorKind),
    /// The error of a snapshot.
    Snapshot(&'a pitr_snapshot::Error),
    /// The error of the archive.
    Archive(&'a pitr_archive::Error),
    /// The error of a read from the archived log.
    Recovery(&'a pitr_recovery::Error),
}

impl Explanation<'_> {
    /// A failure whose text says what to do.
    #[must_use]
    pub fn of(failure: Failure) -> Self {
        Explanation::Own { failure, advice: None }
    }

    /// A failure with advice.
    #[must_use]
    pub fn advised(failure: Failure, advice: &'static str) -> Self {
        Explanation::Own { failure, advice: Some(advice) }
    }
}

/// Kinds of failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Failure {
    /// The request can't be carried out as it was made.
    Usage,
    /// The operating system denies access.
    Denied,
    /// Stored data is damaged.
    Corrupt,
    /// Another process uses the source.
    Locked,
    /// Any other failure.
    Other,
}
