//! What can go wrong between us and the repository.

use crate::local::{RepositoryGone, StrayKind};
use object_store::Error as StoreError;
use pitr_codec::CodecError;
use pitr_format::Severity;
use pitr_vfs::NotAFile;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// This crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a request to the repository failed. Paths are those of objects within the repository.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no object at the path.
    #[error("{path}: there is no such object")]
    Missing {
        /// The object.
        path: String,
    },
    /// Another writer's object stands where ours was to be created.
    #[error("{path}: another writer's object already stands there")]
    Foreign {
        /// The object.
        path: String,
    },
    /// The object's bytes are not what they should be, or of a later version (see [`Error::kind`]).
    #[error("{path}: {source}")]
    Object {
        /// The object.
        path: String,
        /// What is wrong with it.
        source: CodecError,
    },
    /// The object ends before the range that was asked for.
    #[error("{path}: bytes up to {end} were asked for, the object has {len}")]
    Truncated {
        /// The object.
        path: String,
        /// End of the range, bytes.
        end: u64,
        /// Length of the object, bytes.
        len: u64,
    },
    /// An object or a range larger than any that this program writes.
    #[error("{path}: {bytes} bytes, the most is {most}")]
    TooLarge {
        /// The object.
        path: String,
        /// Its size.
        bytes: u64,
        /// The largest allowed.
        most: u64,
    },
    /// Something else stands where an object should be.
    #[error("{path}: {found}")]
    NotAnObject {
        /// The object.
        path: String,
        /// What it is.
        found: NotAFile,
    },
    /// A folder of the repository can't be listed: objects in it may look as if they were missing.
    #[error("{path}: {what}; objects that it holds can't be found")]
    Hidden {
        /// The folder, within the repository.
        path: String,
        /// Why.
        what: StrayKind,
    },
    /// A path that no object can have.
    #[error("{path:?} is not a path of an object")]
    Path {
        /// The path.
        path: String,
    },
    /// The repository is encrypted, and nobody has given a key.
    #[error("{place} is encrypted; give its passphrase or key file")]
    Locked {
        /// The folder or store.
        place: String,
    },
    /// A key was given for a repository that is not encrypted.
    #[error("{place} is not encrypted and has no use for a passphrase or key; is it the right repository?")]
    NotEncrypted {
        /// The folder or store.
        place: String,
    },
    /// The repository's keys can't be had, or not be made.
    #[error("{place}: {source}")]
    Keys {
        /// The folder or store.
        place: String,
        /// What is wrong.
        source: CodecError,
    },
    /// The only key slot was to be removed: nobody could open the repository any more.
    #[error("{slot} is the repository's only key slot; add another one first")]
    LastSlot {
        /// The slot.
        slot: String,
    },
    /// There is no such key slot.
    #[error("the repository has no key slot {slot}; `pitr key list` shows them")]
    NoSlot {
        /// The slot.
        slot: String,
    },
    /// A lease was not renewed in time, or taken away: objects that were relied on may be gone.
    #[error("{path}: the lease has lapsed, this process was held up for too long; nothing was published")]
    Lapsed {
        /// Path of the lease.
        path: String,
    },
    /// No repository object stands in the place.
    #[error("{place} is not a pitr repository; `pitr init` makes one")]
    NotARepository {
        /// The folder or store.
        place: String,
    },
    /// A repository stands in the place where one was to be made.
    #[error("{place} is already a pitr repository")]
    AlreadyARepository {
        /// The folder or store.
        place: String,
    },
    /// The store did not carry the request out; whether it will later is open.
    #[error("{path}: the repository did not answer")]
    Unreachable {
        /// The object or prefix.
        path: String,
        /// What the store said.
        source: Box<StoreError>,
    },
    /// The store refuses us.
    #[error("{path}: the repository denies access: {}", bottom(.source))]
    Denied {
        /// The object or prefix.
        path: String,
        /// What the store said.
        source: Box<StoreError>,
    },
    /// The store has no room left.
    #[error("{path}: the repository is full")]
    Full {
        /// The object.
        path: String,
        /// What the store said.
        source: Box<StoreError>,
    },
    /// The store can't do what a repository needs, as creating an object only if it is absent.
    #[error("{path}: this kind of store cannot do what a repository needs")]
    Unsupported {
        /// The object or prefix.
        path: String,
        /// What the store said.
        source: Box<StoreError>,
    },
    /// The repository's folder could not be opened, made or synced.
    #[error("{}: the repository's folder is not usable: {source}", path.display())]
    Folder {
        /// The file or folder on this machine.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The threads that carry requests out could not be started, or ended under a request.
    #[error("the threads for requests to the repository are not running")]
    Runtime {
        /// What the system said, if it was asked.
        source: Option<io::Error>,
    },
    /// The system gave no random bytes.
    #[error("the system gives no random bytes")]
    Random(#[source] getrandom::Error),
}

/// What an [`Error`](enum@Error) means to whoever meets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// It is not there.
    Missing,
    /// Another writer was first.
    Foreign,
    /// The bytes are not those that were written.
    Corrupt,
    /// A newer program wrote it.
    Newer,
    /// The place holds no repository.
    NotARepository,
    /// The place holds one already.
    AlreadyARepository,
    /// Trying again later may help.
    Unreachable,
    /// Access is denied.
    Denied,
    /// No room is left.
    Full,
    /// The store can't do it.
    Unsupported,
    /// More was asked for than formats allow, or for what can't be.
    Limit,
    /// This machine failed, not the repository.
    Machine,
    /// A key is missing or not the right one.
    Key,
    /// A lease has lapsed: what was begun must be begun again.
    Lapsed,
}

