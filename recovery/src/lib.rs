//! From a recovery target to a restored file: a pure plan and one merged pass.
