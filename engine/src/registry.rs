//! The registry of engines.

use crate::capture::Capture;
use crate::error::{Capability, Error, Result};
use crate::take::TakeSnapshot;
use pitr_recovery::RestoreTarget;
use pitr_verify::{Live, Queries};
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

    /// Answers queries on a restored copy.
    fn queries(&self) -> Option<&dyn Queries> {
        None
    }

    /// Reads live sources as of one commit.
    fn live(&self) -> Option<&dyn Live> {
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

    /// The capability to answer queries.
    ///
    /// # Errors
    /// [`Error::Lacks`].
    pub fn need_queries(&self) -> Result<&dyn Queries> {
        self.queries().ok_or_else(|| self.lacks(Capability::Queries))
    }

    /// The capability to read live sources.
    ///
    /// # Errors
    /// [`Error::Lacks`].
    pub fn need_live(&self) -> Result<&dyn Live> {
        self.live().ok_or_else(|| self.lacks(Capability::Live))
    }

    fn lacks(&self, capability: Capability) -> Error {
        Error::Lacks { engine: self.name(), capability }
    }
}

/// The engines of a program.
///
/// One of them may be the default engine: it gets paths that no engine detects, and sources that
/// have a log and no snapshot yet.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    engines: Vec<Arc<dyn Engine>>,
    /// Position of the default engine.
    default: Option<usize>,
}

impl Registry {
    /// A registry without an engine.
    #[must_use]
    pub fn empty() -> Self {
        Registry::default()
    }

    /// A registry with one engine, the default.
    #[must_use]
    pub fn new(default: Arc<dyn Engine>) -> Self {
        Registry { engines: vec![default], default: Some(0) }
    }

    /// Adds an engine. The default engine stays the same, also if there is none.
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

    /// Adds an engine, and makes it the default.
    ///
    /// # Errors
    /// [`Error::RegisteredTwice`]; the default engine is then unchanged.
    pub fn register_default(&mut self, engine: Arc<dyn Engine>) -> Result<()> {
        self.register(engine)?;
        self.default = Some(self.engines.len() - 1);
        Ok(())
    }

    /// The engine of a snapshot, by the name in its root.
    ///
    /// # Errors
    /// [`Error::UnknownEngine`].
    pub fn named(&self, name: &str) -> Result<&dyn Engine> {
        let found = self.engines.iter().find(|engine| engine.name() == name);
        found
            .map(AsRef::as_ref)
            .ok_or_else(|| Error::UnknownEngine { name: name.to_owned(), known: self.known() })
    }

    /// The engine that detects a path as its source. For any other path the default engine, which
    /// explains in its error what is wrong.
    ///
    /// # Errors
    /// [`Error::NotDetected`] if no engine detects the path and there is no default engine.
    pub fn detect(&self, path: &Path) -> Result<&dyn Engine> {
        let found = self.engines.iter().find(|engine| engine.detect(path)).map(AsRef::as_ref);
        found
            .or(self.default_of())
            .ok_or_else(|| Error::NotDetected { path: path.to_owned(), known: self.known() })
    }

    /// Suffixes of files that belong to an output of any engine, such as `-wal`.
    #[must_use]
    pub fn companions(&self) -> Vec<&'static str> {
        let targets = self.engines.iter().filter_map(|engine| engine.restore_target());
        targets.flat_map(|target| target.companions()).copied().collect()
    }

    /// The default engine.
    ///
    /// # Errors
    /// [`Error::NoDefault`].
    pub fn default_engine(&self) -> Result<&dyn Engine> {
        self.default_of().ok_or_else(|| Error::NoDefault { known: self.known() })
    }

    fn default_of(&self) -> Option<&dyn Engine> {
        self.engines.get(self.default?).map(AsRef::as_ref)
    }

    /// Names of the engines, for messages.
    fn known(&self) -> String {
        let known: Vec<_> = self.engines.iter().map(|engine| engine.name()).collect();
        if known.is_empty() { "none".to_owned() } else { known.join(", ") }
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
        assert_eq!(registry.detect(Path::new("x.b")).unwrap().name(), "b");
        assert_eq!(registry.detect(Path::new("x.c")).unwrap().name(), "a");
        registry.register_default(Arc::new(Bare("c"))).unwrap();
        assert_eq!(registry.detect(Path::new("x.d")).unwrap().name(), "c");
        assert!(registry.register_default(Arc::new(Bare("b"))).is_err());
        assert_eq!(registry.default_engine().unwrap().name(), "c");
    }

    #[test]
    fn without_a_default_engine_an_unknown_path_is_an_error_that_names_the_engines() {
        let mut registry = Registry::empty();
        let none = registry.detect(Path::new("x.b")).unwrap_err().to_string();
        assert!(none.contains("x.b") && none.contains("none"), "{none}");
        registry.register(Arc::new(Bare("b"))).unwrap();
        assert_eq!(registry.detect(Path::new("x.b")).unwrap().name(), "b");
        let unknown = registry.detect(Path::new("x.c"));
        assert!(matches!(unknown, Err(Error::NotDetected { known, .. }) if known == "b"));
        assert!(matches!(registry.default_engine(), Err(Error::NoDefault { known }) if known == "b"));
    }

    #[test]
    fn a_missing_capability_is_named_together_with_the_engine() {
        let registry = Registry::new(Arc::new(Bare("bare")));
        let engine = registry.default_engine().unwrap();
        let errors = [
            engine.need_capture().map(drop),
            engine.need_take_snapshot().map(drop),
            engine.need_restore_target().map(drop),
            engine.need_queries().map(drop),
            engine.need_live().map(drop),
        ];
        let texts: Vec<String> = errors.into_iter().map(|error| error.unwrap_err().to_string()).collect();
        assert_eq!(texts[0], "the engine bare cannot capture commits");
        assert_eq!(texts[1], "the engine bare cannot take snapshots without a log");
        assert_eq!(texts[2], "the engine bare cannot restore files");
        assert_eq!(texts[3], "the engine bare cannot answer queries");
        assert_eq!(texts[4], "the engine bare cannot read live sources as of one commit");
    }
}
