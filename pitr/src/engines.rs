//! The engines that come with pitr. No other code asks for an engine by its name.

use std::sync::Arc;

use pitr_directory::Directory;
use pitr_engine::{Engine, Registry};
use pitr_sqlite::Sqlite;

/// SQLite, the default engine, and folders.
pub(crate) fn built_in() -> Registry {
    let others: [Arc<dyn Engine>; 1] = [Arc::new(Directory)];
    let mut registry = Registry::new(Arc::new(Sqlite));
    for engine in others {
        registry.register(engine).expect("each name is given once above");
    }
    registry
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn paths_find_their_engines() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("app.db");
        std::fs::write(&file, b"").unwrap();
        let registry = built_in();
        assert!(registry.detect(dir.path()).take_snapshot().is_some());
        assert!(registry.detect(&file).capture().is_some());
        // A path that does not exist yet may become a database.
        assert!(registry.detect(Path::new("/not/there")).capture().is_some());
        assert!(registry.named("sqlite").is_ok() && registry.named("directory").is_ok());
    }
}
