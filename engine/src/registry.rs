//! The registry of engines.

use crate::capture::Capture;
use crate::error::{Capability, Error, Result};
use crate::take::TakeSnapshot;
use pitr_recovery::RestoreTarget;
use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

/// A storage engine.
pub trait Engine: Debug + Send + Sync {
    /// Name of the engine in the snapshots of its sources, at most 64 bytes. It never changes.
    fn name(&self) -> &'static str;

    /// True if a path may be a source of this engine.
    ///
    /// This looks only at the kind of the file, and does not open it: closing a file that an engine
    /// has open may drop locks of this process (FAILURES 38).
    fn detect(&self, path: &Path) -> bool;

    /// Captures commits.
    fn capture(&self) -> Option<&dyn Capture> {
        None
    }

    /// Takes snapshots of sources without a log.
    fn take_snapshot(&self) -> Option<&dyn TakeSnapshot> {
        None
    }

    /// Restores files of its sources.
    fn restore_target(&self) -> Option<&dyn RestoreTarget> {
        None
    }
}

impl dyn Engine + '_ {
    /// The capability to capture commits.
    ///
    /// # Errors
    /// [`Error::Lacks`].
    pub fn need_capture(&self) -> Result<&dyn Capture> {
        self.capture().ok_or_else(|| self.lacks(Capability::Capture))
    }

    /// The capability to take snapshots without a log.
    ///
    /// # Errors
    /// [`Error::Lacks`].
    pub fn need_take_snapshot(&self) -> Result<&dyn TakeSnapshot> {
        self.take_snapshot().ok_or_else(|| self.lacks(Capability::TakeSnapshot))
    }

    /// The capability to restore files.
    ///
    /// # Errors
    /// [`Error::Lacks`].
    pub fn need_restore_target(&self) -> Result<&dyn RestoreTarget> {
        self.restore_target().ok_or_else(|| self.lacks(Capability::Restore))
    }

    fn lacks(&self, capability: Capability) -> Error {
        Error::Lacks { engine: self.name(), capability }
    }
}

/// The engines of a program.
#[derive(Debug, Clone)]
pub struct Registry {
    /// The first one is the default engine.
    engines: Vec<Arc<dyn Engine>>,
}

impl Registry {
    /// A registry with one engine, the default: it gets paths that no engine detects, and sources
    /// that have a log and no snapshot yet.
    #[must_use]
    pub fn new(default: Arc<dyn Engine>) -> Self {
        Registry { engines: vec![default] }
    }

    /// Adds an engine.
    ///
    /// # Errors
    /// [`Error::RegisteredTwice`].
    pub fn register(&mut self, engine: Arc<dyn Engine>) -> Result<()> {
        let name = engine.name();
        if self.engines.iter().any(|known| known.name() == name) {
            return Err(Error::RegisteredTwice { name });
        }
        self.engines.push(engine);
        Ok(())
    }

    /// The engine of a snapshot, by the name in its root.
    ///
    /// # Errors
    /// [`Error::UnknownEngine`].
    pub fn named(&self, name: &str) -> Result<&dyn Engine> {
        let found = self.engines.iter().find(|engine| engine.name() == name);
        found.map(AsRef::as_ref).ok_or_else(|| {
            let known: Vec<_> = self.engines.iter().map(|engine| engine.name()).collect();
            Error::UnknownEngine { name: name.to_owned(), known: known.join(", ") }
        })
    }

    /// The engine that detects a path as its source. For any other path the default engine, which
    /// explains in its error what is wrong.
    #[must_use]
    pub fn detect(&self, path: &Path) -> &dyn Engine {
        let found = self.engines.iter().find(|engine| engine.detect(path));
        found.map_or_else(|| self.default_engine(), AsRef::as_ref)
    }

    /// Suffixes of files that belong to an output of any engine, such as `-wal`.
    #[must_use]
    pub fn companions(&self) -> Vec<&'static str> {
        let targets = self.engines.iter().filter_map(|engine| engine.restore_target());
        targets.flat_map(|target| target.companions()).copied().collect()
    }

    /// The default engine.
    #[must_use]
    pub fn default_engine(&self) -> &dyn Engine {
        self.engines[0].as_ref() // `new` has put one there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Bare(&'static str);

    impl Engine for Bare {
        fn name(&self) -> &'static str {
            self.0
        }

        fn detect(&self, path: &Path) -> bool {
            path.extension().is_some_and(|extension| extension == self.0)
        }
    }

    #[test]
    fn engines_are_registered_once_and_found_by_name_or_path() {
        let mut registry = Registry::new(Arc::new(Bare("a")));
        registry.register(Arc::new(Bare("b"))).unwrap();
        let twice = registry.register(Arc::new(Bare("a")));
        assert!(matches!(twice, Err(Error::RegisteredTwice { name: "a" })));
        assert_eq!(registry.named("b").unwrap().name(), "b");
        let unknown = registry.named("c").unwrap_err().to_string();
        assert!(unknown.contains("\"c\"") && unknown.contains("a, b"), "{unknown}");
        assert_eq!(registry.detect(Path::new("x.b")).name(), "b");
        assert_eq!(registry.detect(Path::new("x.c")).name(), "a");
    }

    #[test]
    fn a_missing_capability_is_named_together_with_the_engine() {
        let registry = Registry::new(Arc::new(Bare("bare")));
        let engine = registry.default_engine();
        let errors = [
            engine.need_capture().map(drop),
            engine.need_take_snapshot().map(drop),
            engine.need_restore_target().map(drop),
        ];
        let texts: Vec<String> = errors.into_iter().map(|error| error.unwrap_err().to_string()).collect();
        assert_eq!(texts[0], "the engine bare cannot capture commits");
        assert_eq!(texts[1], "the engine bare cannot take snapshots without a log");
        assert_eq!(texts[2], "the engine bare cannot restore files");
    }
}
