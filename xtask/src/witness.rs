//! The application's own copies: its commits, their times, and the state of the database after
//! each.

use crate::{Result, application};
use pitr::exact::{ExactError, Fingerprint};
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// A state of the database, with the times between which it was committed. The state before the
/// first commit has no times.
#[derive(Debug, Clone)]
pub(crate) struct State {
    pub(crate) before_us: i64,
    pub(crate) after_us: i64,
    copy: PathBuf,
}

/// All states of a run. State 0 precedes the first commit; state `n` follows commit `n`.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    pub(crate) states: Vec<State>,
    fingerprints: HashMap<usize, Fingerprint>,
}

impl Witness {
    /// Starts with the state in which the application was ready.
    pub(crate) fn new(ready: &Value) -> Result<Witness> {
        let copy = application::path(ready, "copy")?;
        Ok(Witness {
            states: vec![State { before_us: i64::MIN, after_us: i64::MIN, copy }],
            ..Default::default()
        })
    }

    /// Adds the commits among `events`.
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

    /// Checks that the file at `path` is exactly state `state`. The inner error names the
    /// difference.
    pub(crate) fn exact(&mut self, path: &Path, state: usize) -> Result<std::result::Result<(), String>> {
        let found = match look(path) {
            Ok(found) => found,
            Err(error) => {
                return Ok(Err(format!("expected state {state}, found no complete database: {error}")));
            }
        };
        match found.difference(self.fingerprint(state)?) {
            None => Ok(Ok(())),
            Some(difference) => {
                let which =
                    self.find(&found)?.map_or("a state that never existed".into(), |n| format!("state {n}"));
                Ok(Err(format!("expected state {state}, found {which} ({difference})")))
            }
        }
    }

    /// The state that the file at `path` equals exactly.
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

/// Takes the fingerprint of a file. Litestream writes its own tables into the database, at its own
/// times; they are not compared.
fn look(path: &Path) -> std::result::Result<Fingerprint, ExactError> {
    let mut found = Fingerprint::of(path)?;
    found.tables.retain(|name, _| !name.starts_with("_litestream_"));
    Ok(found)
}
