//! What a stranger finds of each published crate: a README with code, examples, and all features on
//! docs.rs.

use std::fs;
use std::path::Path;

use super::Finding;
use crate::Result;
use crate::packages::Package;

const README: &str = "README.md";
/// In a library's `lib.rs`: the tests compile the code of the README.
const COMPILED: &str = r#"include_str!("../README.md")"#;

pub(super) fn check(root: &Path, packages: &[Package]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let overview = fs::read_to_string(root.join(README))?;
    for package in packages.iter().filter(|package| package.is_published) {
        let folder = root.join(&package.folder);
        let read = |path: &str| -> Result<String> {
            let path = folder.join(path);
            Ok(if path.exists() { fs::read_to_string(path)? } else { String::new() })
        };
        let mut lacks = lacks(package, &read(README)?, &read("src/lib.rs")?);
        if !is_listed(&overview, &package.name) {
            lacks.push("a row in the table of the workspace's README.md");
        }
        findings.extend(lacks.into_iter().map(|what| Finding {
            rule: "published",
            path: format!("{}/Cargo.toml", package.folder),
            line: 0,
            what: format!("{} lacks {what}", package.name),
        }));
    }
    Ok(findings)
}

/// What a package with this README and this `lib.rs` lacks. A program shows commands and has no
/// examples.
fn lacks(package: &Package, readme: &str, library: &str) -> Vec<&'static str> {
    let has_block = |language: &str| readme.lines().any(|line| is_block(line, language));
    let rules = [
        (package.readme == README, "`readme = \"README.md\"`"),
        (package.documents_all_features, "`all-features = true` in `[package.metadata.docs.rs]`"),
        (package.is_library || has_block("console"), "a README.md with a block of `console`"),
        (!package.is_library || has_block("rust"), "a README.md with a block of `rust`"),
        (!package.is_library || library.contains(COMPILED), "a doctest of its README.md in lib.rs"),
        (!package.is_library || !package.examples.is_empty(), "an example in `examples/`"),
    ];
    rules.into_iter().filter(|(holds, _)| !holds).map(|(_, what)| what).collect()
}

/// True if a row of the overview's table names the package.
fn is_listed(overview: &str, package: &str) -> bool {
    overview.contains(&format!("| `{package}` |"))
}

/// True if a block of code in this language begins in the line.
fn is_block(line: &str, language: &str) -> bool {
    let info = line.strip_prefix("```").and_then(|info| info.split(',').next());
    info.is_some_and(|found| found == language)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::Example;

    const RUST: &str = "# a\n```rust,no_run\na();\n```\n";

    fn complete() -> Package {
        let example = Example { name: "e".to_owned(), features: Vec::new() };
        Package {
            name: "a".to_owned(),
            is_library: true,
            readme: README.to_owned(),
            documents_all_features: true,
            examples: vec![example],
            ..Package::default()
        }
    }

    #[test]
    fn a_library_has_a_compiled_readme_and_an_example() {
        let none: [&str; 0] = [];
        assert_eq!(lacks(&complete(), RUST, COMPILED), none);
        assert_eq!(lacks(&complete(), "# a\n```console\n$ a\n```\n", COMPILED).len(), 1);
        assert_eq!(lacks(&complete(), RUST, "").len(), 1);
        assert_eq!(lacks(&Package { examples: Vec::new(), ..complete() }, RUST, COMPILED).len(), 1);
        assert_eq!(lacks(&Package { documents_all_features: false, ..complete() }, RUST, COMPILED).len(), 1);
        assert_eq!(
            lacks(&Package { readme: "../README.md".to_owned(), ..complete() }, RUST, COMPILED).len(),
            1
        );
        assert_eq!(lacks(&Package { is_library: true, ..Package::default() }, "", "").len(), 5);
    }

    #[test]
    fn the_overview_names_each_package() {
        assert!(is_listed("| 1 | `pitr-a` | `a/` |", "pitr-a"));
        assert!(!is_listed("| 1 | `pitr-ab` | `ab/` |", "pitr-a"));
    }

    #[test]
    fn a_program_shows_commands() {
        let program = Package { is_library: false, examples: Vec::new(), ..complete() };
        assert_eq!(lacks(&program, "```console\n$ a\n```\n", ""), [""; 0]);
        assert_eq!(lacks(&program, RUST, ""), ["a README.md with a block of `console`"]);
    }
}
