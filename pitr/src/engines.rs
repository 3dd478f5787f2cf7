//! The engines that come with pitr. No other code asks for an engine by its name.

use pitr_engine::Registry;

/// SQLite, the default engine, and folders: those of the two that this build has.
pub(crate) fn built_in() -> Registry {
    #[cfg(feature = "sqlite")]
    let registry = Registry::new(std::sync::Arc::new(pitr_sqlite::Sqlite));
    #[cfg(not(feature = "sqlite"))]
    let registry = Registry::empty();
    with_folders(registry)
}

#[cfg(feature = "directory")]
fn with_folders(mut registry: Registry) -> Registry {
    let folders = std::sync::Arc::new(pitr_directory::Directory);
    registry.register(folders).expect("no other engine has this name");
    registry
}

#[cfg(not(feature = "directory"))]
fn with_folders(registry: Registry) -> Registry {
    registry
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn each_feature_adds_its_engine() {
        let registry = built_in();
        assert_eq!(registry.named("sqlite").is_ok(), cfg!(feature = "sqlite"));
        assert_eq!(registry.named("directory").is_ok(), cfg!(feature = "directory"));
        // A path that does not exist yet may become a database.
        assert_eq!(registry.detect(Path::new("/not/there")).is_ok(), cfg!(feature = "sqlite"));
    }

    #[cfg(all(feature = "sqlite", feature = "directory"))]
    #[test]
    fn paths_find_their_engines() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("app.db");
        std::fs::write(&file, b"").unwrap();
        let registry = built_in();
        assert!(registry.detect(dir.path()).unwrap().take_snapshot().is_some());
        assert!(registry.detect(&file).unwrap().capture().is_some());
        assert!(registry.detect(Path::new("/not/there")).unwrap().capture().is_some());
    }
}
