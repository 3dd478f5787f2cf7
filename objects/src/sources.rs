//! The sources of a repository. Each has a folder: of its name, or, in an encrypted repository, of a keyed hash of it, with
//! the name in an encrypted object inside.

use crate::{Error, Objects, Result};
use pitr_codec::{Codec, CodecError, ObjectKind};
use pitr_format::{DecodeError, SourceName};

impl Objects {
    /// The folder of a source.
    #[must_use]
    pub fn source_folder(&self, source: &SourceName) -> String {
        match self.keys() {
            None => format!("sources/{source}"),
            Some(keys) => format!("sources/{}", keys.hidden(source.as_str())),
        }
    }

    /// The sources that the repository holds, by name.
    ///
    /// # Errors
    /// Those of the store; [`Error::Object`] about a name that can't be read.
    pub fn sources(&self) -> Result<Vec<SourceName>> {
        let entries = self.list("sources")?;
        let mut folders: Vec<&str> =
            entries.iter().filter_map(|entry| entry.path.split('/').nth(1)).collect();
        folders.dedup();
        if self.keys().is_none() {
            return Ok(folders.into_iter().filter_map(|folder| SourceName::new(folder).ok()).collect());
        }
        let mut names = folders
            .into_iter()
            .map(|folder| format!("sources/{folder}/name"))
            .filter(|path| entries.iter().any(|entry| entry.path == *path))
            .map(|path| self.read_name(&path))
            .collect::<Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }

    fn read_name(&self, path: &str) -> Result<SourceName> {
        let footer = self.get_footer(path, ObjectKind::Source)?;
        let name = std::str::from_utf8(&footer).ok().and_then(|name| SourceName::new(name).ok());
        let bad = DecodeError::Range { what: "name of a source", value: footer.len() as u64 };
        name.ok_or_else(|| Error::Object { path: path.to_owned(), source: CodecError::Malformed(bad) })
    }

    /// Makes a source known, before anything of it is written. Costs nothing where folders bear names.
    ///
    /// # Errors
    /// Those of the store.
    pub fn register_source(&self, source: &SourceName) -> Result<()> {
        if self.keys().is_none() {
            return Ok(());
        }
        let path = self.source_folder(source) + "/name";
        if self.exists(&path)? {
            return Ok(());
        }
        let bad = |source| Error::Object { path: path.clone(), source };
        let builder = self.builder(&path, ObjectKind::Source, Codec::None)?;
        let bytes = builder.finish(source.as_str().as_bytes()).map_err(bad)?;
        match self.put_container(&path, ObjectKind::Source, bytes) {
            // Another process was faster.
            Ok(_) | Err(Error::Foreign { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
