//! The files that are checked, and which of their lines are tests or comments.

use std::fs;
use std::path::Path;

use crate::Result;

/// Folders without files to check.
const SKIPPED: [&str; 4] = ["target", ".git", "results", "corpus"];

/// A file of the workspace.
#[derive(Debug)]
pub(super) struct Source {
    /// Relative to the workspace, with `/`.
    pub(super) path: String,
    pub(super) text: String,
}

impl Source {
    pub(super) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// The crate's folder, such as `engines/sqlite`.
    pub(super) fn folder(&self) -> &str {
        let end = self.path.find("/src/").or_else(|| self.path.find("/tests/"));
        end.map_or("", |end| &self.path[..end])
    }

    /// True for the code of a published crate, except its tests.
    pub(super) fn is_published(&self) -> bool {
        let is_tool = ["xtask", "testkit", "simulation", "fuzz", "benches/peers"].contains(&self.folder());
        self.is_rust() && self.path.contains("/src/") && !is_tool && !self.is_test_file()
    }

    /// True if the whole file consists of tests.
    pub(super) fn is_test_file(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        self.path.contains("/tests/")
            || self.path.contains("/benches/")
            || name == "tests.rs"
            || name.ends_with("_tests.rs")
            || name == "models.rs"
    }

    /// The file's lines, numbered from 1, up to a `#[cfg(test)]` module at its end.
    pub(super) fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let own = |(_, line): &(usize, &str)| *line != "#[cfg(test)]";
        self.lines().take_while(own)
    }

    /// The file's lines, numbered from 1.
    pub(super) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(number, line)| (number + 1, line))
    }
}

/// The comment in a line of Rust, with its slashes.
pub(super) fn comment(line: &str) -> Option<&str> {
    let start = line.trim_start();
    if start.starts_with("//") {
        return Some(start);
    }
    // A `//` in a string comes after an odd number of quotes.
    let at = line.find(" // ")?;
    line[..at].matches('"').count().is_multiple_of(2).then(|| &line[at + 1..])
}

/// All files of Rust and all pages, sorted by path.
pub(super) fn read(root: &Path) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    walk(root, root, &mut sources)?;
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(sources)
}

fn walk(root: &Path, folder: &Path, sources: &mut Vec<Source>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if entry.file_type()?.is_dir() {
            if !SKIPPED.contains(&name.as_ref()) {
                walk(root, &path, sources)?;
            }
        } else if name.ends_with(".rs") || name.ends_with(".md") {
            let relative = path.strip_prefix(root)?.to_string_lossy().into_owned();
            sources.push(Source { path: relative, text: fs::read_to_string(&path)? });
        }
    }
    Ok(())
}
