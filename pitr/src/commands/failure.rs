//! Which exit code an error ends the program with, and what to do next.

use pitr::objects::ErrorKind as O;
use pitr::{archive, recovery, snapshot, sqlite};

use crate::cli::exit::{CliError, Exit};

/// The failure that a person sees for an error of the facade.
pub(crate) fn explain(error: pitr::Error) -> CliError {
    let (code, next) = judge(&error);
    let failure = CliError::new(code, &error);
    match next {
        Some(next) => failure.next(next),
        None => failure,
    }
}

fn judge(error: &pitr::Error) -> (Exit, Option<&'static str>) {
    use pitr::Error as E;
    match error {
        E::Config(_) | E::WhichSource { .. } | E::UnknownSource { .. } | E::Unnamed { .. } => {
            (Exit::Usage, None)
        }
        E::NoSource { .. } => (Exit::Unreachable, None),
        E::Objects(e) => objects(e.kind()),
        E::Chunks(e) => objects(e.kind()),
        E::Snapshot(e) => in_snapshot(e),
        E::Archive(e) => in_archive(e),
        E::Recovery(e) => in_recovery(e),
        E::Verify(e) => in_verify(e),
        E::Prune(e) => in_prune(e),
        E::Directory(e) => in_directory(e),
        E::Sqlite(e) => in_sqlite(e),
        _ => (Exit::Failed, None),
    }
}

fn objects(kind: O) -> (Exit, Option<&'static str>) {
    match kind {
        O::NotARepository => {
            (Exit::Usage, Some("make one with `pitr init`, or name the right one with --repo"))
        }
        O::AlreadyARepository => (Exit::Usage, Some("use it as it is, or name another place")),
        O::Corrupt => (Exit::Corrupt, Some("what doesn't need this object can still be restored")),
        O::Missing => (Exit::Corrupt, Some("an object that others need is gone; was it deleted by hand?")),
        O::Newer => (Exit::Failed, Some("use the version of pitr that wrote it")),
        O::Unreachable => (Exit::Failed, Some("see that the repository can be reached, then try again")),
        O::Denied => (Exit::Failed, Some("see who owns the repository")),
        O::Full => (Exit::Failed, Some("make room in the repository, then try again")),
        O::Key => (
            Exit::Usage,
            Some(
                "give the right one with --passphrase-file, --key-file or PITR_PASSPHRASE; none for a repository that is not encrypted",
            ),
        ),
        O::Lapsed => (Exit::Failed, Some("run it again")),
        O::Foreign => {
            (Exit::Locked, Some("another writer was faster; see that only one watches this source"))
        }
        _ => (Exit::Failed, None),
    }
}

fn in_snapshot(error: &snapshot::Error) -> (Exit, Option<&'static str>) {
    match error {
        snapshot::Error::Gone { .. } => {
            (Exit::Unreachable, Some("it was pruned meanwhile; `pitr info` lists what can be restored"))
        }
        snapshot::Error::Source { .. } | snapshot::Error::Delta(_) => {
            (Exit::Failed, Some("see that all of the source can be read"))
        }
        e => objects(e.kind()),
    }
}

fn in_verify(error: &pitr::verify::Error) -> (Exit, Option<&'static str>) {
    use pitr::verify::Error as V;
    match error {
        V::Objects(e) => objects(e.kind()),
        V::Chunks(e) => objects(e.kind()),
        V::Snapshot(e) => objects(e.kind()),
        V::Archive(e) => in_archive(e),
        _ => (Exit::Failed, None),
    }
}

fn in_prune(error: &pitr::prune::Error) -> (Exit, Option<&'static str>) {
    use pitr::prune::Error as P;
    match error {
        P::Objects(e) => objects(e.kind()),
        P::Chunks(e) => objects(e.kind()),
        P::Snapshot(e) => objects(e.kind()),
        P::Archive(e) => in_archive(e),
        P::NoRule => (Exit::Usage, Some("give --keep-within, --keep-snapshots or another rule")),
        P::NotRestorable { .. } => {
            (Exit::Unreachable, Some("nothing was removed; `pitr info` lists what can be restored"))
        }
        P::Unreadable { .. } | P::Lost { .. } => {
            (Exit::Corrupt, Some("`pitr verify` tells more; nothing is deleted meanwhile"))
        }
        P::Suspicious { .. } => {
            (Exit::Failed, Some("try again; if it stays so `pitr verify` tells what is missing"))
        }
        P::Locked { .. } => (Exit::Locked, Some("wait for it")),
        P::Unfinished { .. } => {
            (Exit::Locked, Some("run it again when the backups and restores that run now have ended"))
        }
        _ => (Exit::Failed, None),
    }
}

