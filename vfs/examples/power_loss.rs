//! Saves a file in two ways, loses power at every point, and counts what is left.
//!
//! The careless way writes the file under its name and syncs it. The careful way writes it under
//! another name, syncs it, gives it its name, and syncs the folder. A save counts as promised once
//! it has returned.

use pitr_vfs::FileSystem;
use pitr_vfs::sim::{Disk, Mode, Op, SimFs, Survivors};
use std::io;
use std::path::{Path, PathBuf};

/// Seeds for each mode that selects what survives.
const SEEDS: u64 = 200;

fn path(version: u64) -> PathBuf {
    PathBuf::from(format!("/config-{version}"))
}

fn content(version: u64) -> Vec<u8> {
    vec![version as u8; 2048]
}

fn careless(fs: &dyn FileSystem, version: u64) -> io::Result<()> {
    let file = fs.create_new(&path(version))?;
    file.write_all_at(&content(version), 0)?;
    file.sync_data()
}

fn careful(fs: &dyn FileSystem, version: u64) -> io::Result<()> {
    let temporary = Path::new("/config.new");
    let file = fs.create_new(temporary)?;
    file.write_all_at(&content(version), 0)?;
    file.sync_data()?;
    fs.publish(temporary, &path(version))?;
    fs.sync_dir(Path::new("/"))
}

/// The newest version on the disk, 0 if there is none, and whether its content is whole.
fn newest(disk: &Disk) -> (u64, bool) {
    for version in (1..=3).rev() {
        if let Some(found) = disk.read(&path(version)) {
            return (version, found == content(version));
        }
    }
    (0, true)
}

fn lose_power(save: fn(&dyn FileSystem, u64) -> io::Result<()>) -> io::Result<[u64; 3]> {
    let fs = SimFs::new();
    for version in 1..=3 {
        save(&fs, version)?;
        fs.ack(version); // the trace notes the promise
    }
    let trace = fs.trace();
    let mut survivors = Survivors::new(&trace);
    let (mut disks, mut damaged, mut lost, mut promised) = (0, 0, 0, 0);
    loop {
        for (mode, seed) in Mode::ALL.iter().flat_map(|mode| (0..SEEDS).map(move |seed| (*mode, seed))) {
            let (version, is_whole) = newest(&survivors.disk(mode, seed));
            disks += 1;
            damaged += u64::from(!is_whole);
            lost += u64::from(version < promised);
        }
        match survivors.advance() {
            Some(Op::Ack(version)) => promised = *version,
            Some(_) => {}
            None => return Ok([disks, damaged, lost]),
        }
    }
}

fn main() -> io::Result<()> {
    type Way = fn(&dyn FileSystem, u64) -> io::Result<()>;
    let ways: [(&str, Way); 2] = [("careless", careless), ("careful", careful)];
    for (name, save) in ways {
        let [disks, damaged, lost] = lose_power(save)?;
        println!("{name}: {disks} disks, {damaged} with a damaged file, {lost} without a promised one");
    }
    Ok(())
}
