//! The `pitr` program.

#![forbid(unsafe_code)]

mod args;
mod commands;
mod failure;
mod output;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use tracing_subscriber::EnvFilter;

use crate::args::Args;
use crate::failure::{CliError, Exit};

fn main() -> ExitCode {
    run(std::env::args_os().collect())
}

/// Parses and runs a command line. Reports a failure as one line and, with `--json`, as a document,
/// unless the command has already printed its answer.
fn run(line: Vec<OsString>) -> ExitCode {
    // A command line that does not parse may still contain `--json`.
    let json = line.iter().skip(1).take_while(|arg| *arg != "--").any(|arg| arg == "--json");
    let result = match Args::try_parse_from(line) {
        Ok(args) => {
            log_to_stderr(args.global.verbose, args.global.quiet);
            commands::run(args)
        }
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            output::print(&error.render())
        }
        Err(error) => Err(usage_error(&error)),
    };
    match result {
        Ok(()) => Exit::Done.into(),
        Err(error) => {
            output::report(&error, json && !error.follows_an_answer());
            error.code.into()
        }
    }
}

/// A usage error with the first paragraph of clap's message, on one line.
fn usage_error(error: &clap::Error) -> CliError {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return CliError::usage("no command given").next("see `pitr --help`");
    }
    let text = error.render().to_string();
    let what: Vec<&str> = text.lines().take_while(|line| !line.trim().is_empty()).collect();
    let what = what.join(" ");
    CliError::usage(what.strip_prefix("error: ").unwrap_or(&what)).next("see `pitr --help`")
}

/// Logs this project's crates at the given level, and only warnings of other crates.
fn log_to_stderr(verbose: u8, quiet: bool) {
    let level = match (quiet, verbose) {
        (true, _) => "error",
        (false, 0) => "warn",
        (false, 1) => "warn,pitr=info",
        (false, _) => "warn,pitr=trace",
    };
    // Only fails if a subscriber is already set, and none is.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(level))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .try_init();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(line: &[&str]) -> String {
        usage_error(&Args::try_parse_from(line).unwrap_err()).to_string()
    }

    #[test]
    fn a_usage_error_is_one_line_that_names_help() {
        let all = [
            message(&["pitr", "restore", "--to", "latest"]),
            message(&["pitr", "restroe"]),
            message(&["pitr", "info", "--points"]),
            message(&["pitr", "restore", "--to", "noon", "--output", "o"]),
            message(&["pitr", "watch", "a.db", "--rpo", "0"]),
            message(&["pitr"]),
        ];
        for text in &all {
            assert!(!text.contains('\n') && text.ends_with("see `pitr --help`"), "{text}");
        }
        assert!(all[0].contains("--output <PATH>"), "{}", all[0]);
        assert!(all[3].contains("13 minutes ago"), "{}", all[3]);
    }
}
