//! What a caller can do about an error: one scale for the errors of all crates.

/// What a caller can do about an error.
///
/// Each crate's error type has a method `severity()`. The variant of the error says what failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Severity {
    /// The same call may succeed later.
    Retry,
    /// The request cannot succeed until something else changes: a setting, a permission, disk
    /// space.
    Fix,
    /// Stored data is damaged or inconsistent. A retry does not help.
    Fatal,
}
