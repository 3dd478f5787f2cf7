//! The environment of a drill: the workspace, the built program, and a temporary folder.

use crate::Result;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// The workspace's root.
pub(crate) fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_owned()
}

/// The build folder of cargo.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The cargo of a nightly toolchain.
pub(crate) fn nightly_cargo() -> Command {
    let mut cargo = Command::new("cargo");
    // The stable cargo that runs this process has set its own variables.
    cargo.arg("+nightly").env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO");
    cargo
}

/// Builds the release program and returns its path.
pub(crate) fn build() -> Result<PathBuf> {
    let status = Command::new(env!("CARGO"))
        .args(["build", "--release", "--package", "pitr-cli", "--quiet"])
        .current_dir(root())
        .status()?;
    if !status.success() {
        return Err("pitr does not build".into());
    }
    Ok(target().join("release/pitr"))
}

/// The drill's folder, on the same disk as the build folder, removed at the end.
#[derive(Debug)]
pub(crate) struct World(TempDir);

impl World {
    /// Creates an empty folder for the drill of this name.
    pub(crate) fn new(name: &str) -> Result<World> {
        let drills = target().join("drills");
        std::fs::create_dir_all(&drills)?;
        Ok(World(tempfile::Builder::new().prefix(&format!("{name}-")).tempdir_in(drills)?))
    }

    /// Leaves the folder on the disk, and returns its path.
    pub(crate) fn keep(self) -> PathBuf {
        self.0.keep()
    }

    /// The path of `name` in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// Total size of all files below `dir`, bytes.
pub(crate) fn bytes_below(dir: &Path) -> Result<u64> {
    files_below(dir)?.iter().map(|file| Ok(file.metadata()?.len())).sum()
}

/// All files below `dir`, in order.
pub(crate) fn files_below(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() { files.extend(files_below(&path)?) } else { files.push(path) }
    }
    files.sort();
    Ok(files)
}

/// True if two files hold the same bytes.
pub(crate) fn same(a: &Path, b: &Path) -> Result<bool> {
    let (mut a, mut b) = (File::open(a)?, File::open(b)?);
    if a.metadata()?.len() != b.metadata()?.len() {
        return Ok(false);
    }
    let (mut left, mut right) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let bytes = a.read(&mut left)?;
        if bytes == 0 {
            return Ok(true);
        }
        b.read_exact(&mut right[..bytes])?;
        if left[..bytes] != right[..bytes] {
            return Ok(false);
        }
    }
}

/// Syncs `file` and drops it from the page cache.
pub(crate) fn drop_cache(file: &Path) -> Result<()> {
    let file = std::fs::File::open(file)?;
    file.sync_all()?;
    Ok(rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?)
}

/// Syncs all files below a folder and drops them from the page cache.
pub(crate) fn drop_cache_below(dir: &Path) -> Result<()> {
    files_below(dir)?.iter().try_for_each(|file| drop_cache(file))
}
