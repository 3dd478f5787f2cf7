//! Failures of the program: the exit code for scripts, and one line for people.

mod code;
pub(crate) mod explain;

use std::fmt;
use std::process::ExitCode;

pub(crate) use self::code::Code;

/// The exit code of the program. The numbers never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Success.
    Done = 0,
    /// The operation failed.
    Failed = 1,
    /// The command line is invalid or names something that does not exist.
    Usage = 2,
    /// The recovery target can't be restored.
    Unreachable = 3,
    /// Data is damaged or missing.
    Corrupt = 4,
    /// Another process uses the source or the output.
    Locked = 5,
    /// The operation succeeds, or would succeed, but not within the given RTO.
    TooLate = 6,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// A failure, printed as one line: what failed, where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CliError {
    /// The exit code.
    pub(crate) code: Exit,
    /// The kind of failure.
    pub(crate) kind: Code,
    answered: bool,
    what: String,
    place: Option<String>,
    next: Option<String>,
}

impl CliError {
    /// A failure with this exit code.
    pub(crate) fn new(code: Exit, what: impl fmt::Display) -> Self {
        CliError { code, ..Self::of(code.into(), what) }
    }

    /// A failure of this kind.
    pub(crate) fn of(kind: Code, what: impl fmt::Display) -> Self {
        let (code, what) = (kind.exit(), what.to_string());
        CliError { code, kind, answered: false, what, place: None, next: None }
    }

    /// An invalid command line.
    pub(crate) fn usage(what: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, what)
    }

    /// Marks that the command has printed its answer before it failed.
    pub(crate) fn after_the_answer(mut self) -> Self {
        self.answered = true;
        self
    }

    /// True if the command has printed its answer.
    pub(crate) fn follows_an_answer(&self) -> bool {
        self.answered
    }

    /// Adds the place of the failure: a file, object, source or position.
    pub(crate) fn at(mut self, place: impl fmt::Display) -> Self {
        self.place = Some(place.to_string());
        self
    }

    /// Adds what to do about it.
    pub(crate) fn next(mut self, next: impl fmt::Display) -> Self {
        self.next = Some(next.to_string());
        self
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = self.what.clone();
        if let Some(place) = &self.place {
            line = format!("{line}: {place}");
        }
        if let Some(next) = &self.next {
            line = format!("{line}; {next}");
        }
        // An underlying error may span several lines.
        for (i, word) in line.split_whitespace().enumerate() {
            write!(f, "{}{word}", if i > 0 { " " } else { "" })?;
        }
        Ok(())
    }
}

impl std::error::Error for CliError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line_with_what_where_and_what_to_do() {
        let error = CliError::new(Exit::Failed, "output exists")
            .at("/srv/a.db")
            .next("move it away\nor pass --force");
        assert_eq!(error.to_string(), "output exists: /srv/a.db; move it away or pass --force");
        assert_eq!(CliError::usage("no").to_string(), "no");
    }

    #[test]
    fn exit_codes_never_change() {
        let all = [
            Exit::Done,
            Exit::Failed,
            Exit::Usage,
            Exit::Unreachable,
            Exit::Corrupt,
            Exit::Locked,
            Exit::TooLate,
        ];
        assert_eq!(all.map(|exit| exit as u8), [0, 1, 2, 3, 4, 5, 6]);
    }
}
