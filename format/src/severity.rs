//! What a caller can do about an error: one scale for the errors of every crate.

/// What a caller can do about an error.
///
/// Each crate's error type has a method `severity()`. What the error is about is in its variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Severity {
    /// The same call may succeed later.
    Retry,
    /// The request can't be met, or something outside needs attention first: a setting, a permission, disk space.
    Fix,
    /// Stored data is damaged or contradicts itself. Repeating the call doesn't help.
    Fatal,
}
