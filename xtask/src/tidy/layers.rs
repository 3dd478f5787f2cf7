//! Dependencies of crates against the table of layers in ARCHITECTURE.md.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::Finding;
use crate::Result;
use crate::packages::Package;

/// `vfs` and `format` are both of layer 0.
const WITHIN_A_LAYER: [(&str, &str); 1] = [("vfs", "format")];
/// Development tools are not part of the layers.
const TOOLS: [&str; 3] = ["xtask", "testkit", "simulation"];
const PAGE: &str = "ARCHITECTURE.md";

pub(super) fn check(root: &Path, packages: &[Package]) -> Result<Vec<Finding>> {
    let layers = table(&fs::read_to_string(root.join(PAGE))?);
    Ok(violations(&layers, packages))
}

/// The layer of each crate's folder, from rows that begin with a number and a name in backticks.
fn table(page: &str) -> BTreeMap<String, u32> {
    let row = |line: &str| {
        let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
        let layer = cells.next()?.parse().ok()?;
        let name = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
        Some((name.to_owned(), layer))
    };
    page.lines().filter_map(row).collect()
}

fn violations(layers: &BTreeMap<String, u32>, packages: &[Package]) -> Vec<Finding> {
    let folders: BTreeMap<&str, &str> =
        packages.iter().map(|package| (package.name.as_str(), package.folder.as_str())).collect();
    let mut findings = Vec::new();
    let mut found = |what| {
        findings.push(Finding { rule: "layers", path: PAGE.to_owned(), line: 0, what });
    };
    for Package { folder, needs, .. } in packages.iter().filter(|p| !TOOLS.contains(&p.folder.as_str())) {
        let Some(layer) = layers.get(folder) else {
            found(format!("the table has no layer for `{folder}`"));
            continue;
        };
        for other in needs.iter().filter_map(|name| folders.get(name.as_str())) {
            let is_below = layers.get(*other).is_some_and(|other| other < layer);
            if !is_below && !WITHIN_A_LAYER.contains(&(folder.as_str(), *other)) {
                found(format!("`{folder}` depends on `{other}`, which is not below it"));
            }
        }
    }
    for folder in layers.keys().filter(|folder| !folders.values().any(|other| other == folder)) {
        found(format!("`{folder}` is in the table and not in the workspace"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_that_depends_upwards_is_found() {
        let layers = table("# x\n| layer | crate |\n| --- | --- |\n| 0 | `a` | one |\n| 1 | `b` | two |\n");
        let of = |folder: &str, needs: &[&str]| {
            let needs = needs.iter().map(|name| (*name).to_owned()).collect();
            Package { folder: folder.to_owned(), name: format!("p-{folder}"), needs, ..Package::default() }
        };
        assert_eq!(violations(&layers, &[of("a", &["serde"]), of("b", &["p-a"])]), []);
        assert_eq!(violations(&layers, &[of("a", &["p-b"]), of("b", &[])]).len(), 1);
        assert_eq!(violations(&layers, &[of("a", &[])]).len(), 1, "b is gone");
        assert_eq!(violations(&layers, &[of("a", &[]), of("b", &[]), of("c", &[])]).len(), 1);
        assert_eq!(violations(&layers, &[of("a", &["p-a"]), of("b", &[])]).len(), 1, "not below itself");
    }
}
