//! Converts errors of the library to failures: the code, and what to do.

use std::path::Path;

use pitr::engine::{Explanation, Failure};
use pitr::format::Severity;
use pitr::objects::ErrorKind as O;
use pitr::vfs::is_denied;
use pitr::{archive, recovery, snapshot};

use super::{CliError, Code};

/// The failure for an error of the library.
pub(crate) fn explain(error: pitr::Error) -> CliError {
    let (code, next) = judge(&error);
    let failure = CliError::of(code, &error);
    match next {
        Some(next) => failure.next(next),
        None => failure,
    }
}

/// Like [`explain`], for an error about `source`, which the engine's error may not name.
pub(crate) fn explain_of(source: &Path) -> impl Fn(pitr::Error) -> CliError + use<> {
    let source = source.to_owned();
    move |error| {
        let unnamed = matches!(
            &error,
            pitr::Error::Engine(pitr::engine::Error::Engine(inner)) if inner.lacks_the_source()
        );
        let failure = explain(error);
        if unnamed { failure.at(source.display()) } else { failure }
    }
}

const NO_FOLDER: &str = "create it, or give another output";
const NO_ROOM: &str = "nothing was written; free disk space, or give an output on another disk";
const DENIED: &str = "run it as a user with read and write access, or choose another place";

fn judge(error: &pitr::Error) -> (Code, Option<&'static str>) {
    use pitr::Error as E;
    match error {
        E::Config(_) => (Code::Usage, None),
        E::Unnamed { .. } => (Code::Usage, Some("give a name with --source")),
        E::WhichSource { .. } => (Code::WhichSource, Some("choose one with --source")),
        E::UnknownSource { .. } => (Code::UnknownSource, None),
        E::UnknownPoint { .. } => (Code::UnknownPoint, Some("`pitr point list` lists the points")),
        E::NoSource { .. } => (Code::NoSource, Some("run `pitr backup` or `pitr watch` on a database first")),
        E::Objects(e) => objects(e.kind()),
        E::Chunks(e) => objects(e.kind()),
        E::Snapshot(e) => in_snapshot(e),
        E::Archive(e) => in_archive(e),
        E::Recovery(e) => in_recovery(e),
        E::Verify(e) => in_verify(e),
        E::Prune(e) => in_prune(e),
        E::Engine(e) => in_engine(e),
        _ => (Code::Failed, None),
    }
}

fn in_engine(error: &pitr::engine::Error) -> (Code, Option<&'static str>) {
    use pitr::engine::Error as E;
    match error {
        E::Lacks { .. } => (Code::Usage, None),
        E::UnknownEngine { .. } | E::NotDetected { .. } | E::NoDefault { .. } => {
            (Code::Usage, Some("use a program that has this engine"))
        }
        E::Watched { .. } => (Code::Locked, None),
        E::NoAnswer { .. } => (Code::Locked, Some("wait until it ends, or stop it")),
        E::Behind { .. } => {
            let next =
                "try again when the application writes less; `pitr info` shows how far the archive is behind";
            (Code::Failed, Some(next))
        }
        E::Engine(e) => own(e.explain()),
        _ => (Code::Failed, None),
    }
}

fn own(explanation: Explanation<'_>) -> (Code, Option<&'static str>) {
    match explanation {
        Explanation::Own { failure, advice } => {
            let code = match failure {
                Failure::Usage => Code::Usage,
                Failure::Denied => Code::PermissionDenied,
                Failure::Corrupt => Code::Corrupt,
                Failure::Locked => Code::Locked,
                _ => Code::Failed,
            };
            (code, advice)
        }
        Explanation::Objects(kind) => objects(kind),
        Explanation::Snapshot(e) => in_snapshot(e),
        Explanation::Archive(e) => in_archive(e),
        Explanation::Recovery(e) => in_recovery(e),
        _ => (Code::Failed, None),
    }
}

