//! Standard output: the answer, as lines for people or one JSON document. Standard error: messages
//! and failures.
//!
//! A closed pipe (`pitr log | head`) is neither a failure nor a panic.

pub(crate) mod human;
pub(crate) mod progress;
pub(crate) mod values;

use std::fmt;
use std::io::{self, ErrorKind, Write};

use serde::Serialize;

use crate::failure::{CliError, Code, Exit};

/// The answer of a command, as JSON and as text.
pub(crate) trait Document: Serialize {
    /// The answer as text. Every line ends with a newline.
    fn for_people(&self) -> String;
}

/// How this run prints answers and messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
    quiet: bool,
}

impl Output {
    /// `json`: answers are JSON documents. `quiet`: no messages.
    pub(crate) fn new(json: bool, quiet: bool) -> Self {
        Output { json, quiet }
    }

    /// Prints the answer to standard output.
    pub(crate) fn answer(&self, document: &impl Document) -> Result<(), CliError> {
        if self.json { print(&json(document)?) } else { print(&document.for_people()) }
    }

    /// Prints a line that scripts wait for to standard error, even with `--quiet`.
    pub(crate) fn always(&self, text: impl fmt::Display) {
        complain(&text);
    }

    /// Prints a message to standard error, unless `--quiet` is given.
    pub(crate) fn remark(&self, text: impl fmt::Display) {
        if !self.quiet {
            complain(&text);
        }
    }
}

fn json(document: &impl Serialize) -> Result<String, CliError> {
    let text = serde_json::to_string_pretty(document)
        .map_err(|error| CliError::new(Exit::Failed, error).at("the answer's JSON document"))?;
    Ok(text + "\n")
}

/// Prints to standard output.
pub(crate) fn print(text: &impl fmt::Display) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(CliError::new(Exit::Failed, error).at("standard output"))
        }
        _ => Ok(()),
    }
}

/// Prints a line to standard error. A closed standard error is ignored.
fn complain(text: &impl fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

#[derive(Debug, Serialize)]
struct Failure {
    error: FailureDetail,
}

#[derive(Debug, Serialize)]
struct FailureDetail {
    code: Code,
    exit: u8,
    message: String,
}

/// Reports a failure: a line on standard error and, if `as_json`, a document on standard output.
pub(crate) fn report(error: &CliError, as_json: bool) {
    complain(&format_args!("pitr: {error}"));
    if as_json && let Ok(text) = failure(error) {
        let _ = print(&text);
    }
}

fn failure(error: &CliError) -> Result<String, CliError> {
    let (code, exit) = (error.kind, error.code as u8);
    json(&Failure { error: FailureDetail { code, exit, message: error.to_string() } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_document_has_code_exit_and_message() {
        let text = failure(&CliError::new(Exit::Unreachable, "no").at("tx:7")).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let expected = serde_json::json!({"code": "unreachable-target", "exit": 3, "message": "no: tx:7"});
        assert_eq!(value, serde_json::json!({ "error": expected }));
    }
}
