//! Long drills and comparisons, run as `cargo xtask`.
fn main() {}
