//! Integration tests of the reference engine.

mod crash;
mod fuzzy;
mod life;
mod model;
