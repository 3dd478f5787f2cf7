//! Failure codes: stable words for scripts. `docs/exit-codes.md` explains each.

use serde::{Serialize, Serializer};

use super::Exit;

/// A kind of failure. The words never change; new ones may be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// A failure without a more specific code.
    Failed,
    /// The command line is invalid.
    Usage,
    /// The repository has no source yet.
    NoSource,
    /// The repository has no source of this name.
    UnknownSource,
    /// The source has no recovery point of this name.
    UnknownPoint,
    /// The name of a new recovery point is in use.
    PointExists,
    /// The repository has several sources and none was named.
    WhichSource,
    /// The target can't be restored.
    UnreachableTarget,
    /// The output exists.
    OutputExists,
    /// The output's folder does not exist.
    OutputFolderMissing,
    /// The output does not fit on its disk.
    NoRoom,
    /// There is no repository at this path.
    NotARepository,
    /// There is already a repository at this path.
    RepositoryExists,
    /// The bucket or the settings of a remote store are missing or wrong.
    StoreSetup,
    /// The repository does not answer.
    RepositoryUnreachable,
    /// The repository's disk is full.
    RepositoryFull,
    /// The operating system denies access to a file or folder.
    PermissionDenied,
    /// The passphrase or key is missing or wrong.
    WrongKey,
    /// Data is damaged or missing.
    Corrupt,
    /// Written by a newer version of pitr.
    NewerFormat,
    /// The process was paused so long that its lease expired.
    LeaseLapsed,
    /// Another process uses the same source or output.
    Locked,
    /// The restore takes longer than the RTO.
    TooLate,
}

impl Code {
    /// All codes, in the order of the documentation.
    #[cfg(test)]
    pub(crate) const ALL: [Code; 23] = [
        Code::Failed,
        Code::NoRoom,
        Code::PermissionDenied,
        Code::RepositoryUnreachable,
        Code::RepositoryFull,
        Code::NewerFormat,
        Code::LeaseLapsed,
        Code::Usage,
        Code::UnknownSource,
        Code::UnknownPoint,
        Code::WhichSource,
        Code::OutputExists,
        Code::OutputFolderMissing,
        Code::NotARepository,
        Code::RepositoryExists,
        Code::StoreSetup,
        Code::PointExists,
        Code::WrongKey,
        Code::NoSource,
        Code::UnreachableTarget,
        Code::Corrupt,
        Code::Locked,
        Code::TooLate,
    ];

    /// The code as a word.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Code::Failed => "failed",
            Code::Usage => "usage",
            Code::NoSource => "no-source",
            Code::UnknownSource => "unknown-source",
            Code::UnknownPoint => "unknown-point",
            Code::PointExists => "point-exists",
            Code::WhichSource => "which-source",
            Code::UnreachableTarget => "unreachable-target",
            Code::OutputExists => "output-exists",
            Code::OutputFolderMissing => "output-folder-missing",
            Code::NoRoom => "no-room",
            Code::NotARepository => "not-a-repository",
            Code::RepositoryExists => "repository-exists",
            Code::StoreSetup => "store-setup",
            Code::RepositoryUnreachable => "repository-unreachable",
            Code::RepositoryFull => "repository-full",
            Code::PermissionDenied => "permission-denied",
            Code::WrongKey => "wrong-key",
            Code::Corrupt => "corrupt",
            Code::NewerFormat => "newer-format",
            Code::LeaseLapsed => "lease-lapsed",
            Code::Locked => "locked",
            Code::TooLate => "too-late",
        }
    }

    /// The exit code of this failure.
    pub(crate) fn exit(self) -> Exit {
        match self {
            Code::Failed
            | Code::NoRoom
            | Code::PermissionDenied
            | Code::RepositoryUnreachable
            | Code::RepositoryFull
            | Code::NewerFormat
            | Code::LeaseLapsed => Exit::Failed,
            Code::Usage
            | Code::UnknownSource
            | Code::UnknownPoint
            | Code::PointExists
            | Code::WhichSource
            | Code::OutputExists
            | Code::OutputFolderMissing
            | Code::NotARepository
            | Code::RepositoryExists
            | Code::StoreSetup
            | Code::WrongKey => Exit::Usage,
            Code::NoSource | Code::UnreachableTarget => Exit::Unreachable,
            Code::Corrupt => Exit::Corrupt,
            Code::Locked => Exit::Locked,
            Code::TooLate => Exit::TooLate,
        }
    }
}

/// The general code of an exit code.
impl From<Exit> for Code {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Done | Exit::Failed => Code::Failed,
            Exit::Usage => Code::Usage,
            Exit::Unreachable => Code::UnreachableTarget,
            Exit::Corrupt => Code::Corrupt,
            Exit::Locked => Code::Locked,
            Exit::TooLate => Code::TooLate,
        }
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_lists_exactly_the_codes_with_their_exit_codes() {
        let page = include_str!("../../../docs/exit-codes.md");
        let table = page.split("| code |").nth(1).unwrap_or_default();
        let rows: Vec<(&str, &str)> = table
            .lines()
            .filter_map(|line| {
                let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
                Some((cells.next()?.trim_end_matches('`'), cells.next()?))
            })
            .collect();
        let ours = Code::ALL.map(|code| (code.as_str(), (code.exit() as u8).to_string()));
        assert_eq!(rows, ours.each_ref().map(|(code, exit)| (*code, exit.as_str())));
    }
}
