//! Backs up a folder twice, and restores the state of the first backup.

use pitr_dedup::ChunkStore;
use pitr_directory::{BackupOptions, FolderTarget, backup};
use pitr_format::SourceName;
use pitr_objects::Objects;
use pitr_recovery::{History, RestoreOptions, Restorer, Target};
use std::error::Error;
use std::fs;
use std::os::unix::fs::symlink;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let objects = Objects::create_local(dir.path().join("repo"))?;
    let clock = objects.env().clock.as_ref();
    objects.init_repository(clock.now())?;

    let photos = dir.path().join("photos");
    fs::create_dir_all(photos.join("2026/summer"))?;
    fs::write(photos.join("2026/summer/lake.raw"), vec![7; 3 << 20])?;
    fs::write(photos.join("notes.txt"), "The lake in August.\n")?;
    symlink("2026/summer/lake.raw", photos.join("best"))?;
    let name = SourceName::new("photos")?;
    let first = backup(&objects, clock, &name, &photos, BackupOptions::default())?.snapshot;
    println!("backup {}: {} bytes, {} stored", first.id, first.sizes.logical, first.sizes.stored);

    fs::remove_file(photos.join("2026/summer/lake.raw"))?;
    fs::write(photos.join("notes.txt"), "Nothing left.\n")?;
    let second = backup(&objects, clock, &name, &photos, BackupOptions::default())?.snapshot;
    println!("backup {}: {} bytes, {} stored", second.id, second.sizes.logical, second.sizes.stored);

    let history = History::load(&objects, &name, None)?;
    let chunks = ChunkStore::open(objects.clone())?;
    let output = dir.path().join("restored");
    let plan = history.plan_for(&Target::at(first.id))?;
    let restored =
        Restorer::new(&history, &chunks, &FolderTarget).restore(&plan, &RestoreOptions::to(&output))?;
    println!("restored {} files, {} bytes", restored.files, restored.bytes);

    let notes = fs::read_to_string(output.join("notes.txt"))?;
    print!("notes.txt: {notes}");
    if notes != "The lake in August.\n" || fs::read(output.join("best"))? != vec![7; 3 << 20] {
        return Err("the restored folder is not the first state".into());
    }
    Ok(())
}
