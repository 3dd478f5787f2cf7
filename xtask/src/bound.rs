//! The upper bound of the machine: the same bytes through read, hash, codec, write and fsync, with
//! none of our crates.
//!
//! A backup reads a file in pieces, hashes and compresses each piece, and appends it to one file,
//! which is synced. A restore reads these pieces, decompresses and hashes them, and writes each to
//! its place. A comparison reads the file and hashes each block, as an increment does when nothing
//! tells it what changed. The fastest of several piece sizes and of one or two threads is the
//! bound.

use crate::Result;
use crate::verdict;
use crate::world::{self, World};
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

const PIECES: [usize; 3] = [256 << 10, 1 << 20, 4 << 20];
const THREADS: [usize; 2] = [1, 2];
const BLOCK_BYTES: usize = 4096;
const HUGE_PAGE_BYTES: usize = 2 << 20;

#[derive(Debug, clap::Args)]
pub(crate) struct Bound {
    /// The file to read
    file: PathBuf,
    /// Level of zstd
    #[arg(long, default_value_t = 3)]
    level: i32,
    /// Runs of each combination; the fastest counts
    #[arg(long, default_value_t = 2)]
    runs: usize,
}

impl Bound {
    /// Prints the bound. It can't fail a check.
    pub(crate) fn run(&self) -> Result<bool> {
        let world = World::new("bound")?;
        println!("{}, {}, zstd {}", verdict::machine(), self.file.display(), self.level);
        let mut best = [0.0f64; 3];
        for _ in 0..self.runs {
            for way in ways() {
                let rates = way.measure(&self.file, &world, self.level)?;
                println!("  {}", way.line(rates));
                for (best, rate) in best.iter_mut().zip([rates.backup, rates.restore, rates.comparison]) {
                    *best = best.max(rate);
                }
            }
        }
        let [backup, restore, comparison] = best;
        println!(
            "bound: backup {backup:.0} MB/s, restore {restore:.0} MB/s, comparison {comparison:.0} MB/s"
        );
        Ok(true)
    }
}

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

/// Rates in megabytes of the file per second, and the compression ratio.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rates {
    pub(crate) backup: f64,
    pub(crate) restore: f64,
    pub(crate) comparison: f64,
    pub(crate) ratio: f64,
}

/// Location of a piece in both files.
#[derive(Debug, Clone, Copy)]
struct Place {
    from: u64,
    at: u64,
    len: usize,
    hash: [u8; 32],
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

    /// Measures each operation once, with a cold cache.
    pub(crate) fn measure(self, file: &Path, world: &World, level: i32) -> Result<Rates> {
        let (packed, restored) = (world.path("packed"), world.path("restored"));
        let bytes = file.metadata()?.len();
        let rate = |begun: Instant| bytes as f64 / begun.elapsed().as_secs_f64() / 1e6;
        world::drop_cache(file)?;
        let begun = Instant::now();
        let places = self.backup(file, bytes, &packed, level)?;
        let backup = rate(begun);
        world::drop_cache(&packed)?;
        let begun = Instant::now();
        self.restore(&places, &packed, &restored)?;
        let restore = rate(begun);
        let ratio = bytes as f64 / packed.metadata()?.len() as f64;
        std::fs::remove_file(packed)?;
        std::fs::remove_file(restored)?;
        world::drop_cache(file)?;
        let begun = Instant::now();
        self.compare(file, bytes)?;
        Ok(Rates { backup, restore, comparison: rate(begun), ratio })
    }

    fn backup(self, file: &Path, bytes: u64, packed: &Path, level: i32) -> Result<Vec<Place>> {
        let (input, output) = (File::open(file)?, File::create(packed)?);
        let (next, end, places) = (AtomicU64::new(0), AtomicU64::new(0), Mutex::new(Vec::new()));
        self.threads(|| {
            let mut zstd = zstd::bulk::Compressor::new(level)?;
            let (mut raw, mut small) =
                (vec![0; self.piece], vec![0; zstd::zstd_safe::compress_bound(self.piece)]);
            let mut mine = Vec::new();
            loop {
                let from = next.fetch_add(self.piece as u64, Ordering::Relaxed);
                if from >= bytes {
                    break;
                }
                let raw = &mut raw[..self.piece.min((bytes - from) as usize)];
                input.read_exact_at(raw, from)?;
                let hash = Sha256::digest(&*raw).into();
                let len = zstd.compress_to_buffer(raw, &mut small)?;
                let at = end.fetch_add(len as u64, Ordering::Relaxed);
                output.write_all_at(&small[..len], at)?;
                mine.push(Place { from, at, len, hash });
            }
            places.lock().map_err(|_| "a thread died")?.extend(mine);
            Ok(())
        })?;
        output.sync_all()?;
        Ok(places.into_inner().map_err(|_| "a thread died")?)
    }

    fn restore(self, places: &[Place], packed: &Path, restored: &Path) -> Result<()> {
        let (input, output, next) = (File::open(packed)?, File::create(restored)?, AtomicU64::new(0));
        self.threads(|| {
            let mut zstd = zstd::bulk::Decompressor::new()?;
            let (mut raw, mut small) = (vec![0; self.piece], Vec::new());
            loop {
                let nth = next.fetch_add(1, Ordering::Relaxed) as usize;
                let Some(place) = places.get(nth) else { return Ok(()) };
                small.resize(place.len, 0);
                input.read_exact_at(&mut small, place.at)?;
                let len = zstd.decompress_to_buffer(&small, &mut raw)?;
                if <[u8; 32]>::from(Sha256::digest(&raw[..len])) != place.hash {
                    return Err("a restored piece differs".into());
                }
                output.write_all_at(&raw[..len], place.from)?;
            }
        })?;
        Ok(output.sync_all()?)
    }

    /// Reads past the page cache if the file system supports it, and into huge pages if the system
    /// has some: both are faster.
    fn compare(self, file: &Path, bytes: u64) -> Result<()> {
        let direct = rustix::fs::OFlags::DIRECT.bits() as i32;
        let input =
            OpenOptions::new().read(true).custom_flags(direct).open(file).or_else(|_| File::open(file))?;
        let next = AtomicU64::new(0);
        self.threads(|| {
            let mut room: Vec<u8> = Vec::with_capacity(self.piece + 2 * HUGE_PAGE_BYTES);
            let aligned = room.as_ptr().align_offset(HUGE_PAGE_BYTES);
            let len = self.piece.next_multiple_of(HUGE_PAGE_BYTES);
            #[expect(unsafe_code, reason = "advice for memory")]
            // SAFETY: the range is within the capacity, and the advice changes no content. If the
            // kernel refuses it, the pages are small.
            let _ = unsafe {
                let start = room.as_mut_ptr().add(aligned);
                rustix::mm::madvise(start.cast(), len, rustix::mm::Advice::LinuxHugepage)
            };
            room.resize(room.capacity(), 0);
            loop {
                let from = next.fetch_add(self.piece as u64, Ordering::Relaxed);
                if from >= bytes {
                    return Ok(());
                }
                let read = input.read_at(&mut room[aligned..][..self.piece], from)?;
                if read < self.piece.min((bytes - from) as usize) {
                    return Err("a read ended early".into());
                }
                for block in room[aligned..][..read].chunks(BLOCK_BYTES) {
                    black_box(Sha256::digest(block));
                }
            }
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
