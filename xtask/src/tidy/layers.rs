//! Dependencies of crates against the table of layers in ARCHITECTURE.md.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::Finding;
use crate::Result;

/// `vfs` and `format` are both of layer 0.
const WITHIN_A_LAYER: [(&str, &str); 1] = [("vfs", "format")];
/// Development tools are not part of the layers.
const TOOLS: [&str; 3] = ["xtask", "testkit", "simulation"];
const PAGE: &str = "ARCHITECTURE.md";

pub(super) fn check(root: &Path) -> Result<Vec<Finding>> {
    let layers = table(&fs::read_to_string(root.join(PAGE))?);
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root)
        .output()?;
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    Ok(violations(&layers, &crates(&metadata, root)))
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

/// Folder and name of each crate, and the names of its dependencies, without those for development.
fn crates(metadata: &Value, root: &Path) -> Vec<(String, String, Vec<String>)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let package = |package: &Value| {
        let manifest = text(&package["manifest_path"]);
        let folder = Path::new(&manifest).parent().and_then(|folder| folder.strip_prefix(root).ok());
        let needed = list(&package["dependencies"]);
        let needed = needed.iter().filter(|dependency| dependency["kind"].is_null());
        let folder = folder.map(|folder| folder.to_string_lossy().into_owned());
        (folder.unwrap_or_default(), text(&package["name"]), needed.map(|d| text(&d["name"])).collect())
    };
    list(&metadata["packages"]).iter().map(package).collect()
}

fn violations(layers: &BTreeMap<String, u32>, crates: &[(String, String, Vec<String>)]) -> Vec<Finding> {
    let folders: BTreeMap<&str, &str> =
        crates.iter().map(|(folder, name, _)| (name.as_str(), folder.as_str())).collect();
    let mut findings = Vec::new();
    let mut found = |what| {
        findings.push(Finding { rule: "layers", path: PAGE.to_owned(), line: 0, what });
    };
    for (folder, _, needed) in crates.iter().filter(|(folder, ..)| !TOOLS.contains(&folder.as_str())) {
        let Some(layer) = layers.get(folder) else {
            found(format!("the table has no layer for `{folder}`"));
            continue;
        };
        for other in needed.iter().filter_map(|name| folders.get(name.as_str())) {
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
            (folder.to_owned(), format!("p-{folder}"), needs)
        };
        assert_eq!(violations(&layers, &[of("a", &["serde"]), of("b", &["p-a"])]), []);
        assert_eq!(violations(&layers, &[of("a", &["p-b"]), of("b", &[])]).len(), 1);
        assert_eq!(violations(&layers, &[of("a", &[])]).len(), 1, "b is gone");
        assert_eq!(violations(&layers, &[of("a", &[]), of("b", &[]), of("c", &[])]).len(), 1);
        assert_eq!(violations(&layers, &[of("a", &["p-a"]), of("b", &[])]).len(), 1, "not below itself");
    }
}
