//! The repository object, which makes a folder or a bucket a repository.

use crate::layout::REPOSITORY;
use crate::store::Origin;
use crate::{Error, Objects, Result};
use pitr_codec::{Codec, CodecError, ObjectBuilder, ObjectKind};
use pitr_format::bytes::{Put, Reader};
use pitr_format::{DecodeError, Timestamp};
use std::sync::atomic::Ordering;

/// Content of the repository object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repository {
    /// Random identity.
    pub id: [u8; 16],
    /// Time of creation.
    pub created: Timestamp,
    /// True if the objects are encrypted.
    pub encrypted: bool,
}

impl Repository {
    fn to_bytes(self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put(&self.id);
        out.put_i64(self.created.micros());
        out.put_u8(u8::from(self.encrypted));
        out
    }

    fn read(bytes: &[u8]) -> std::result::Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let id = reader.array("repository id")?;
        let created = Timestamp::from_micros(reader.i64("repository created")?);
        let encrypted = match reader.u8("repository encrypted")? {
            0 => false,
            1 => true,
            other => {
                return Err(DecodeError::Range { what: "repository encrypted", value: u64::from(other) });
            }
        };
        reader.finish("repository object")?;
        Ok(Repository { id, created, encrypted })
    }
}

impl Objects {
    /// Creates a repository.
    ///
    /// # Errors
    /// [`Error::AlreadyARepository`]; [`Error::Setup`] if the store does not enforce create-only
    /// puts; errors of the store.
    pub fn init_repository(&self, created: Timestamp) -> Result<Repository> {
        let repository = Repository { id: self.random_bytes()?, created, encrypted: false };
        self.put_repository(&repository)?;
        Ok(repository)
    }

    pub(crate) fn put_repository(&self, repository: &Repository) -> Result<()> {
        let builder = ObjectBuilder::new(ObjectKind::Repository, self.owner(), Codec::None);
        let bytes = builder
            .finish(&repository.to_bytes())
            .map_err(|source| Error::Object { path: REPOSITORY.to_owned(), source })?;
        self.prove_new_store()?;
        match self.put_container(REPOSITORY, ObjectKind::Repository, bytes) {
            Err(Error::Foreign { .. }) => Err(Error::AlreadyARepository { place: self.place().to_owned() }),
            Err(error) => Err(error),
            Ok(_) => {
                self.saw(repository);
                Ok(())
            }
        }
    }

    /// A store that enforces nothing is refused before anything depends on it.
    fn prove_new_store(&self) -> Result<()> {
        if self.inner.origin == Origin::Own { Ok(()) } else { self.probe() }
    }

    fn saw(&self, repository: &Repository) {
        self.inner.seen.store(true, Ordering::Relaxed);
        self.inner.is_encrypted.store(repository.encrypted, Ordering::Relaxed);
    }

    /// Opens the repository. An encrypted one must then be [unlocked](Self::unlock).
    ///
    /// # Errors
    /// [`Error::NotARepository`]; an error of kind [`ErrorKind::Newer`](crate::ErrorKind::Newer) if
    /// a later version created it; errors of the store.
    pub fn open_repository(&self) -> Result<Repository> {
        let footer = match self.get_footer(REPOSITORY, ObjectKind::Repository) {
            Err(Error::Missing { .. }) => {
                return Err(Error::NotARepository { place: self.place().to_owned() });
            }
            other => other?,
        };
        let repository = Repository::read(&footer).map_err(|source| {
            let source = CodecError::Malformed(source);
            Error::Object { path: REPOSITORY.to_owned(), source }
        })?;
        self.saw(&repository);
        Ok(repository)
    }
}
