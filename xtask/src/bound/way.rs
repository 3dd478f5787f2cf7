//! One way to do the work: a piece size and a number of threads.

use super::room::Room;
use super::sample::{Piece, Sample};
use crate::Result;
use crate::world::{self, World};
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

const PIECES: [usize; 3] = [256 << 10, 1 << 20, 4 << 20];
const THREADS: [usize; 2] = [1, 2];
/// Piece sizes and threads that are the fastest on most machines.
const QUICK: [(usize, usize); 3] = [(1 << 20, 2), (4 << 20, 2), (1 << 20, 1)];
const BLOCK_BYTES: usize = 4096;

/// A piece size and a number of threads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way {
    pub(crate) piece: usize,
    pub(crate) threads: usize,
}

/// All combinations to try.
pub(crate) fn ways() -> impl Iterator<Item = Way> {
    THREADS.into_iter().flat_map(|threads| PIECES.into_iter().map(move |piece| Way { piece, threads }))
}

/// The combinations of a quick run.
pub(crate) fn quick_ways() -> impl Iterator<Item = Way> {
    QUICK.into_iter().map(|(piece, threads)| Way { piece, threads })
}

/// Rates in megabytes of the file per second, and the compression ratio.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rates {
    pub(crate) backup: f64,
    pub(crate) restore: f64,
    /// A restore that writes nothing.
    pub(crate) decode: f64,
    pub(crate) comparison: f64,
    pub(crate) ratio: f64,
}

impl Rates {
    /// The higher one of each.
    pub(super) fn best(self, other: Rates) -> Rates {
        Rates {
            backup: self.backup.max(other.backup),
            restore: self.restore.max(other.restore),
            decode: self.decode.max(other.decode),
            comparison: self.comparison.max(other.comparison),
            ratio: self.ratio.max(other.ratio),
        }
    }
}

/// Where a piece is in the packed file.
#[derive(Debug, Clone, Copy)]
struct Place {
    piece: Piece,
    at: u64,
    len: usize,
    hash: [u8; 32],
}

/// How a restore writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writing {
    Cached,
    /// Past the page cache.
    Direct,
    Nothing,
}

impl Way {
    /// A line that shows the rates.
    pub(crate) fn line(self, rates: Rates) -> String {
        format!(
            "pieces of {} KiB, {} threads: backup {:.0} MB/s, restore {:.0} MB/s, comparison {:.0} MB/s, {:.2} : 1",
            self.piece >> 10,
            self.threads,
            rates.backup,
            rates.restore,
            rates.comparison,
            rates.ratio
        )
    }

    /// Measures each operation once with the whole file, with a cold cache.
    pub(crate) fn measure(self, file: &Path, world: &World, level: i32) -> Result<Rates> {
        self.measure_sample(&Sample::of(&[file.to_owned()], u64::MAX)?, world, level)
    }

    /// Measures each operation once, with a cold cache.
    pub(crate) fn measure_sample(self, sample: &Sample, world: &World, level: i32) -> Result<Rates> {
        let rates = self.measure_restore(sample, &world.path(""), level)?;
        sample.drop_cache()?;
        let begun = Instant::now();
        self.hash(sample, BLOCK_BYTES)?;
        Ok(Rates { comparison: rate(sample, begun), ..rates })
    }

    /// Megabytes a second that are read and hashed, with a cold cache.
    pub(crate) fn measure_hash(self, sample: &Sample) -> Result<f64> {
        sample.drop_cache()?;
        let begun = Instant::now();
        self.hash(sample, self.piece)?;
        Ok(rate(sample, begun))
    }

    /// Like [`measure_sample`](Self::measure_sample), without the comparison, in this folder.
    pub(super) fn measure_restore(self, sample: &Sample, folder: &Path, level: i32) -> Result<Rates> {
        let (packed, restored) = (folder.join("packed"), folder.join("restored"));
        sample.drop_cache()?;
        let begun = Instant::now();
        let places = self.backup(sample, &packed, level)?;
        let backup = rate(sample, begun);
        let timed = |writing| -> Result<f64> {
            world::drop_cache(&packed)?;
            let begun = Instant::now();
            self.restore(&places, &packed, &restored, writing)?;
            let rate = rate(sample, begun);
            if writing != Writing::Nothing {
                std::fs::remove_file(&restored)?;
            }
            Ok(rate)
        };
        let restore = timed(Writing::Cached)?.max(timed(Writing::Direct)?);
        let decode = timed(Writing::Nothing)?;
        let ratio = sample.bytes() as f64 / packed.metadata()?.len() as f64;
        std::fs::remove_file(packed)?;
        Ok(Rates { backup, restore, decode, ratio, comparison: 0.0 })
    }

