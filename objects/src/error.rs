//! Errors of requests to the repository.

use crate::SetupError;
use crate::local::{RepositoryGone, StrayKind};
use object_store::Error as StoreError;
use pitr_codec::CodecError;
use pitr_format::Severity;
use pitr_vfs::{NotAFile, is_denied};
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// The result type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a request to the repository failed. Paths are within the repository.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no object at the path.
    #[error("{path}: there is no such object")]
    Missing {
        /// The object.
        path: String,
    },
    /// Another writer's object has the name of an object that was to be created.
    #[error("{path}: another writer has created this object")]
    Foreign {
        /// The object.
        path: String,
    },
    /// The object is damaged, or of a later version (see [`Error::kind`]).
    #[error("{path}: {source}")]
    Object {
        /// The object.
        path: String,
        /// The fault.
        source: CodecError,
    },
    /// The object ends before the requested range.
    #[error("{path}: bytes up to {end} were requested, the object has {len}")]
    Truncated {
        /// The object.
        path: String,
        /// End of the range, bytes.
        end: u64,
        /// Length of the object, bytes.
        len: u64,
    },
    /// An object or a range exceeds the limit for objects.
    #[error("{path}: {bytes} bytes, the limit is {most}")]
    TooLarge {
        /// The object.
        path: String,
        /// Size that was requested or found, bytes.
        bytes: u64,
        /// The limit.
        most: u64,
    },
    /// The name of an object leads to an entry of another kind.
    #[error("{path}: {found}")]
    NotAnObject {
        /// The object.
        path: String,
        /// The kind of that entry.
        found: NotAFile,
    },
    /// A folder of the repository can't be listed, so its objects would look missing.
    #[error("{path}: {what}; the objects in it can't be found")]
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
    /// The repository is encrypted, and no key was given.
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
    /// The repository's keys can't be read or created.
    #[error("{place}: {source}")]
    Keys {
        /// The folder or store.
        place: String,
        /// The fault.
        source: CodecError,
    },
    /// The only key slot can't be removed: nobody could open the repository any more.
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
    /// A lease was not renewed in time, or was deleted. Objects that this process relied on may no
    /// longer exist.
    #[error("{path}: the lease has lapsed because this process was paused too long; nothing was published")]
    Lapsed {
        /// Path of the lease.
        path: String,
    },
    /// The place has no repository object.
    #[error("{place} is not a pitr repository; `pitr init` creates one")]
    NotARepository {
        /// The folder or store.
        place: String,
    },
    /// The place already has a repository.
    #[error("{place} is already a pitr repository")]
    AlreadyARepository {
        /// The folder or store.
        place: String,
    },
    /// The store did not carry out the request. It may carry out a later one.
    #[error("{path}: the repository did not serve the request: {}", bottom(.source))]
    Unreachable {
        /// The object or prefix.
        path: String,
        /// The store's error.
        source: Box<StoreError>,
    },
    /// The store denies access.
    #[error("{path}: the repository denies access: {}", bottom(.source))]
    Denied {
        /// The object or prefix.
        path: String,
        /// The store's error.
        source: Box<StoreError>,
    },
    /// The store is full.
    #[error("{path}: the repository is full")]
    Full {
        /// The object.
        path: String,
        /// The store's error.
        source: Box<StoreError>,
    },
    /// The remote store can't be used as it is configured.
    #[error("{place}: {source}")]
    Setup {
        /// The bucket.
        place: String,
        /// What is wrong, and what to set.
        source: SetupError,
    },
    /// The store lacks an operation that a repository needs, such as create-only puts.
    #[error("{path}: this kind of store cannot do what a repository needs")]
    Unsupported {
        /// The object or prefix.
        path: String,
        /// The store's error.
        source: Box<StoreError>,
    },
    /// The repository's folder could not be opened, created or synced.
    #[error("{}: the repository's folder is not usable: {source}", path.display())]
    Folder {
        /// The file or folder on this machine.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The threads for requests could not be started, or ended during a request.
    #[error("the threads for requests to the repository are not running")]
    Runtime {
        /// The system's error, if there is one.
        source: Option<io::Error>,
    },
    /// The system returned no random bytes.
    #[error("the system returned no random bytes")]
    Random(#[source] io::Error),
}

/// The meaning of an [`Error`](enum@Error).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The object does not exist.
    Missing,
    /// Another writer has created the object.
    Foreign,
    /// The bytes are damaged.
    Corrupt,
    /// A newer program wrote the object.
    Newer,
    /// The place has no repository.
    NotARepository,
    /// The place already has a repository.
    AlreadyARepository,
    /// Another attempt later may help.
    Unreachable,
    /// Access is denied.
    Denied,
    /// No space is left.
    Full,
    /// The store lacks the operation.
    Unsupported,
    /// The request exceeds a limit of the formats, or is impossible.
    Limit,
    /// The fault is in this machine, not in the repository.
    Machine,
    /// A key is missing or not the right one.
    Key,
    /// A lease has lapsed: the operation must start again.
    Lapsed,
    /// A setting of the store is missing or wrong.
    Setup,
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

    /// True for a fault of one object, and not of the repository or this machine.
    #[must_use]
    pub fn is_of_one_object(self) -> bool {
        matches!(self, ErrorKind::Corrupt | ErrorKind::Missing | ErrorKind::Newer)
    }
}

impl Error {
    /// The kind of the error.
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
            Error::Setup { source: SetupError::NotCreateOnly, .. } => ErrorKind::Unsupported,
            Error::Setup { .. } => ErrorKind::Setup,
            Error::Unsupported { .. } => ErrorKind::Unsupported,
            Error::Runtime { .. } | Error::Random(_) => ErrorKind::Machine,
        }
    }

    /// The object that the error is about, if it is about one.
    #[must_use]
    pub fn object(&self) -> Option<&str> {
        match self {
            Error::Missing { path }
            | Error::Object { path, .. }
            | Error::Truncated { path, .. }
            | Error::TooLarge { path, .. }
            | Error::NotAnObject { path, .. } => Some(path),
            _ => None,
        }
    }

    /// The innermost message, for a log.
    pub(crate) fn cause(&self) -> String {
        match self {
            Error::Unreachable { source, .. } => bottom(source),
            other => other.to_string(),
        }
    }

    /// True if a server gave no answer at all, so that the next request has little hope.
    pub(crate) fn is_silence(&self) -> bool {
        #[cfg(feature = "remote")]
        if let Error::Unreachable { source, .. } = self {
            return find::<object_store::client::HttpError>(source).is_some();
        }
        false
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
        #[cfg(feature = "remote")]
        if find::<crate::remote::Refused>(&source).is_some() {
            return Error::Denied { path, source: source.into() };
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

/// The message of the innermost error: stores wrap the system's.
pub(crate) fn bottom(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last.to_string()
}

/// The first of an error and its sources that has the type `T`.
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
