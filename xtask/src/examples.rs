//! `cargo xtask examples`: runs every example of every published crate.
//!
//! Each example runs in an empty folder of its own, which also holds its temporary files. It fails
//! if it exits with an error, or leaves a file there.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;

use crate::Result;
use crate::packages::{self, Package};

/// Builds and runs the examples. True if all of them pass; prints the names of those that do not.
pub(crate) fn run() -> Result<bool> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = own.parent().ok_or("xtask has no parent folder")?;
    let packages: Vec<Package> = packages::read(root)?.into_iter().filter(|p| p.is_published).collect();
    let built = build(root, &packages)?;
    let mut failed = Vec::new();
    let mut count = 0;
    for package in &packages {
        for example in &package.examples {
            let name = format!("{}/examples/{}", package.folder, example.name);
            let begun = Instant::now();
            let fault = match built.get(&(package.folder.clone(), example.name.clone())) {
                None => Some("was not built".to_owned()),
                Some(program) => fault(program)?,
            };
            count += 1;
            match fault {
                None => println!("{:6.2} s  {name}", begun.elapsed().as_secs_f64()),
                Some(fault) => {
                    println!("FAIL      {name}: {fault}");
                    failed.push(name);
                }
            }
        }
    }
    match failed.is_empty() {
        true => println!("PASS: {count} examples"),
        false => println!("FAIL: {}", failed.join(", ")),
    }
    Ok(failed.is_empty())
}

/// The programs of all examples, by folder of the package and name. Builds all packages together,
/// as `cargo test --workspace` does, and reuses that build.
fn build(root: &Path, packages: &[Package]) -> Result<BTreeMap<(String, String), PathBuf>> {
    let features = packages.iter().flat_map(|package| {
        let of = |feature: &String| format!("{}/{feature}", package.name);
        package.examples.iter().flat_map(|example| &example.features).map(of).collect::<Vec<_>>()
    });
    let output = Command::new(env!("CARGO"))
        .args(["build", "--workspace", "--examples", "--message-format", "json-render-diagnostics"])
        .args(["--features", &features.collect::<Vec<_>>().join(",")])
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err("the examples can't be built".into());
    }
    let mut built = BTreeMap::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let message: Value = serde_json::from_str(line)?;
        let manifest = message["manifest_path"].as_str().map(Path::new);
        let folder = manifest.and_then(|path| path.parent()?.strip_prefix(root).ok());
        let is_example = message["target"]["kind"][0] == "example";
        if let (true, Some(folder), Some(name), Some(program)) =
            (is_example, folder, message["target"]["name"].as_str(), message["executable"].as_str())
        {
            built.insert((folder.to_string_lossy().into_owned(), name.to_owned()), program.into());
        }
    }
    Ok(built)
}

/// Runs one program. Returns why it fails, after its output was printed.
fn fault(program: &Path) -> Result<Option<String>> {
    let folder = tempfile::tempdir()?;
    let output = Command::new(program).current_dir(&folder).env("TMPDIR", folder.path()).output()?;
    let left: Vec<String> = fs::read_dir(&folder)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    let fault = match (output.status.success(), left.is_empty()) {
        (true, true) => return Ok(None),
        (true, false) => format!("leaves files behind: {}", left.join(", ")),
        (false, _) => output.status.to_string(),
    };
    std::io::stdout().write_all(&output.stdout)?;
    std::io::stdout().write_all(&output.stderr)?;
    Ok(Some(fault))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn an_example_fails_with_an_error_or_with_a_file_that_it_leaves() {
        let dir = tempfile::tempdir().unwrap();
        let script = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
            path
        };
        assert_eq!(fault(&script("good", "true")).unwrap(), None);
        assert_eq!(fault(&script("bad", "exit 3")).unwrap(), Some("exit status: 3".to_owned()));
        let kept = Some("leaves files behind: kept".to_owned());
        assert_eq!(fault(&script("here", "echo > kept")).unwrap(), kept);
        assert_eq!(fault(&script("temporary", "echo > $TMPDIR/kept")).unwrap(), kept);
    }
}
