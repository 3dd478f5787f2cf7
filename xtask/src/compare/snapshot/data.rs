//! The data to back up: a database file or a cluster's folder, and the same with a share of its
//! blocks changed.

use crate::Result;
use crate::application::Application;
use crate::world::{self, bytes_below, drop_cache, drop_cache_below, same};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const PAGE_BYTES: usize = 4096;

/// The kind of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Kind {
    /// A SQLite file of realistic rows
    Database,
    /// The folder of a pgbench cluster after shutdown
    Cluster,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Database => "database",
            Kind::Cluster => "cluster",
        }
    }
}

/// Data before and after a change.
#[derive(Debug)]
pub(super) struct Data {
    pub(super) kind: Kind,
    before: PathBuf,
    pub(super) after: PathBuf,
    /// All bytes before the change, as one file.
    pub(super) whole: PathBuf,
}

impl Data {
    /// Creates the data, once for each size and share.
    pub(super) fn make(kind: Kind, megabytes: u32, share: f64) -> Result<Data> {
        let dir = world::target().join(format!("data/{}-{megabytes}-{share}", kind.name()));
        let file = |name: &str| match kind {
            Kind::Database => dir.join(format!("{name}.db")),
            Kind::Cluster => dir.join(name),
        };
        let whole = if kind == Kind::Cluster { dir.join("whole") } else { file("before") };
        let data = Data { kind, before: file("before"), after: file("after"), whole };
        if !dir.join("made").exists() {
            println!("  making a {} of {megabytes} MB", kind.name());
            let _ = fs::remove_dir_all(&dir);
            fs::create_dir_all(&dir)?;
            let script = match kind {
                Kind::Database => "snapshot.py",
                Kind::Cluster => "cluster.py",
            };
            let folder = dir.to_string_lossy().into_owned();
            let args = [&folder, &megabytes.to_string(), &share.to_string(), "1"];
            let application = Application::start(script, &args)?;
            application.event("done")?;
            application.end()?;
            File::create(dir.join("made"))?;
        }
        Ok(data)
    }

    pub(super) fn megabytes(&self) -> Result<f64> {
        Ok(self.whole.metadata()?.len() as f64 / 1e6)
    }

    /// Copies the data before the change into `dir`, which must not exist yet.
    pub(super) fn lay_out(&self, dir: &Path) -> Result<Source> {
        fs::create_dir(dir)?;
        let source = match self.kind {
            Kind::Database => Source::File(dir.join("app.db")),
            Kind::Cluster => Source::Folder(dir.join("cluster")),
        };
        let status = Command::new("cp").arg("-a").arg(&self.before).arg(source.path()).status()?;
        if status.success() { Ok(source) } else { Err("the data could not be copied".into()) }
    }
}

/// Bytes that were written.
#[derive(Debug)]
pub(super) struct Change {
    /// Path relative to the folder.
    pub(super) file: PathBuf,
    pub(super) offset: u64,
    pub(super) len: usize,
}

/// The source that the programs back up.
#[derive(Debug)]
pub(super) enum Source {
    /// A file, alone in its folder.
    File(PathBuf),
    /// A whole folder.
    Folder(PathBuf),
}

impl Source {
    pub(super) fn path(&self) -> &Path {
        match self {
            Source::File(path) | Source::Folder(path) => path,
        }
    }

    pub(super) fn is_folder(&self) -> bool {
        matches!(self, Source::Folder(_))
    }

    /// The folder, or the parent folder of the file.
    pub(super) fn folder(&self) -> &Path {
        match self {
            Source::File(path) => path.parent().unwrap_or(path),
            Source::Folder(path) => path,
        }
    }

    /// Applies the change in place: only changed blocks are written. Returns what was written in
    /// the files of a folder.
    pub(super) fn change(&self, data: &Data) -> Result<Vec<Change>> {
        let mut changes = Vec::new();
        match self {
            Source::File(path) => patch(path, &data.after, |_, _| {})?,
            Source::Folder(path) => {
                for file in files_below(&data.after, Path::new(""))? {
                    patch(&path.join(&file), &data.after.join(&file), |offset, len| {
                        changes.push(Change { file: file.clone(), offset, len });
                    })?;
                }
            }
        }
        Ok(changes)
    }

    /// Fails unless a restored copy equals the data after the change. A backup of a cluster may
    /// leave out what a server recreates; its tables and indexes are all in `base`.
    pub(super) fn compare(&self, restored: &Path, data: &Data) -> Result<()> {
        let files = match self {
            Source::File(_) => vec![(restored.to_owned(), data.after.clone())],
            Source::Folder(_) => files_below(&data.after.join("base"), Path::new("base"))?
                .into_iter()
                .filter(|file| !file.ends_with("pg_internal.init"))
                .map(|file| (restored.join(&file), data.after.join(&file)))
                .collect(),
        };
        for (have, want) in &files {
            if !same(have, want)? {
                return Err(format!("{} differs after the restore", have.display()).into());
            }
        }
        if files.is_empty() { Err("there is nothing to compare".into()) } else { Ok(()) }
    }

    /// Drops the data from the page cache.
    pub(super) fn drop_cache(&self) -> Result<()> {
        match self {
            Source::File(path) => drop_cache(path),
            Source::Folder(path) => drop_cache_below(path),
        }
    }
}

/// Size of a folder that may not exist yet, bytes.
pub(super) fn size(dir: &Path) -> Result<u64> {
    if dir.exists() { bytes_below(dir) } else { Ok(0) }
}

/// All regular files below a folder, as paths that start with `name`.
fn files_below(dir: &Path, name: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let (kind, name) = (entry.file_type()?, name.join(entry.file_name()));
        if kind.is_dir() {
            files.extend(files_below(&entry.path(), &name)?);
        } else if kind.is_file() {
            files.push(name);
        }
    }
    files.sort();
    Ok(files)
}

/// Writes into `file` only those pages of `to` that differ, and reports each.
fn patch(file: &Path, to: &Path, mut wrote: impl FnMut(u64, usize)) -> Result<()> {
    let (file, to) = (File::options().read(true).write(true).open(file)?, File::open(to)?);
    let len = to.metadata()?.len();
    if file.metadata()?.len() != len {
        file.set_len(len)?;
    }
    let (mut old, mut new) = (vec![0; 256 * PAGE_BYTES], vec![0; 256 * PAGE_BYTES]);
    let mut is_same = true;
    for from in (0..len).step_by(old.len()) {
        let bytes = old.len().min((len - from) as usize);
        file.read_exact_at(&mut old[..bytes], from)?;
        to.read_exact_at(&mut new[..bytes], from)?;
        let pages = old[..bytes].chunks(PAGE_BYTES).zip(new[..bytes].chunks(PAGE_BYTES));
        for (nth, (old, new)) in pages.enumerate() {
            if old != new {
                let offset = from + (nth * PAGE_BYTES) as u64;
                file.write_all_at(new, offset)?;
                wrote(offset, new.len());
                is_same = false;
            }
        }
    }
    if !is_same {
        file.sync_all()?;
    }
    Ok(())
}
