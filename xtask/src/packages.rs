//! The packages of the workspace, as cargo describes them.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::Result;

/// A package of the workspace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Package {
    pub(crate) name: String,
    /// Relative to the workspace, with `/`.
    pub(crate) folder: String,
    /// False with `publish = false`.
    pub(crate) is_published: bool,
    /// True for a library, false for a program.
    pub(crate) is_library: bool,
    /// The README that a registry shows, relative to the package.
    pub(crate) readme: String,
    /// True if docs.rs builds its pages with all features.
    pub(crate) documents_all_features: bool,
    pub(crate) examples: Vec<Example>,
    /// Names of its dependencies, without those for development.
    pub(crate) needs: Vec<String>,
}

/// An example of a package.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Example {
    pub(crate) name: String,
    /// Features of the package that it needs.
    pub(crate) features: Vec<String>,
}

/// Asks cargo for the packages, without access to a registry.
pub(crate) fn read(root: &Path) -> Result<Vec<Package>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root)
        .output()?;
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    Ok(list(&metadata["packages"]).iter().map(|value| package(value, root)).collect())
}

fn package(value: &Value, root: &Path) -> Package {
    let manifest = text(&value["manifest_path"]);
    let folder = Path::new(&manifest).parent().and_then(|folder| folder.strip_prefix(root).ok());
    let (targets, needs) = (list(&value["targets"]), list(&value["dependencies"]));
    let is = |target: &Value, kind: &str| list(&target["kind"]).iter().any(|found| found == kind);
    let example = |target: &&Value| Example {
        name: text(&target["name"]),
        features: list(&target["required-features"]).iter().map(text).collect(),
    };
    Package {
        name: text(&value["name"]),
        folder: folder.map(|folder| folder.to_string_lossy().into_owned()).unwrap_or_default(),
        // Cargo says `null` for any registry, and lists none for `publish = false`.
        is_published: value["publish"].is_null() || !list(&value["publish"]).is_empty(),
        is_library: targets.iter().any(|target| is(target, "lib")),
        readme: text(&value["readme"]),
        documents_all_features: value["metadata"]["docs"]["rs"]["all-features"] == true,
        examples: targets.iter().filter(|target| is(target, "example")).map(|t| example(&t)).collect(),
        needs: needs.iter().filter(|need| need["kind"].is_null()).map(|need| text(&need["name"])).collect(),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}
