//! A folder, its snapshots, and restores of them.

use crate::compare::seen;
use pitr_dedup::ChunkStore;
use pitr_directory::{BackupOptions, ChangedRanges, Error, FolderTarget, Taken, backup};
use pitr_format::{SourceName, Timestamp};
use pitr_objects::Objects;
use pitr_recovery::{
    Error as RecoveryError, History, Plan, RecoveryTarget, RestoreOptions, Restored, Restorer, Target,
};
use pitr_vfs::{Clock, FileSystem, OsFs, SystemClock};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A clock that is ahead: recent writes count as settled.
#[derive(Debug)]
pub(crate) struct Ahead(SystemClock);

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.now().micros() + 60_000_000)
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }
}

pub(crate) struct Lab {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) objects: Objects,
    pub(crate) clock: Ahead,
}

impl Lab {
    pub(crate) fn new() -> Lab {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("source")).unwrap();
        let objects = Objects::create_local(dir.path().join("repo")).unwrap();
        objects.init_repository(Timestamp::MIN).unwrap();
        Lab { dir, objects, clock: Ahead(SystemClock::new()) }
    }

    pub(crate) fn source(&self) -> PathBuf {
        self.dir.path().join("source")
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.source().join(name)
    }

    pub(crate) fn backup(&self) -> Taken {
        self.backup_of(&self.source(), false).unwrap()
    }

    pub(crate) fn backup_of(&self, folder: &Path, full: bool) -> Result<Taken, Error> {
        let options = BackupOptions { full, moved: true, ..Default::default() };
        backup(&self.objects, &self.clock, &SourceName::new("s").unwrap(), folder, options)
    }

    pub(crate) fn backup_listed(&self, ranges: ChangedRanges) -> Taken {
        let options = BackupOptions { changed_ranges: Some(ranges), ..Default::default() };
        backup(&self.objects, &self.clock, &SourceName::new("s").unwrap(), &self.source(), options).unwrap()
    }

    pub(crate) fn write(&self, name: &str, at: u64, bytes: &[u8]) {
        File::options().write(true).open(self.at(name)).unwrap().write_all_at(bytes, at).unwrap();
    }

    pub(crate) fn restore(&self, taken: &Taken, name: &str) -> (PathBuf, Restored) {
        let output = self.dir.path().join(name);
        let restored = self.restore_to(taken, options(&output)).unwrap();
        (output, restored)
    }

    pub(crate) fn restore_to(
        &self,
        taken: &Taken,
        options: RestoreOptions,
    ) -> Result<Restored, RecoveryError> {
        self.with_restorer(taken, &OsFs, |restorer, plan| restorer.restore(plan, &options))
    }

    pub(crate) fn with_restorer<T>(
        &self,
        taken: &Taken,
        fs: &dyn FileSystem,
        act: impl FnOnce(&Restorer<'_>, &Plan) -> T,
    ) -> T {
        let history = History::load(&self.objects, &SourceName::new("s").unwrap(), None).unwrap();
        let stop = history.resolve(&Target::at(RecoveryTarget::Snapshot(taken.snapshot.id))).unwrap();
        let (plan, chunks) = (history.plan(&stop).unwrap(), ChunkStore::open(self.objects.clone()).unwrap());
        let (history, chunks, target, clock) = (&history, &chunks, &FolderTarget, &self.clock);
        act(&Restorer { history, chunks, target, fs, clock, progress: &|_| {} }, &plan)
    }

    pub(crate) fn assert_restored(&self, taken: &Taken, name: &str) {
        let before = seen(&self.source());
        let (output, _) = self.restore(taken, name);
        assert_eq!(seen(&output), before);
        for leftover in [".pitr-partial", ".pitr-lock"] {
            assert!(!self.dir.path().join(format!("{name}{leftover}")).exists());
        }
    }
}

pub(crate) fn options(output: &Path) -> RestoreOptions {
    RestoreOptions::to(output)
}
