//! How a run ends: the exit codes that scripts rely on, and the one line that says why.

mod code;
pub(crate) mod explain;

use std::fmt;
use std::process::ExitCode;

pub(crate) use self::code::Code;

/// What the program tells its caller in one number. The numbers never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Everything that was asked for.
    Done = 0,
    /// It was tried and failed.
    Failed = 1,
    /// The command line asks for something that makes no sense or is not there.
    Usage = 2,
    /// The recovery target cannot be reached.
    Unreachable = 3,
    /// What was read is not what was written.
    Corrupt = 4,
    /// Another writer holds the source.
    Locked = 5,
    /// It works, but not within the RTO or RPO that was asked for.
    TooLate = 6,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// A failure as the person at the terminal sees it: one line that says what, where, and what to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CliError {
    /// The exit code that goes with it.
    pub(crate) code: Exit,
    /// What kind of failure it is.
    pub(crate) kind: Code,
    answered: bool,
    what: String,
    place: Option<String>,
    next: Option<String>,
}

impl CliError {
    /// A failure that ends the program with `code`.
    pub(crate) fn new(code: Exit, what: impl fmt::Display) -> Self {
        CliError { code, ..Self::of(code.into(), what) }
    }

    /// A failure of a known kind.
    pub(crate) fn of(kind: Code, what: impl fmt::Display) -> Self {
        let (code, what) = (kind.exit(), what.to_string());
        CliError { code, kind, answered: code == Exit::TooLate, what, place: None, next: None }
    }

    /// A command line that cannot be obeyed.
    pub(crate) fn usage(what: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, what)
    }

    /// Says that the command has printed its answer all the same: what it found is bad, or, as always with
    /// [`Exit::TooLate`], it came late.
    pub(crate) fn after_the_answer(mut self) -> Self {
        self.answered = true;
        self
    }

    /// Whether standard output has an answer already.
    pub(crate) fn follows_an_answer(&self) -> bool {
        self.answered
    }

    /// Names the file, object, source or position that it is about.
    pub(crate) fn at(mut self, place: impl fmt::Display) -> Self {
        self.place = Some(place.to_string());
        self
    }

    /// Says what the person can do about it.
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
        // An error from below may span lines; a failure is one line.
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
    fn a_failure_is_one_line_with_what_where_and_next() {
        let error = CliError::new(Exit::Failed, "output exists")
            .at("/srv/a.db")
            .next("move it away\nor pass --force");
        assert_eq!(error.to_string(), "output exists: /srv/a.db; move it away or pass --force");
        assert_eq!(CliError::usage("no").to_string(), "no");
    }

    #[test]
    fn the_numbers_are_those_that_scripts_know() {
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
