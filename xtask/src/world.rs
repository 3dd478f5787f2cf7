//! Where a drill lives: the workspace, the built program, a folder of its own that goes away with it.

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

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Cargo of a nightly toolchain.
pub(crate) fn nightly_cargo() -> Command {
    let mut cargo = Command::new("cargo");
    // The stable cargo that runs this has set what it is itself.
    cargo.arg("+nightly").env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO");
    cargo
}

/// Builds the release program and says where it is.
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

/// The drill's folder, on the disk that holds the workspace's build, removed at the end.
#[derive(Debug)]
pub(crate) struct World(TempDir);

impl World {
    /// An empty folder for the drill of this name.
    pub(crate) fn new(name: &str) -> Result<World> {
        let drills = target().join("drills");
        std::fs::create_dir_all(&drills)?;
        Ok(World(tempfile::Builder::new().prefix(&format!("{name}-")).tempdir_in(drills)?))
    }

    /// Something in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// Bytes of all files below `dir`.
pub(crate) fn bytes_below(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        bytes += if meta.is_dir() { bytes_below(&entry.path())? } else { meta.len() };
    }
    Ok(bytes)
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

/// Drives `file` out of the page cache, once it is on the disk.
pub(crate) fn forget(file: &Path) -> Result<()> {
    let file = std::fs::File::open(file)?;
    file.sync_all()?;
    Ok(rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?)
}
