//! The `pitr` program.

#![forbid(unsafe_code)]

mod cli;
mod commands;
mod demo;

use std::process::ExitCode;

fn main() -> ExitCode {
    pitr_vfs::give_large_allocations_back();
    cli::run(std::env::args_os().collect(), commands::run)
}
