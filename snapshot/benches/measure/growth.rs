//! The first snapshot, a tracked increment and a compared increment, for files of growing size with
//! a constant amount of changes.

use crate::made::{BLOCK, MB, Noise, file, meta, open, repository};
use pitr_format::FileId;
use pitr_snapshot::{
    BlockSource, BoxError, FileShape, Manifest, SnapshotReader, Tracked, write_full, write_increment,
};
use pitr_tracker::{BlockSize, ChangeSet};
use std::error::Error;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

struct Source {
    file: File,
    len: u64,
}

impl BlockSource for Source {
    fn files(&self) -> Vec<FileShape> {
        vec![file(self.len)]
    }

    fn read_at(&self, _: FileId, offset: u64, buf: &mut [u8]) -> Result<(), BoxError> {
        Ok(self.file.read_exact_at(buf, offset)?)
    }
}

fn make(path: &Path, len: u64) -> Result<Source, Box<dyn Error>> {
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
    let (mut noise, mut buffer) = (Noise(len), vec![0; 1 << 20]);
    for offset in (0..len).step_by(buffer.len()) {
        buffer.chunks_mut(BLOCK).for_each(|out| noise.block(out));
        file.write_all_at(&buffer, offset)?;
    }
    file.sync_all()?;
    Ok(Source { file, len })
}

/// Rewrites blocks all over the file. Returns the set of blocks and their size when compressed
/// together.
fn change(source: &Source, bytes: u64, seed: u64) -> Result<(ChangeSet, u64), Box<dyn Error>> {
    let size = BlockSize::new(BLOCK as u32)?;
    let (mut set, mut noise) = (ChangeSet::new(), Noise(seed));
    let (count, all) = (bytes / BLOCK as u64, source.len / BLOCK as u64);
    let (mut together, mut group, mut out) = (0, Vec::new(), vec![0; BLOCK]);
    for n in 0..count {
        let at = noise.scattered(count, all, n);
        noise.block(&mut out);
        source.file.write_all_at(&out, at * BLOCK as u64)?;
        set.mark(FileId::FIRST, size, at);
        group.extend_from_slice(&out);
        if group.len() == 1 << 20 || n + 1 == count {
            together += zstd::bulk::compress(&group, 3)?.len() as u64;
            group.clear();
        }
    }
    source.file.sync_all()?;
    Ok((set, together))
}

/// Runs `work`. Returns also the seconds and the peak of anonymous memory in MB.
fn timed<T>(work: impl FnOnce() -> Result<T, Box<dyn Error>>) -> Result<(T, f64, f64), Box<dyn Error>> {
    let (done, peak) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
                let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
                let kib = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok());
                peak.fetch_max(kib.unwrap_or(0), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let begun = Instant::now();
        let result = work();
        let seconds = begun.elapsed().as_secs_f64();
        done.store(true, Ordering::Relaxed);
        Ok((result?, seconds, peak.load(Ordering::Relaxed) as f64 * 1024.0 / 1e6))
    })
}

/// Returns an error unless the snapshot equals the file.
fn check(folder: &Path, manifest: &Manifest, source: &Source) -> Result<(), Box<dyn Error>> {
    let reader = SnapshotReader::open(open(folder)?, manifest.clone());
    let wanted: Vec<u64> = (0..reader.extents(FileId::FIRST)?).collect();
    let differs = AtomicBool::new(false);
    reader.read_extents::<pitr_snapshot::Error>(FileId::FIRST, &wanted, |extent, bytes| {
        let mut have = vec![0; bytes.len()];
        let read = source.file.read_exact_at(&mut have, extent << 20);
        if read.is_err() || have[..] != bytes[..] {
            differs.store(true, Ordering::Relaxed);
        }
        Ok(())
    })?;
    if differs.into_inner() { Err("the snapshot is not the file".into()) } else { Ok(()) }
}

pub(crate) fn run(changed: u64, sizes: &[u64]) -> Result<(), Box<dyn Error>> {
    println!(
        "| file, GB | first, MB/s | memory, MB | tracked: s | memory, MB | stored, MB | / together | compared: s | memory, MB | / together |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for gigabytes in sizes {
        let (dir, folder) = repository()?;
        let len = gigabytes * 1000 * MB / (1 << 20) * (1 << 20);
        let source = make(&dir.path().join("file"), len)?;
        let (first, first_seconds, first_memory) = timed(|| {
            let store = open(&folder)?;
            Ok(write_full(&store, &source, meta(1)?, None)?.publish(&store)?)
        })?;
        let (set, together) = change(&source, changed * MB, 1)?;
        let (second, tracked_seconds, tracked_memory) = timed(|| {
            let store = open(&folder)?;
            let mut delta = Tracked::new(&source, &set);
            Ok(write_increment(&store, &first, &mut delta, meta(2)?)?.publish(&store)?)
        })?;
        check(&folder, &second, &source)?;
        let (_, together_again) = change(&source, changed * MB, 2)?;
        let (third, compared_seconds, compared_memory) = timed(|| {
            let store = open(&folder)?;
            Ok(write_full(&store, &source, meta(3)?, Some(&second))?.publish(&store)?)
        })?;
        check(&folder, &third, &source)?;
        println!(
            "| {gigabytes} | {:.0} | {first_memory:.0} | {tracked_seconds:.1} | {tracked_memory:.0} | {:.1} | {:.3} | {compared_seconds:.1} | {compared_memory:.0} | {:.3} |",
            len as f64 / 1e6 / first_seconds,
            second.snapshot.sizes.stored as f64 / 1e6,
            second.snapshot.sizes.stored as f64 / together as f64,
            third.snapshot.sizes.stored as f64 / together_again as f64,
        );
    }
    Ok(())
}
