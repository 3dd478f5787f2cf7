//! The `pitr` program.

#![forbid(unsafe_code)]

mod cli;
mod commands;
mod demo;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run(std::env::args_os().collect(), commands::run)
}
