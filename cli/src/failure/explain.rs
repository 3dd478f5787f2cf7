//! Converts errors of the library to failures: the code, and what to do.

use std::io;
use std::path::Path;

use pitr::format::Severity;
use pitr::objects::ErrorKind as O;
use pitr::{archive, recovery, snapshot, sqlite};

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

/// Like [`explain`], for an error about `database`: SQLite's error does not name the file that
/// could not be opened.
pub(crate) fn explain_of(database: &Path) -> impl Fn(pitr::Error) -> CliError + use<> {
    let database = database.to_owned();
    use rusqlite::ErrorCode as C;
    move |error| match &error {
        pitr::Error::Sqlite(sqlite::Error::Sqlite(inner))
            if matches!(
                inner.sqlite_error_code(),
                Some(C::CannotOpen | C::ReadOnly | C::PermissionDenied)
            ) =>
        {
            CliError::of(Code::PermissionDenied, &error).at(database.display()).next(
                "check that the user running pitr can write to the database, its -shm file and their folder",
            )
        }
        _ => explain(error),
    }
}

const NO_FOLDER: &str = "create it, or give another output";
const NO_ROOM: &str = "nothing was written; free disk space, or give an output on another disk";
const DENIED: &str = "run it as a user with read and write access, or choose another place";

