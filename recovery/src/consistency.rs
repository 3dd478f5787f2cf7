//! An engine's own check of a restored state, before the state is published.

use crate::error::Result;
use crate::layout::Unfinished;
use crate::plan::Plan;
use crate::restore::Restorer;
use std::fmt;
use std::path::Path;

/// An engine's check of the files of a result.
///
/// The restorer calls it when all files are written, and before it publishes the output. Then the
/// files have their first sectors, so the engine can open them under their temporary name. It must
/// not change them, and must not leave files beside them. If it finds anything, or fails, the mark
/// comes back, the result is removed, and nothing is published.
///
/// A process that is killed during the check leaves whole files under the temporary name, which the
/// next restore removes.
pub trait ConsistencyCheck {
    /// The faults of the result; none if it is consistent.
    ///
    /// # Errors
    /// [`Error::engine`](crate::Error::engine), [`Error::Io`](crate::Error::Io) if the check can't
    /// be carried out.
    fn check(&self, result: &Unfinished<'_>) -> Result<Vec<Finding>>;
}

impl Restorer<'_> {
    /// Runs the engine's check on a complete copy of the state of `plan`; `None` if the engine has
    /// none.
    ///
    /// # Errors
    /// Those of the check; those of reading the snapshot's root.
    pub fn check_copy(&self, plan: &Plan, path: &Path) -> Result<Option<Vec<Finding>>> {
        let Some(check) = self.target.consistency() else { return Ok(None) };
        let base = self.base(plan)?;
        let copy = Unfinished { fs: self.fs, path, base: base.as_ref(), reached: plan.reached };
        check.check(&copy).map(Some)
    }
}

/// A fault that an engine found, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding(String);

impl Finding {
    /// A fault in the engine's words.
    pub fn new(what: impl Into<String>) -> Self {
        Finding(what.into())
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The first findings as one text, for a message.
pub(crate) fn listed(findings: &[Finding]) -> String {
    const SHOWN: usize = 3;
    let mut text = findings.iter().take(SHOWN).map(Finding::to_string).collect::<Vec<_>>().join("; ");
    if let Some(more) = findings.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        text.push_str(&format_args!("; and {more} more").to_string());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_findings_are_listed_and_the_others_counted() {
        let text = |count: usize| {
            listed(&(0..count).map(|no| Finding::new(format!("fault {no}"))).collect::<Vec<_>>())
        };
        assert_eq!(text(1), "fault 0");
        assert_eq!(text(3), "fault 0; fault 1; fault 2");
        assert_eq!(text(4), "fault 0; fault 1; fault 2; and 1 more");
        assert_eq!(text(6), "fault 0; fault 1; fault 2; and 3 more");
    }
}
