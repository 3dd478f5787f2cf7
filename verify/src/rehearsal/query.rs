//! A query that must hold on a restored copy.

use super::probe::{Probe, RestoredCopy};
use pitr_recovery::{BoxError, Finding};
use std::fmt;

/// An engine that answers queries on a restored copy.
pub trait Queries: Send + Sync {
    /// The first value of the first row of the answer.
    ///
    /// # Errors
    /// Why the query has no answer within the copy's limit.
    fn first_value(&self, copy: &RestoredCopy<'_>, query: &str) -> Result<Answer, BoxError>;
}

/// The first value of a query's answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The answer has no row.
    NoRow,
    /// NULL.
    Null,
    /// An integer; booleans are 0 and 1.
    Integer(i64),
    /// A floating-point number.
    Real(f64),
    /// A text.
    Text(String),
    /// A number of bytes.
    Bytes(u64),
}

impl Answer {
    /// True unless there is no row, or the value is NULL, 0, or one of the texts `false`, `0` and
    /// the empty one.
    #[must_use]
    pub fn holds(&self) -> bool {
        match self {
            Answer::NoRow | Answer::Null | Answer::Integer(0) => false,
            Answer::Real(value) => *value != 0.0,
            Answer::Text(text) => {
                !matches!(text.trim(), "" | "0") && !text.trim().eq_ignore_ascii_case("false")
            }
            Answer::Integer(_) | Answer::Bytes(_) => true,
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::NoRow => f.write_str("no row"),
            Answer::Null => f.write_str("NULL"),
            Answer::Integer(value) => value.fmt(f),
            Answer::Real(value) => value.fmt(f),
            Answer::Text(text) => write!(f, "{text:?}"),
            Answer::Bytes(count) => write!(f, "{count} bytes"),
        }
    }
}

/// A query that must hold ([`Answer::holds`]).
pub struct QueryProbe<'a> {
    queries: &'a dyn Queries,
    query: String,
}

impl<'a> QueryProbe<'a> {
    /// A query in the language of the engine.
    pub fn new(queries: &'a dyn Queries, query: impl Into<String>) -> Self {
        QueryProbe { queries, query: query.into() }
    }
}

impl Probe for QueryProbe<'_> {
    fn name(&self) -> String {
        self.query.clone()
    }

    fn check(&self, copy: &RestoredCopy<'_>) -> Result<Vec<Finding>, BoxError> {
        let answer = self.queries.first_value(copy, &self.query)?;
        Ok(if answer.holds() { Vec::new() } else { vec![Finding::new(format!("answered {answer}"))] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_holds_unless_it_is_false_null_or_missing() {
        for holds in [Answer::Integer(-1), Answer::Real(0.5), Answer::Text("ok".into()), Answer::Bytes(0)] {
            assert!(holds.holds(), "{holds}");
        }
        let text = |text: &str| Answer::Text(text.into());
        for fails in [Answer::NoRow, Answer::Null, Answer::Integer(0), Answer::Real(0.0)] {
            assert!(!fails.holds(), "{fails}");
        }
        assert!([text(""), text(" 0"), text("False")].iter().all(|answer| !answer.holds()));
    }
}
