//! The dependencies of the library without its engines, as cargo resolves them: an engine team gets
//! neither SQLite nor what only the program needs.

use std::path::Path;
use std::process::Command;

use super::Finding;
use crate::Result;

const LIBRARY: &str = "pitr";
/// Crates of the program, and of engines that are features of the library.
const UNWANTED: [&str; 7] = [
    "clap",
    "indicatif",
    "libsqlite3-sys",
    "pitr-directory",
    "pitr-sqlite",
    "rusqlite",
    "tracing-subscriber",
];

/// The tree of the library without its default features, one crate in each line.
pub(crate) fn print(root: &Path) -> Result<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--package", LIBRARY, "--no-default-features", "--edges", "normal"])
        .args(["--prefix", "none", "--format", "{p}"])
        .current_dir(root)
        .output()?;
    if !output.status.success() {
        return Err(format!("cargo tree failed: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

pub(super) fn check(root: &Path) -> Result<Vec<Finding>> {
    let finding = |what| Finding { rule: "tree", path: "pitr/Cargo.toml".to_owned(), line: 0, what };
    Ok(unwanted(&print(root)?).map(finding).collect())
}

fn unwanted(tree: &str) -> impl Iterator<Item = String> {
    let names: std::collections::BTreeSet<&str> =
        tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let found: Vec<&str> = UNWANTED.into_iter().filter(|name| names.contains(name)).collect();
    let what = |name| format!("`{LIBRARY}` without its default features depends on `{name}`");
    found.into_iter().map(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unwanted_crate_is_found_once() {
        let tree = "pitr v0.1.0 (/pitr)\nrusqlite v0.41.0\nserde v1.0.0\nrusqlite v0.41.0 (*)\n";
        let found: Vec<String> = unwanted(tree).collect();
        assert_eq!(found, ["`pitr` without its default features depends on `rusqlite`"]);
        assert_eq!(unwanted("clap_derive v4.6.0\n").count(), 0);
    }
}