impl ErrorKind {
    /// What a caller can do about such an error.
    #[must_use]
    pub fn severity(self) -> Severity {
        match self {
            ErrorKind::Unreachable => Severity::Retry,
            ErrorKind::Corrupt | ErrorKind::Missing => Severity::Fatal,
            _ => Severity::Fix,
        }
    }

    /// True for what is wrong with one object, not with the repository or this machine.
    #[must_use]
    pub fn is_of_one_object(self) -> bool {
        matches!(self, ErrorKind::Corrupt | ErrorKind::Missing | ErrorKind::Newer)
    }
}

impl Error {
    /// What the error means.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Missing { .. } => ErrorKind::Missing,
            Error::Foreign { .. } => ErrorKind::Foreign,
            Error::Object { source, .. } => match source.kind() {
                pitr_codec::ErrorKind::Newer => ErrorKind::Newer,
                pitr_codec::ErrorKind::Limit => ErrorKind::Limit,
                pitr_codec::ErrorKind::Machine => ErrorKind::Machine,
                pitr_codec::ErrorKind::Key => ErrorKind::Key,
                _ => ErrorKind::Corrupt,
            },
            Error::Truncated { .. } | Error::NotAnObject { .. } => ErrorKind::Corrupt,
            Error::Hidden { what: StrayKind::Unreadable(error), .. }
                if error.kind() == io::ErrorKind::PermissionDenied =>
            {
                ErrorKind::Denied
            }
            Error::Hidden { .. } => ErrorKind::Unreachable,
            Error::Locked { .. } | Error::NotEncrypted { .. } | Error::Keys { .. } => ErrorKind::Key,
            Error::LastSlot { .. } | Error::NoSlot { .. } => ErrorKind::Limit,
            Error::TooLarge { .. } | Error::Path { .. } => ErrorKind::Limit,
            Error::NotARepository { .. } => ErrorKind::NotARepository,
            Error::AlreadyARepository { .. } => ErrorKind::AlreadyARepository,
            Error::Folder { source, .. } if is_denied(source.kind()) => ErrorKind::Denied,
            Error::Unreachable { .. } | Error::Folder { .. } => ErrorKind::Unreachable,
            Error::Lapsed { .. } => ErrorKind::Lapsed,
            Error::Denied { .. } => ErrorKind::Denied,
            Error::Full { .. } => ErrorKind::Full,
            Error::Unsupported { .. } => ErrorKind::Unsupported,
            Error::Runtime { .. } | Error::Random(_) => ErrorKind::Machine,
        }
    }

    /// The store's answer to a request for `path`.
    pub(crate) fn from_store(path: &str, source: StoreError) -> Self {
        let path = path.to_owned();
        if let Some(found) = find::<NotAFile>(&source) {
            return Error::NotAnObject { path, found: *found };
        }
        if let Some(gone) = find::<RepositoryGone>(&source) {
            return Error::NotARepository { place: gone.place.clone() };
        }
        let io = find::<io::Error>(&source).map(io::Error::kind);
        match source {
            StoreError::NotFound { .. } => Error::Missing { path },
            StoreError::InvalidPath { .. } => Error::Path { path },
            StoreError::NotSupported { .. } | StoreError::NotImplemented { .. } => {
                Error::Unsupported { path, source: source.into() }
            }
            StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => {
                Error::Denied { path, source: source.into() }
            }
            _ => match io {
                Some(kind) if is_denied(kind) => Error::Denied { path, source: source.into() },
                Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
                    Error::Full { path, source: source.into() }
                }
                _ => Error::Unreachable { path, source: source.into() },
            },
        }
    }
}

/// What the system said, if it was asked, or else the store: local folders hide the system's answer.
fn bottom(error: &StoreError) -> String {
    let mut last: &(dyn std::error::Error + 'static) = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last.to_string()
}

fn is_denied(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

/// The first of an error and its sources that is a `T`.
fn find<T: std::error::Error + 'static>(error: &StoreError) -> Option<&T> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}