    fn backup(self, sample: &Sample, packed: &Path, level: i32) -> Result<Vec<Place>> {
        let (inputs, output) = (sample.open(|file| File::open(file))?, File::create(packed)?);
        let (pieces, next) = (sample.pieces(self.piece), AtomicUsize::new(0));
        let (end, places) = (AtomicU64::new(0), Mutex::new(Vec::new()));
        self.threads(|| {
            let mut zstd = zstd::bulk::Compressor::new(level)?;
            let (mut raw, mut small) =
                (vec![0; self.piece], vec![0; zstd::zstd_safe::compress_bound(self.piece)]);
            let mut mine = Vec::new();
            while let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
                let raw = &mut raw[..piece.len];
                inputs[piece.file].read_exact_at(raw, piece.from)?;
                let hash = Sha256::digest(&*raw).into();
                let len = zstd.compress_to_buffer(raw, &mut small)?;
                let at = end.fetch_add(len as u64, Ordering::Relaxed);
                output.write_all_at(&small[..len], at)?;
                mine.push(Place { piece: *piece, at, len, hash });
            }
            places.lock().map_err(|_| "a thread died")?.extend(mine);
            Ok(())
        })?;
        output.sync_all()?;
        Ok(places.into_inner().map_err(|_| "a thread died")?)
    }

    fn restore(self, places: &[Place], packed: &Path, restored: &Path, writing: Writing) -> Result<()> {
        let (input, next) = (File::open(packed)?, AtomicUsize::new(0));
        if writing == Writing::Nothing {
            return self.decode(places, &input, &next, |_, _| Ok(()));
        }
        let output = File::create(restored)?;
        let direct = if writing == Writing::Direct { open_direct(restored, true)? } else { None };
        self.decode(places, &input, &next, |raw, at| {
            let aligned = raw.len().is_multiple_of(BLOCK_BYTES) && at.is_multiple_of(BLOCK_BYTES as u64);
            let into = direct.as_ref().filter(|_| aligned).unwrap_or(&output);
            Ok(into.write_all_at(raw, at)?)
        })?;
        Ok(output.sync_all()?)
    }

    /// Reads, decompresses and hashes the pieces, and passes each on with its offset.
    fn decode(
        self,
        places: &[Place],
        input: &File,
        next: &AtomicUsize,
        write: impl Fn(&[u8], u64) -> Result<()> + Sync,
    ) -> Result<()> {
        self.threads(|| {
            let mut zstd = zstd::bulk::Decompressor::new()?;
            let (mut room, mut small) = (Room::new(self.piece), Vec::new());
            while let Some(place) = places.get(next.fetch_add(1, Ordering::Relaxed)) {
                small.resize(place.len, 0);
                input.read_exact_at(&mut small, place.at)?;
                let len = zstd.decompress_to_buffer(&small, room.bytes())?;
                let raw = &room.bytes()[..len];
                if <[u8; 32]>::from(Sha256::digest(raw)) != place.hash {
                    return Err("a restored piece differs".into());
                }
                write(raw, place.piece.at)?;
            }
            Ok(())
        })
    }

    /// Hashes each block of this size. Reads past the page cache if the file system supports it.
    fn hash(self, sample: &Sample, block: usize) -> Result<()> {
        let open = |file: &Path| match open_direct(file, false) {
            Ok(Some(file)) => Ok(file),
            _ => File::open(file),
        };
        let inputs = sample.open(open)?;
        let (pieces, next) = (sample.pieces(self.piece), AtomicUsize::new(0));
        self.threads(|| {
            let mut room = Room::new(self.piece);
            while let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
                let read = inputs[piece.file].read_at(room.bytes(), piece.from)?;
                if read < piece.len {
                    return Err("a read ended early".into());
                }
                for block in room.bytes()[..piece.len].chunks(block) {
                    black_box(Sha256::digest(block));
                }
            }
            Ok(())
        })
    }

    fn threads(self, work: impl Fn() -> Result<()> + Sync) -> Result<()> {
        thread::scope(|scope| {
            let workers: Vec<_> = (0..self.threads)
                .map(|_| scope.spawn(|| work().map_err(|error| error.to_string())))
                .collect();
            for worker in workers {
                worker.join().map_err(|_| "a thread died")??;
            }
            Ok(())
        })
    }
}

/// Opens a file past the page cache; `None` if its file system does not support that.
fn open_direct(path: &Path, write: bool) -> Result<Option<File>> {
    let direct = rustix::fs::OFlags::DIRECT.bits() as i32;
    let opened = OpenOptions::new().read(true).write(write).custom_flags(direct).open(path);
    match opened {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Megabytes of the sample a second since `begun`.
fn rate(sample: &Sample, begun: Instant) -> f64 {
    sample.bytes() as f64 / begun.elapsed().as_secs_f64() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_of_writing_brings_the_bytes_back() {
        let dir = tempfile::tempdir().unwrap();
        let (file, packed, restored) =
            (dir.path().join("file"), dir.path().join("packed"), dir.path().join("restored"));
        let bytes: Vec<u8> = (0..9_000_123u32).map(|at| (at / 100) as u8 ^ (at % 251) as u8).collect();
        std::fs::write(&file, &bytes).unwrap();
        let sample = Sample::of(&[file], u64::MAX).unwrap();
        for way in ways() {
            let places = way.backup(&sample, &packed, 1).unwrap();
            for writing in [Writing::Cached, Writing::Direct] {
                way.restore(&places, &packed, &restored, writing).unwrap();
                assert!(std::fs::read(&restored).unwrap() == bytes, "{way:?} {writing:?}");
                std::fs::remove_file(&restored).unwrap();
            }
        }
    }

    #[test]
    fn a_damaged_piece_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let (file, packed) = (dir.path().join("file"), dir.path().join("packed"));
        std::fs::write(&file, vec![7; 300_000]).unwrap();
        let sample = Sample::of(&[file], u64::MAX).unwrap();
        let way = Way { piece: 4096, threads: 1 };
        let mut places = way.backup(&sample, &packed, 1).unwrap();
        places[3].hash[0] ^= 1;
        way.restore(&places, &packed, &packed, Writing::Nothing).unwrap_err();
    }
}