fn is_denied(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

fn judge(error: &pitr::Error) -> (Code, Option<&'static str>) {
    use pitr::Error as E;
    match error {
        E::Config(_) => (Code::Usage, None),
        E::Unnamed { .. } => (Code::Usage, Some("give a name with --source")),
        E::WhichSource { .. } => (Code::WhichSource, Some("choose one with --source")),
        E::UnknownSource { .. } => (Code::UnknownSource, None),
        E::NoSource { .. } => (Code::NoSource, Some("run `pitr backup` or `pitr watch` on a database first")),
        E::Objects(e) => objects(e.kind()),
        E::Chunks(e) => objects(e.kind()),
        E::Snapshot(e) => in_snapshot(e),
        E::Archive(e) => in_archive(e),
        E::Recovery(e) => in_recovery(e),
        E::Verify(e) => in_verify(e),
        E::Prune(e) => in_prune(e),
        E::Directory(e) => in_directory(e),
        E::Sqlite(e) => in_sqlite(e),
        E::Engine(e) => in_engine(e),
        _ => (Code::Failed, None),
    }
}

fn in_engine(error: &pitr::engine::Error) -> (Code, Option<&'static str>) {
    use pitr::engine::Error as E;
    match error {
        E::Lacks { .. } => (Code::Usage, None),
        E::UnknownEngine { .. } => (Code::Usage, Some("use a program that has this engine")),
        E::Watched { .. } => (Code::Locked, None),
        E::NoAnswer { .. } => (Code::Locked, Some("wait until it ends, or stop it")),
        _ => (Code::Failed, None),
    }
}

fn objects(kind: O) -> (Code, Option<&'static str>) {
    match kind {
        O::NotARepository => {
            (Code::NotARepository, Some("create one with `pitr init`, or give the right path with --repo"))
        }
        O::AlreadyARepository => {
            (Code::RepositoryExists, Some("use the existing repository, or choose another path"))
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
                "run it as the owner of the repository, or as a user with access by the permissions of its folder",
            ),
        ),
        O::Full => (Code::RepositoryFull, Some("free disk space in the repository, then try again")),
        O::Key => (
            Code::WrongKey,
            Some(
                "give the right one with --passphrase-file, --key-file or PITR_PASSPHRASE; give none if the repository is not encrypted",
            ),
        ),
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

fn in_directory(error: &pitr::directory::Error) -> (Code, Option<&'static str>) {
    use pitr::directory::Error as D;
    match error {
        D::Objects(e) => objects(e.kind()),
        D::Chunks(e) => objects(e.kind()),
        D::Snapshot(e) => in_snapshot(e),
        D::Archive(e) => in_archive(e),
        D::Tree { .. } => (Code::Corrupt, None),
        D::NotAFolder { .. } | D::OtherEngine { .. } | D::OtherFolder { .. } => (Code::Usage, None),
        D::Io { source, .. } if is_denied(source) => (Code::PermissionDenied, Some(DENIED)),
        D::Io { .. } => (
            Code::Failed,
            Some("check that it exists, that you may read and write it, and that the disk is not full"),
        ),
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
        archive::Error::Hole { .. } => {
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
        R::Unreachable { .. } | R::NoBase { .. } => {
            (Code::UnreachableTarget, Some("`pitr info` lists the restorable states"))
        }
        R::Exists { .. } => {
            (Code::OutputExists, Some("give another output, or add --force to move the existing one aside"))
        }
        R::Output { .. } => (Code::Usage, Some("give a path for a file or a folder")),
        R::InTheWay { .. } => (Code::Usage, Some("move it away, or give another output")),
        R::Engine { severity: Severity::Fatal, .. } => (Code::Corrupt, None),
        R::Locked { .. } => (Code::Locked, Some("wait until it has ended, or give another output")),
        R::OtherShape { .. } => (Code::Corrupt, None),
        R::Damaged(_) => (Code::Corrupt, Some("`pitr info` lists the states that can still be restored")),
        R::NoFolder { .. } => (Code::OutputFolderMissing, Some(NO_FOLDER)),
        R::NoRoom { .. } => (Code::NoRoom, Some(NO_ROOM)),
        R::Io { source, .. } if is_denied(source) => (Code::PermissionDenied, Some(DENIED)),
        R::Io { .. } => (
            Code::Failed,
            Some("check that the output's folder can be written and that the disk is not full"),
        ),
        _ => (Code::Failed, None),
    }
}

fn in_sqlite(error: &sqlite::Error) -> (Code, Option<&'static str>) {
    use sqlite::Error as S;
    match error {
        S::Archive(e) => in_archive(e),
        S::Objects(e) => objects(e.kind()),
        S::Snapshot(e) => in_snapshot(e),
        S::Chunks(e) => objects(e.kind()),
        S::Recovery(e) => in_recovery(e),
        S::Locked { .. } => (Code::Locked, None),
        S::Wal(pitr::wal::Error::Locked { .. }) => (Code::Locked, None),
        S::Wal(e) if e.severity() == Severity::Fatal => (Code::Corrupt, None),
        S::NotADatabase { .. }
        | S::NotWalMode { .. }
        | S::ForeignState { .. }
        | S::HardLinked { .. }
        | S::OtherPlace { .. }
        | S::OtherEngine { .. } => (Code::Usage, None),
        S::StateFolder { source, .. } if is_denied(source) => {
            (Code::PermissionDenied, Some("give a writable folder with --state DIR"))
        }
        S::StateFolder { .. } => (
            Code::Failed,
            Some(
                "check that it can be created and that the disk is not full, or give another folder with --state DIR",
            ),
        ),
        S::Open { source, .. } if is_denied(source) => {
            (Code::PermissionDenied, Some("run it as a user who may read and write the file"))
        }
        S::Open { .. } => (Code::Usage, Some("check the path, and that it can be read")),
        S::Exclusive { .. } => (Code::Failed, None),
        _ => (Code::Failed, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitr::snapshot::SnapshotId;

    #[test]
    fn a_snapshot_pruned_during_a_restore_is_not_damage() {
        let gone = || snapshot::Error::Gone { snapshot: SnapshotId([1; 16]) };
        for error in [
            pitr::Error::Recovery(recovery::Error::Snapshot(gone())),
            pitr::Error::Directory(pitr::directory::Error::Snapshot(gone())),
        ] {
            let (code, next) = judge(&error);
            assert!(code == Code::UnreachableTarget && next.is_some_and(|next| next.contains("pruned")));
        }
    }
}
