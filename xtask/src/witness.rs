//! The application's own copies: what it committed, when, and what the database held then.

use crate::{Result, application};
use pitr::exact::{ExactError, Fingerprint};
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// One state of the database, with the moments between which it came to be. The state before the first commit has none.
#[derive(Debug, Clone)]
pub(crate) struct State {
    pub(crate) before_us: i64,
    pub(crate) after_us: i64,
    copy: PathBuf,
}

/// All states of a run: state 0 is the one before the first commit, state `n` the one after commit `n`.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    pub(crate) states: Vec<State>,
    fingerprints: HashMap<usize, Fingerprint>,
}

impl Witness {
    /// Begins with the state that the application was ready in.
    pub(crate) fn new(ready: &Value) -> Result<Witness> {
        let copy = application::path(ready, "copy")?;
        Ok(Witness {
            states: vec![State { before_us: i64::MIN, after_us: i64::MIN, copy }],
            ..Default::default()
        })
    }

    /// Takes in the commits among `events`.
    pub(crate) fn add(&mut self, events: &[Value]) -> Result<()> {
        for event in events.iter().filter(|event| event["event"] == "commit") {
            let time = |key: &str| event[key].as_i64().ok_or_else(|| format!("no {key} in {event}"));
            let state = State {
                before_us: time("before_us")?,
                after_us: time("after_us")?,
                copy: application::path(event, "copy")?,
            };
            self.states.push(state);
        }
        Ok(())
    }

    /// Number of the last commit.
    pub(crate) fn commits(&self) -> usize {
        self.states.len() - 1
    }

    fn fingerprint(&mut self, state: usize) -> Result<&Fingerprint> {
        if !self.fingerprints.contains_key(&state) {
            self.fingerprints.insert(state, look(&self.states[state].copy)?);
        }
        Ok(&self.fingerprints[&state])
    }

    /// Whether the file at `path` is exactly state `state`; otherwise what it is.
    pub(crate) fn exact(&mut self, path: &Path, state: usize) -> Result<std::result::Result<(), String>> {
        let found = match look(path) {
            Ok(found) => found,
            Err(error) => {
                return Ok(Err(format!("expected state {state}, found no whole database: {error}")));
            }
        };
        match found.difference(self.fingerprint(state)?) {
            None => Ok(Ok(())),
            Some(difference) => {
                let which =
                    self.find(&found)?.map_or("no state that ever was".into(), |n| format!("state {n}"));
                Ok(Err(format!("expected state {state}, found {which} ({difference})")))
            }
        }
    }

    /// The state that `path` is exactly.
    pub(crate) fn which(&mut self, path: &Path) -> Result<Option<usize>> {
        self.find(&look(path)?)
    }

    fn find(&mut self, found: &Fingerprint) -> Result<Option<usize>> {
        for state in 0..self.states.len() {
            if self.fingerprint(state)?.difference(found).is_none() {
                return Ok(Some(state));
            }
        }
        Ok(None)
    }
}

/// Litestream writes tables of its own into the database, at its own times: whether those came back is not the question.
fn look(path: &Path) -> std::result::Result<Fingerprint, ExactError> {
    let mut found = Fingerprint::of(path)?;
    found.tables.retain(|name, _| !name.starts_with("_litestream_"));
    Ok(found)
}
