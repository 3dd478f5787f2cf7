//! What kind of failure ended the program, as a word that scripts compare. `docs/exit-codes.md` explains each.

use serde::{Serialize, Serializer};

use super::Exit;

/// A kind of failure. The words never change; new ones may be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// None of the others.
    Failed,
    /// The command line makes no sense.
    Usage,
    /// The repository holds no source yet.
    NoSource,
    /// The repository has no source of this name.
    UnknownSource,
    /// The repository has several sources and none was named.
    WhichSource,
    /// The target can't be restored.
    UnreachableTarget,
    /// Something stands at the output.
    OutputExists,
    /// The folder that the output is to be in does not exist.
    OutputFolderMissing,
    /// The result does not fit.
    NoRoom,
    /// No repository is at the place.
    NotARepository,
    /// A repository is at the place already.
    RepositoryExists,
    /// The repository does not answer.
    RepositoryUnreachable,
    /// The repository has no room left.
    RepositoryFull,
    /// The operating system denies access to a file or folder.
    PermissionDenied,
    /// The passphrase or key is missing or wrong.
    WrongKey,
    /// What was read is not what was written.
    Corrupt,
    /// A later version of pitr wrote it.
    NewerFormat,
    /// The process was held up so long that what it relied on may be gone.
    LeaseLapsed,
    /// Another process works on the same thing.
    Locked,
    /// It works, but takes too long.
    TooLate,
}

impl Code {
    /// All of them, in the order of the documentation.
    #[cfg(test)]
    pub(crate) const ALL: [Code; 20] = [
        Code::Failed,
        Code::NoRoom,
        Code::PermissionDenied,
        Code::RepositoryUnreachable,
        Code::RepositoryFull,
        Code::NewerFormat,
        Code::LeaseLapsed,
        Code::Usage,
        Code::UnknownSource,
        Code::WhichSource,
        Code::OutputExists,
        Code::OutputFolderMissing,
        Code::NotARepository,
        Code::RepositoryExists,
        Code::WrongKey,
        Code::NoSource,
        Code::UnreachableTarget,
        Code::Corrupt,
        Code::Locked,
        Code::TooLate,
    ];

    /// The word.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Code::Failed => "failed",
            Code::Usage => "usage",
            Code::NoSource => "no-source",
            Code::UnknownSource => "unknown-source",
            Code::WhichSource => "which-source",
            Code::UnreachableTarget => "unreachable-target",
            Code::OutputExists => "output-exists",
            Code::OutputFolderMissing => "output-folder-missing",
            Code::NoRoom => "no-room",
            Code::NotARepository => "not-a-repository",
            Code::RepositoryExists => "repository-exists",
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

    /// The exit code that goes with it.
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
            | Code::WhichSource
            | Code::OutputExists
            | Code::OutputFolderMissing
            | Code::NotARepository
            | Code::RepositoryExists
            | Code::WrongKey => Exit::Usage,
            Code::NoSource | Code::UnreachableTarget => Exit::Unreachable,
            Code::Corrupt => Exit::Corrupt,
            Code::Locked => Exit::Locked,
            Code::TooLate => Exit::TooLate,
        }
    }
}

/// The kind of which nothing more is known than the exit code.
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
    fn the_page_lists_every_code_with_its_exit_code_and_no_other() {
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
