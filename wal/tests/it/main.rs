//! Tests of the log through its public face.

mod files;
mod help;
