//! Where an archive is: a local folder, or a bucket of a server behind a proxy.

use crate::Result;
use crate::world::World;
use pitr_testkit::proxy::{Counts, Faults, Proxy};
use pitr_testkit::servers::{Kind, Server, Stored};
use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The place of an archive. It is listed past the proxy.
pub(super) enum Place {
    Local(PathBuf),
    S3(Box<Bucket>),
}

pub(super) struct Bucket {
    name: String,
    // Dropped before the server.
    proxy: Proxy,
    server: Server,
}

impl Place {
    /// An empty folder.
    pub(super) fn local(world: &World) -> Result<Place> {
        let folder = world.path("store");
        fs::create_dir(&folder)?;
        Ok(Place::Local(folder))
    }

    /// An empty bucket of a new SeaweedFS.
    pub(super) fn s3(world: &World, name: &str) -> Result<Place> {
        let server = Server::start(Kind::SeaweedFs, &world.path("server"))?;
        server.bucket(name)?;
        let proxy = Proxy::start(server.address(), Faults::none(1))?;
        Ok(Place::S3(Box::new(Bucket { name: name.to_owned(), proxy, server })))
    }

    pub(super) fn name(&self) -> String {
        match self {
            Place::Local(_) => "local disk".to_owned(),
            Place::S3(bucket) => format!("S3: {}", bucket.server.version()),
        }
    }

    /// Objects whose names begin with `prefix` and sort after `after`, ascending.
    pub(super) fn list(&self, prefix: &str, after: &str) -> std::result::Result<Vec<Stored>, String> {
        match self {
            Place::S3(bucket) => bucket.server.list(&bucket.name, prefix, after),
            Place::Local(folder) => {
                let mut files = Vec::new();
                walk(folder, "", &mut files).map_err(|error| format!("{}: {error}", folder.display()))?;
                files.retain(|file| file.key.starts_with(prefix) && file.key.as_str() > after);
                files.sort_by(|a, b| a.key.cmp(&b.key));
                Ok(files)
            }
        }
    }

    /// Size of everything in the store, bytes.
    pub(super) fn bytes(&self) -> Result<u64> {
        Ok(self.list("", "")?.iter().map(|stored| stored.bytes).sum())
    }

    /// Requests so far; `None` if nothing counts them.
    pub(super) fn counts(&self) -> Option<Counts> {
        match self {
            Place::Local(_) => None,
            Place::S3(bucket) => Some(bucket.proxy.counts()),
        }
    }
}

impl Bucket {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The address of the proxy, or of the server itself.
    pub(super) fn address(&self, is_counted: bool) -> SocketAddr {
        if is_counted { self.proxy.address() } else { self.server.address() }
    }

    /// The environment of a program that uses the bucket, through the proxy or past it.
    pub(super) fn environment(&self, is_counted: bool) -> Vec<(String, String)> {
        self.server.environment_at(self.address(is_counted))
    }
}

/// The files below a folder. Those that vanish do not count.
fn walk(folder: &Path, prefix: &str, files: &mut Vec<Stored>) -> std::io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let key = format!("{prefix}{}", entry.file_name().to_string_lossy());
        match entry.metadata() {
            Ok(meta) if meta.is_dir() => walk(&entry.path(), &format!("{key}/"), files)?,
            Ok(meta) => files.push(Stored { key, bytes: meta.len() }),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_listed_as_a_bucket_is() {
        let world = World::new("place-test").unwrap();
        let place = Place::local(&world).unwrap();
        let Place::Local(folder) = &place else { panic!("not local") };
        fs::create_dir_all(folder.join("a/b")).unwrap();
        for (name, text) in [("a/b/2", "xx"), ("a/b/1", "x"), ("c", "xxx")] {
            fs::write(folder.join(name), text).unwrap();
        }
        let keys = |prefix: &str, after: &str| -> Vec<String> {
            place.list(prefix, after).unwrap().into_iter().map(|stored| stored.key).collect()
        };
        assert_eq!(keys("", ""), ["a/b/1", "a/b/2", "c"]);
        assert_eq!(keys("a/", "a/b/1"), ["a/b/2"]);
        assert_eq!(place.bytes().unwrap(), 6);
        assert!(place.counts().is_none());
    }
}
