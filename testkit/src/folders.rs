//! Folders of a test.

use std::fs;
use std::path::{Path, PathBuf};

/// All files below a folder, in order.
///
/// # Panics
/// If a folder can't be read.
#[must_use]
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.expect("an entry of a folder").path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

/// Copies a folder to a place that does not exist yet.
///
/// # Panics
/// If something can't be read or created.
pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap_or_else(|error| panic!("{}: {error}", to.display()));
    for file in files_below(from) {
        let to = to.join(file.strip_prefix(from).expect("a path below the folder"));
        let folder = to.parent().expect("a file has a folder");
        fs::create_dir_all(folder).and_then(|()| fs::copy(&file, &to)).expect("a file that can be copied");
    }
}
