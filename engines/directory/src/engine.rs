//! The engine of folders.

use crate::restore::FolderTarget;
use crate::{ENGINE, backup};
use pitr_engine::{Engine, EngineContext, Error, Result, TakeOptions, TakeSnapshot, Taken};
use pitr_format::SourceName;
use pitr_recovery::RestoreTarget;
use std::path::Path;

/// The engine for folders.
#[derive(Debug, Clone, Copy, Default)]
pub struct Directory;

impl Engine for Directory {
    fn name(&self) -> &'static str {
        ENGINE
    }

    fn detect(&self, path: &Path) -> bool {
        path.is_dir()
    }

    fn take_snapshot(&self) -> Option<&dyn TakeSnapshot> {
        Some(self)
    }

    fn restore_target(&self) -> Option<&dyn RestoreTarget> {
        Some(&FolderTarget)
    }
}

impl TakeSnapshot for Directory {
    fn take(
        &self,
        context: &EngineContext,
        source: &SourceName,
        path: &Path,
        options: TakeOptions,
    ) -> Result<Taken> {
        backup(&context.objects, context.env().clock.as_ref(), source, path, options).map_err(Error::engine)
    }
}
