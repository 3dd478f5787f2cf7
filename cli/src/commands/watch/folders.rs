//! Finds the databases in watched folders.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pitr::Pitr;
use pitr::engine::{Capture, LiveSource, SourceSearch};
use pitr::format::SourceName;

use super::args::Watch;
use crate::args::Global;
use crate::failure::explain::explain;
use crate::failure::{CliError, Exit};
use crate::output::Output;

/// Search of all watched folders.
pub(crate) struct Searching<'a> {
    capture: &'a dyn Capture,
    folders: Vec<(PathBuf, Box<dyn SourceSearch>)>,
    state: Option<PathBuf>,
    output: Output,
    /// The database of each source name.
    names: BTreeMap<SourceName, PathBuf>,
    /// Folders that could not be read in the last search.
    unreadable: Vec<PathBuf>,
}

impl<'a> Searching<'a> {
    /// Searches `folders` for databases other than `named`.
    pub(crate) fn new(
        global: &Global,
        args: &Watch,
        capture: &'a dyn Capture,
        folders: Vec<PathBuf>,
        named: &[LiveSource],
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
            let mut search = capture.search(&folder, Box::new(matches));
            for live in named.iter().filter(|live| live.place.resolved.exists()) {
                search.mark_known(&live.place.resolved).map_err(failed)?;
            }
            searches.push((folder, search));
        }
        let (state, output) = (args.state.clone(), global.output());
        let names = named.iter().map(|live| (live.source.clone(), live.place.resolved.clone())).collect();
        Ok(Searching { capture, folders: searches, state, output, names, unreadable: Vec::new() })
    }

    /// The databases found since the last call. Databases and folders that can't be watched are
    /// reported, and the search continues.
    pub(crate) fn next_found(&mut self) -> Vec<LiveSource> {
        let mut sources = Vec::new();
        for (folder, search) in &mut self.folders {
            match search.next_found() {
                Ok(found) => {
                    self.unreadable.retain(|other| other != folder);
                    for relative in found {
                        match live(self.capture, folder, &relative, self.state.as_deref(), &mut self.names) {
                            Ok(live) => sources.push(live),
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
        sources
    }
}

/// Matches a pattern without a slash against the file's name, and any other against the path.
fn matches(pattern: &glob::Pattern, path: &Path) -> bool {
    match path.file_name() {
        Some(name) if !pattern.as_str().contains('/') => pattern.matches_path(Path::new(name)),
        _ => pattern.matches_path(path),
    }
}

fn live(
    capture: &dyn Capture,
    folder: &Path,
    relative: &Path,
    state: Option<&Path>,
    names: &mut BTreeMap<SourceName, PathBuf>,
) -> Result<LiveSource, CliError> {
    let source = Pitr::source_below(relative).map_err(explain)?;
    let place = capture.locate(&folder.join(relative)).map_err(|e| explain(e.into()))?;
    let database = &place.resolved;
    let owner = names.entry(source.clone()).or_insert_with(|| database.to_owned());
    if owner != database {
        let what = format_args!("its source name would be {source}, which belongs to {}", owner.display())
            .to_string();
        return Err(CliError::usage(what).next("watch it with a separate command and --source"));
    }
    let state = state.map(|dir| dir.join(source.as_str()));
    Ok(capture.source(&place, source, state))
}