fn in_directory(error: &pitr::directory::Error) -> (Exit, Option<&'static str>) {
    use pitr::directory::Error as D;
    match error {
        D::Objects(e) => objects(e.kind()),
        D::Chunks(e) => objects(e.kind()),
        D::Snapshot(e) => in_snapshot(e),
        D::Archive(e) => in_archive(e),
        D::Tree { .. } => (Exit::Corrupt, None),
        D::NotAFolder { .. } | D::OtherEngine { .. } | D::OtherFolder { .. } => (Exit::Usage, None),
        D::Output { .. } => (Exit::Usage, Some("name a folder")),
        D::Exists { .. } => {
            (Exit::Usage, Some("name another output, or move what is there aside with --force"))
        }
        D::InTheWay { .. } => (Exit::Usage, Some("move it elsewhere, or name another output")),
        D::Locked { .. } => (Exit::Locked, Some("wait for it, or name another output")),
        D::Io { .. } => {
            (Exit::Failed, Some("see that it is there, may be read or written, and that there is room"))
        }
        _ => (Exit::Failed, None),
    }
}

fn in_archive(error: &archive::Error) -> (Exit, Option<&'static str>) {
    match error {
        archive::Error::Objects(e) => objects(e.kind()),
        archive::Error::Fenced { .. } | archive::Error::Contended { .. } => {
            (Exit::Locked, Some("another writer has taken over this source"))
        }
        archive::Error::TimelineLost { .. } => (
            Exit::Corrupt,
            Some("bring the object back from a copy; `pitr verify` tells what else is missing"),
        ),
        archive::Error::UnknownTimeline { .. } => (Exit::Usage, Some("`pitr info` lists the timelines")),
        archive::Error::Hole { .. } => (Exit::Unreachable, Some("`pitr info` lists what can be restored")),
        e if e.kind() == archive::Kind::Fatal => (Exit::Corrupt, None),
        _ => (Exit::Failed, None),
    }
}

fn in_recovery(error: &recovery::Error) -> (Exit, Option<&'static str>) {
    use recovery::Error as R;
    match error {
        R::Archive(e) => in_archive(e),
        R::Snapshot(e) => in_snapshot(e),
        R::Unreachable { .. } | R::NoBase { .. } => {
            (Exit::Unreachable, Some("`pitr info` lists what can be restored"))
        }
        R::Exists { .. } => {
            (Exit::Usage, Some("name another output, or move what is there aside with --force"))
        }
        R::Output { .. } => (Exit::Usage, Some("name a file")),
        R::Locked { .. } => (Exit::Locked, Some("wait for it, or name another output")),
        R::OtherShape { .. } => (Exit::Corrupt, None),
        R::Damaged(_) => (Exit::Corrupt, Some("`pitr info` lists what can still be restored")),
        R::Io { .. } => {
            (Exit::Failed, Some("see that the output's folder exists, can be written, and has room"))
        }
        _ => (Exit::Failed, None),
    }
}

fn in_sqlite(error: &sqlite::Error) -> (Exit, Option<&'static str>) {
    use sqlite::Error as S;
    match error {
        S::Archive(e) => in_archive(e),
        S::Objects(e) => objects(e.kind()),
        S::Snapshot(e) => in_snapshot(e),
        S::Chunks(e) => objects(e.kind()),
        S::Recovery(e) => in_recovery(e),
        S::Locked { .. } => (Exit::Locked, None),
        S::Wal(pitr::wal::Error::Locked { .. }) => (Exit::Locked, None),
        S::Wal(e) if e.kind() == pitr::wal::Kind::Fatal => (Exit::Corrupt, None),
        S::NotADatabase { .. }
        | S::NotWalMode { .. }
        | S::ForeignState { .. }
        | S::HardLinked { .. }
        | S::OtherPlace { .. }
        | S::OtherEngine { .. } => (Exit::Usage, None),
        S::Open { .. } => (Exit::Usage, Some("see that the path is right and can be read")),
        S::Exclusive { .. } => (Exit::Failed, None),
        _ => (Exit::Failed, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitr::snapshot::SnapshotId;

    #[test]
    fn a_snapshot_that_was_pruned_under_a_restore_is_no_damage() {
        let gone = || snapshot::Error::Gone { snapshot: SnapshotId([1; 16]) };
        for error in [
            pitr::Error::Recovery(recovery::Error::Snapshot(gone())),
            pitr::Error::Directory(pitr::directory::Error::Snapshot(gone())),
        ] {
            let (exit, next) = judge(&error);
            assert!(matches!(exit, Exit::Unreachable) && next.is_some_and(|next| next.contains("pruned")));
        }
    }
}