fn objects(kind: O) -> (Code, Option<&'static str>) {
    match kind {
        O::NotARepository => {
            (Code::NotARepository, Some("create one with `pitr init`, or give the right place with --repo"))
        }
        O::AlreadyARepository => {
            (Code::RepositoryExists, Some("use the existing repository, or give another place with --repo"))
        }
        O::Corrupt => {
            (Code::Corrupt, Some("everything that does not need this object can still be restored"))
        }
        O::Missing => (Code::Corrupt, Some("an object that others need is missing; was it deleted by hand?")),
        O::Newer => (Code::NewerFormat, Some("use the version of pitr that wrote it, or a newer one")),
        O::Unreachable => {
            (Code::RepositoryUnreachable, Some("check that the repository can be reached, then try again"))
        }
        O::Denied => (
            Code::PermissionDenied,
            Some(
                "run it as the owner of the repository, as a user with access by the permissions of its folder, or with credentials that may read and write the bucket",
            ),
        ),
        O::Full => (Code::RepositoryFull, Some("free disk space in the repository, then try again")),
        O::Key => (
            Code::WrongKey,
            Some(
                "give the right one with --passphrase-file, --key-file, --key-command or PITR_PASSPHRASE; give none if the repository is not encrypted",
            ),
        ),
        O::Setup => (Code::StoreSetup, None),
        O::Lapsed => (Code::LeaseLapsed, Some("run it again")),
        O::Foreign => (
            Code::Locked,
            Some("another writer was faster; make sure that only one watcher runs for this source"),
        ),
        _ => (Code::Failed, None),
    }
}

fn in_snapshot(error: &snapshot::Error) -> (Code, Option<&'static str>) {
    match error {
        snapshot::Error::Gone { .. } => (
            Code::UnreachableTarget,
            Some("it was pruned since it was listed; `pitr info` lists the restorable states"),
        ),
        snapshot::Error::Source { .. } | snapshot::Error::Delta(_) => {
            (Code::Failed, Some("check that every file of the source can be read"))
        }
        e => objects(e.kind()),
    }
}

fn in_verify(error: &pitr::verify::Error) -> (Code, Option<&'static str>) {
    use pitr::verify::Error as V;
    match error {
        V::Objects(e) => objects(e.kind()),
        V::Chunks(e) => objects(e.kind()),
        V::Snapshot(e) => objects(e.kind()),
        V::Archive(e) => in_archive(e),
        V::Recovery(e) => in_recovery(e),
        V::SandboxTooSmall { .. } => {
            (Code::NoRoom, Some("nothing was written; give a larger --sandbox-max, or leave it out"))
        }
        V::Io { .. } => (Code::Failed, Some("give an existing folder with --sandbox")),
        _ => (Code::Failed, None),
    }
}

fn in_prune(error: &pitr::prune::Error) -> (Code, Option<&'static str>) {
    use pitr::prune::Error as P;
    match error {
        P::Objects(e) => objects(e.kind()),
        P::Chunks(e) => objects(e.kind()),
        P::Snapshot(e) => objects(e.kind()),
        P::Archive(e) => in_archive(e),
        P::NoRule => (Code::Usage, Some("give --keep-within, --keep-snapshots or another rule")),
        P::NotRestorable { .. } => {
            (Code::UnreachableTarget, Some("nothing was deleted; `pitr info` lists the restorable states"))
        }
        P::PointLost { .. } => (
            Code::UnreachableTarget,
            Some(
                "nothing was deleted; recover the missing object, or delete the point with `pitr point delete`",
            ),
        ),
        P::Unreadable { .. } | P::Lost { .. } => (
            Code::Corrupt,
            Some("run `pitr verify` for details; prune deletes nothing until this is repaired"),
        ),
        P::Suspicious { .. } => {
            (Code::Failed, Some("try again; if it fails again, `pitr verify` lists the missing objects"))
        }
        P::Locked { .. } => (Code::Locked, Some("wait until it has ended")),
        P::Unfinished { .. } => {
            (Code::Locked, Some("run it again when the running backups and restores have ended"))
        }
        _ => (Code::Failed, None),
    }
}

fn in_archive(error: &archive::Error) -> (Code, Option<&'static str>) {
    match error {
        archive::Error::Objects(e) => objects(e.kind()),
        archive::Error::Fenced { .. } | archive::Error::Contended { .. } => {
            (Code::Locked, Some("another writer took over this source"))
        }
        archive::Error::TimelineLost { .. } => {
            (Code::Corrupt, Some("recover the object from a copy; `pitr verify` lists other missing objects"))
        }
        archive::Error::UnknownTimeline { .. } => (Code::Usage, Some("`pitr info` lists the timelines")),
        archive::Error::WalGap { .. } => {
            (Code::UnreachableTarget, Some("`pitr info` lists the restorable states"))
        }
        e if e.severity() == Severity::Fatal => (Code::Corrupt, None),
        _ => (Code::Failed, None),
    }
}

