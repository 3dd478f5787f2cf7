//! Point-in-time recovery: the facade of the pitr crates and the program.
