//! The paths of several sources in their output folder.
//!
//! Databases keep their paths below their common folder: `/srv/tenants/a.db` and
//! `/srv/tenants/eu/b.db` become `a.db` and `eu/b.db`. Databases of several hosts get a folder for
//! each host. A source without a known path (a folder, or a source of an earlier version) is
//! restored under its name. If two paths collide, all sources are restored under their names.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use pitr::archive::Origin;
use pitr::format::SourceName;
use pitr::recovery::is_inside;

use crate::failure::CliError;

/// A relative path for each source, in their order. `companions` are suffixes of files that belong
/// to a source.
pub(super) fn layout(
    sources: &[(SourceName, Option<Origin>)],
    companions: &[&str],
) -> Result<Vec<PathBuf>, CliError> {
    let paths = by_path(sources);
    if collision(&paths, companions).is_none() {
        return Ok(paths);
    }
    let names: Vec<_> = sources.iter().map(|(name, _)| PathBuf::from(name.as_str())).collect();
    match collision(&names, companions) {
        None => Ok(names),
        Some((a, b)) => Err(CliError::usage(format_args!(
            "the sources {} and {} can't be restored into one folder: their names collide",
            names[a].display(),
            names[b].display()
        ))
        .next("restore them one by one")),
    }
}

fn by_path(sources: &[(SourceName, Option<Origin>)]) -> Vec<PathBuf> {
    let mut common: BTreeMap<&str, &Path> = BTreeMap::new();
    for origin in sources.iter().filter_map(|(_, origin)| origin.as_ref()) {
        let parent = origin.resolved.parent().unwrap_or(Path::new(""));
        let folder = common.entry(&origin.host).or_insert(parent);
        *folder = shared_by(folder, parent);
    }
    let several_hosts = common.len() > 1;
    let path = |(name, origin): &(SourceName, Option<Origin>)| {
        let below = origin.as_ref().and_then(|origin| {
            let below = origin.resolved.strip_prefix(common.get(origin.host.as_str())?).ok()?;
            let host = several_hosts.then(|| SourceName::from_lossy(&origin.host)).flatten();
            Some(host.map_or(PathBuf::new(), |host| host.as_str().into()).join(below))
        });
        // A path from the repository must never lead out of the output folder.
        below.filter(|below| is_inside(below)).unwrap_or_else(|| name.as_str().into())
    };
    sources.iter().map(path).collect()
}

/// The deepest common folder.
fn shared_by<'a>(a: &'a Path, b: &Path) -> &'a Path {
    a.ancestors().find(|folder| b.starts_with(folder)).unwrap_or(Path::new(""))
}

/// Two colliding paths: equal, one inside the other, or one a companion file of the other. Case is
/// ignored: the output's file system may ignore it.
fn collision(paths: &[PathBuf], companions: &[&str]) -> Option<(usize, usize)> {
    let folded = |path: &Path| PathBuf::from(path.to_string_lossy().to_lowercase());
    let mut places: BTreeMap<PathBuf, usize> = BTreeMap::new();
    for (number, path) in paths.iter().enumerate() {
        if let Some(other) = places.insert(folded(path), number) {
            return Some((other, number));
        }
    }
    for (path, number) in &places {
        let companions = companions.iter().map(|suffix| {
            let mut name = OsString::from(path);
            name.push(suffix);
            PathBuf::from(name)
        });
        let mut taken = path.ancestors().skip(1).map(Path::to_owned).chain(companions);
        if let Some(other) = taken.find_map(|path| places.get(&path)) {
            return Some((*number, *other));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitr::format::Timestamp;
    use pitr::sqlite::restore::COMPANIONS;

    fn source(name: &str, host: &str, path: &str) -> (SourceName, Option<Origin>) {
        let origin = (!path.is_empty()).then(|| Origin {
            host: host.to_owned(),
            machine: None,
            given: path.into(),
            resolved: path.into(),
            stated: Timestamp::MIN,
        });
        (SourceName::new(name).unwrap(), origin)
    }

    fn laid_out(sources: &[(SourceName, Option<Origin>)]) -> Vec<String> {
        let paths = layout(sources, &COMPANIONS).unwrap();
        paths.iter().map(|path| path.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn databases_keep_their_paths_below_the_common_folder() {
        let [a, b] = [source("a", "h", "/srv/t/a.db"), source("eu.b", "h", "/srv/t/eu/b.db")];
        assert_eq!(laid_out(&[a.clone(), b.clone()]), ["a.db", "eu/b.db"]);
        assert_eq!(laid_out(std::slice::from_ref(&b)), ["b.db"]);
        assert_eq!(laid_out(&[a.clone(), source("pictures", "h", "")]), ["a.db", "pictures"]);
        let other = source("a2", "i", "/data/a.db");
        assert_eq!(laid_out(&[a.clone(), b, other]), ["h/a.db", "h/eu/b.db", "i/a.db"]);
        let far = source("far", "h", "/x.db");
        assert_eq!(laid_out(&[a, far]), ["srv/t/a.db", "x.db"]);
    }

    #[test]
    fn names_replace_colliding_paths_and_colliding_names_are_refused() {
        let a = source("a", "h", "/srv/a.db");
        for path in ["/srv/a.db", "/srv/A.db", "/srv/a.db-wal", "/srv/a.db/x"] {
            assert_eq!(laid_out(&[a.clone(), source("b", "h", path)]), ["a", "b"], "{path}");
        }
        for path in ["/srv/../../etc/passwd", "/srv/.."] {
            let found = laid_out(&[a.clone(), source("b", "h", path)]);
            assert!(found.iter().all(|path| !path.contains("..")), "{found:?}");
        }
        let unnamed = |names: &[&str]| {
            let sources: Vec<_> = names.iter().map(|name| source(name, "h", "")).collect();
            layout(&sources, &COMPANIONS).is_ok()
        };
        assert!(unnamed(&["a", "b", "a-b", "wal", "aa"]));
        for names in
            [&["a", "a"][..], &["App", "app"], &["a-wal", "a"], &["b", "a", "A-journal"], &["a", "a-shm"]]
        {
            assert!(!unnamed(names), "{names:?}");
        }
    }
}
