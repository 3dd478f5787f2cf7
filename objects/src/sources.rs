//! The sources of a repository. The folder of a source has the source's name. In an encrypted
//! repository it has a keyed hash of the name, and an encrypted object in the folder has the name.

use crate::layout::{ObjectName, SOURCES, SourceFolder, SourceObject};
use crate::{Error, Listing, Objects, Result, Stray};
use pitr_codec::{Codec, CodecError, ObjectKind};
use pitr_format::{DecodeError, SourceName};

/// The sources of a repository.
#[derive(Debug)]
pub struct Sources {
    /// Names of the readable sources, sorted.
    pub names: Vec<SourceName>,
    /// One error for each source that can't be read.
    pub unreadable: Vec<Error>,
}

impl Objects {
    /// The folder of a source.
    #[must_use]
    pub fn source_folder(&self, source: &SourceName) -> SourceFolder {
        match self.keys() {
            None => SourceFolder::in_clear(source),
            Some(keys) => SourceFolder::hidden(&keys.folder_of(source.as_str())),
        }
    }

    /// The names of the sources, sorted.
    ///
    /// # Errors
    /// [`Error::Object`] for an unreadable name; errors of the store.
    pub fn sources(&self) -> Result<Vec<SourceName>> {
        let Sources { names, unreadable } = self.readable_sources()?;
        unreadable.into_iter().next().map_or(Ok(names), Err)
    }

    /// The sources, and an error for each one that can't be read. For readers: an unreadable source
    /// never blocks the others.
    ///
    /// # Errors
    /// Errors of the store.
    pub fn readable_sources(&self) -> Result<Sources> {
        let Listing { entries, strays } = self.listing(SOURCES)?;
        let hidden = strays.into_iter().filter(|stray| stray.may_hide_objects);
        let unreadable = hidden.map(|Stray { path, what, .. }| Error::Hidden { path, what }).collect();
        let mut sources = Sources { names: Vec::new(), unreadable };
        let objects = entries.iter().filter_map(|entry| match ObjectName::parse(&entry.path)? {
            ObjectName::Source(folder, object) => Some((folder, object)),
            _ => None,
        });
        if self.keys().is_none() {
            let of_history = objects.filter(|(_, object)| object.is_history());
            sources.names = of_history.filter_map(|(folder, _)| folder.name()).collect();
            sources.names.dedup();
            return Ok(sources);
        }
        for (folder, _) in objects.filter(|(_, object)| *object == SourceObject::Name) {
            match self.read_name(&folder.path(&SourceObject::Name)) {
                Ok(name) => sources.names.push(name),
                Err(error) if error.kind().is_of_one_object() => sources.unreadable.push(error),
                Err(error) => return Err(error),
            }
        }
        sources.names.sort();
        Ok(sources)
    }

    fn read_name(&self, path: &str) -> Result<SourceName> {
        let footer = self.get_footer(path, ObjectKind::Source)?;
        let name = std::str::from_utf8(&footer).ok().and_then(|name| SourceName::new(name).ok());
        let bad = DecodeError::Range { what: "name of a source", value: footer.len() as u64 };
        name.ok_or_else(|| Error::Object { path: path.to_owned(), source: CodecError::Malformed(bad) })
    }

    /// Stores the name of a source, before anything else of it. Sends no request if folders have
    /// the sources' names.
    ///
    /// # Errors
    /// Errors of the store.
    pub fn register_source(&self, source: &SourceName) -> Result<()> {
        if self.keys().is_none() {
            return Ok(());
        }
        let path = self.source_folder(source).path(&SourceObject::Name);
        if self.exists(&path)? {
            return Ok(());
        }
        let bad = |source| Error::Object { path: path.clone(), source };
        let builder = self.builder(&path, ObjectKind::Source, Codec::None)?;
        let bytes = builder.finish(source.as_str().as_bytes()).map_err(bad)?;
        match self.put_container(&path, ObjectKind::Source, bytes) {
            // Another process has stored the name.
            Ok(_) | Err(Error::Foreign { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