fn in_recovery(error: &recovery::Error) -> (Code, Option<&'static str>) {
    use recovery::Error as R;
    match error {
        R::Archive(e) => in_archive(e),
        R::Snapshot(e) => in_snapshot(e),
        R::TargetUnreachable { .. } | R::NoBaseSnapshot { .. } => {
            (Code::UnreachableTarget, Some("`pitr info` lists the restorable states"))
        }
        R::RtoExceeded { .. } => (Code::TooLate, None),
        R::NoTables | R::LogicalTables | R::NoSuchTable { .. } => (Code::Usage, None),
        R::NoCheck => (Code::Usage, Some("omit --check")),
        R::Inconsistent { .. } => (
            Code::Corrupt,
            Some("the source may have the same faults; restore without --check to look at the state"),
        ),
        R::Exists { .. } => {
            (Code::OutputExists, Some("give another output, or add --force to move the existing one aside"))
        }
        R::PointExists { .. } => (
            Code::PointExists,
            Some("choose another name, or delete the existing point with `pitr point delete`"),
        ),
        R::NoteTooLong { .. } => (Code::Usage, None),
        R::Pruning { .. } => (Code::Locked, Some("run it again when the prune has ended")),
        R::Output { .. } => (Code::Usage, Some("give a path for a file or a folder")),
        R::Spill { .. } => (Code::Failed, Some("check the disk and the memory of this machine")),
        R::NotInPlace { .. } => (Code::Usage, Some("omit --in-place")),
        R::InUse { .. } => (Code::Usage, Some("stop that program, or omit --in-place")),
        R::InTheWay { .. } => (Code::Usage, Some("move it away, or give another output")),
        R::Engine { severity: Severity::Fatal, .. } => (Code::Corrupt, None),
        R::Locked { .. } => (Code::Locked, Some("wait until it has ended, or give another output")),
        R::OtherShape { .. } => (Code::Corrupt, None),
        R::Damaged(_) => (Code::Corrupt, Some("`pitr info` lists the states that can still be restored")),
        R::NoFolder { .. } => (Code::OutputFolderMissing, Some(NO_FOLDER)),
        R::NoRoom { .. } => (Code::NoRoom, Some(NO_ROOM)),
        R::Io { source, .. } if is_denied(source.kind()) => (Code::PermissionDenied, Some(DENIED)),
        R::Io { .. } => (
            Code::Failed,
            Some("check that the output's folder can be written and that the disk is not full"),
        ),
        _ => (Code::Failed, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitr::snapshot::SnapshotId;
    use pitr::sqlite;

    #[test]
    fn an_error_that_does_not_name_the_database_gets_its_path() {
        let cannot_open = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN);
        let error = sqlite::Error::Sqlite(rusqlite::Error::SqliteFailure(cannot_open, None));
        let text = error.to_string();
        let failure = explain_of(Path::new("/srv/app.db"))(pitr::engine::Error::engine(error).into());
        assert_eq!(failure.kind, Code::PermissionDenied);
        let advice =
            "check that the user running pitr can write to the database, its -shm file and their folder";
        assert_eq!(failure.to_string(), format!("{text}: /srv/app.db; {advice}"));
        let busy = sqlite::Error::Busy { path: "/srv/app.db".into() };
        let text = busy.to_string();
        let failure = explain_of(Path::new("/srv/app.db"))(pitr::engine::Error::engine(busy).into());
        assert_eq!((failure.kind, failure.to_string()), (Code::Failed, text));
    }

    #[test]
    fn a_snapshot_pruned_during_a_restore_is_not_damage() {
        let gone = || snapshot::Error::Gone { snapshot: SnapshotId([1; 16]) };
        for error in [
            pitr::Error::Recovery(recovery::Error::Snapshot(gone())),
            pitr::engine::Error::engine(pitr::directory::Error::Snapshot(gone())).into(),
        ] {
            let (code, next) = judge(&error);
            assert!(code == Code::UnreachableTarget && next.is_some_and(|next| next.contains("pruned")));
        }
    }
}
