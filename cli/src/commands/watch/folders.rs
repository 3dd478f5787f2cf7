//! Finds the databases in watched folders.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pitr::Pitr;
use pitr::format::SourceName;
use pitr::sqlite::place::Place;
use pitr::sqlite::watch::WatchSource;
use pitr::sqlite::watch::folder::FolderSearch;

use super::args::Watch;
use crate::args::Global;
use crate::failure::explain::explain;
use crate::failure::{CliError, Exit};
use crate::output::Output;

/// Search of all watched folders.
pub(crate) struct Searching {
    folders: Vec<(PathBuf, FolderSearch)>,
    state: Option<PathBuf>,
    output: Output,
    /// The database of each source name.
    names: BTreeMap<SourceName, PathBuf>,
    /// Folders that could not be read in the last search.
    unreadable: Vec<PathBuf>,
}

impl Searching {
    /// Searches `folders` for databases other than `named`.
    pub(crate) fn new(
        global: &Global,
        args: &Watch,
        folders: Vec<PathBuf>,
        named: &[WatchSource],
    ) -> Result<Self, CliError> {
        if folders.is_empty() && args.pattern.is_some() {
            return Err(CliError::usage("--match needs a folder, and none is given"));
        }
        let mut searches = Vec::new();
        for folder in folders {
            let failed = |e| CliError::new(Exit::Usage, e).at(folder.display());
            let folder = folder.canonicalize().map_err(failed)?;
            let pattern = args.pattern.clone();
            let matches = move |path: &Path| pattern.as_ref().is_none_or(|pattern| matches(pattern, path));
            let mut search = FolderSearch::new(folder.clone(), Box::new(matches));
            for watched in named.iter().filter(|watched| watched.database.exists()) {
                search.mark_known(&watched.database).map_err(failed)?;
            }
            searches.push((folder, search));
        }
        let (state, output) = (args.state.clone(), global.output());
        let names = named.iter().map(|watched| (watched.source.clone(), watched.database.clone())).collect();
        Ok(Searching { folders: searches, state, output, names, unreadable: Vec::new() })
    }

    /// The databases found since the last call. Reports databases and folders that can't be
    /// watched, and continues.
    pub(crate) fn next_found(&mut self) -> Vec<WatchSource> {
        let mut watch_sources = Vec::new();
        for (folder, search) in &mut self.folders {
            match search.next_found() {
                Ok(found) => {
                    self.unreadable.retain(|other| other != folder);
                    for relative in found {
                        match watched(folder, &relative, self.state.as_deref(), &mut self.names) {
                            Ok(watched) => watch_sources.push(watched),
                            Err(e) => {
                                self.output.remark(format_args!("NOT WATCHED: {}: {e}", relative.display()))
                            }
                        }
                    }
                }
                Err(e) if !self.unreadable.contains(folder) => {
                    self.output.remark(format_args!("{}: {e}; retrying", folder.display()));
                    self.unreadable.push(folder.clone());
                }
                Err(_) => {}
            }
        }
        watch_sources
    }
}

/// Matches a pattern without a slash against the file's name, and any other against the path.
fn matches(pattern: &glob::Pattern, path: &Path) -> bool {
    match path.file_name() {
        Some(name) if !pattern.as_str().contains('/') => pattern.matches_path(Path::new(name)),
        _ => pattern.matches_path(path),
    }
}

fn watched(
    folder: &Path,
    relative: &Path,
    state: Option<&Path>,
    names: &mut BTreeMap<SourceName, PathBuf>,
) -> Result<WatchSource, CliError> {
    let source = Pitr::source_below(relative).map_err(explain)?;
    let place = Place::resolve(&folder.join(relative)).map_err(|e| explain(e.into()))?;
    let database = place.resolved();
    let owner = names.entry(source.clone()).or_insert_with(|| database.to_owned());
    if owner.as_path() != database {
        let what = format_args!("its source name would be {source}, which belongs to {}", owner.display())
            .to_string();
        return Err(CliError::usage(what).next("watch it with a separate command and --source"));
    }
    let state = state.map(|dir| dir.join(source.as_str()));
    Ok(WatchSource::new(&place, source, state))
}
