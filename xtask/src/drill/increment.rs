//! A full snapshot of a large file, then changes to a share of its pages at random places under a
//! watch. The increment stores little more than these pages take when compressed together, and
//! reads no unchanged page.
//!
//! Reads are observed from outside: the file is dropped from the page cache before the snapshot,
//! and pages in the cache afterwards were read.

use super::{Seed, Stage, judged, settle, stored_bytes};
use crate::Result;
use crate::application;
use crate::verdict::Verdict;
use crate::world::{bytes_below, drop_cache};
use pitr::exact;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;

const PAGE_BYTES: usize = 4096;
/// Pages that may be read besides the changed ones: the header, and the kernel's read-ahead.
const READ_BYTES_MAX: u64 = 1 << 20;
const STORED_RATIO_MAX: f64 = 1.1;

#[derive(Debug, clap::Args)]
pub(crate) struct Increment {
    /// Size of the database, MB
    #[arg(long, default_value_t = 1000)]
    pub(crate) megabytes: u32,
    /// Share of the file's pages that is changed
    #[arg(long, default_value_t = 0.05)]
    pub(crate) share: f64,
    /// Level of zstd that pitr stores with
    #[arg(long, default_value_t = 3)]
    pub(crate) level: i32,
    #[command(flatten)]
    pub(crate) seed: Seed,
}

impl Increment {
    pub(crate) fn run(&self) -> Result<bool> {
        let command = format!(
            "cargo xtask drill increment --megabytes {} --share {} --level {} --seed {}",
            self.megabytes, self.share, self.level, self.seed.seed
        );
        judged(&command, |verdict| self.body(verdict))
    }

    fn body(&self, verdict: &mut Verdict) -> Result<()> {
        let args = [self.megabytes.to_string(), self.share.to_string(), self.seed.seed.to_string()];
        let mut stage = Stage::new("increment", "increment.py", &args.each_ref().map(String::as_str))?;
        let watch = stage.program.watch(&stage.database, &[])?;
        stage.application.send("go")?;
        let done = stage.application.event("done")?;
        settle();
        watch.stop()?;
        let full = stage.source()?["snapshots"][0].clone();
        verdict.figure(format_args!(
            "first snapshot: {} of {} bytes",
            full["stored_bytes"], full["logical_bytes"]
        ));

        drop_cache(&stage.database)?;
        let before = snapshot_bytes(stage.program.repo())?;
        let backup = [Path::new("backup"), &stage.database];
        let called = stage.program.call(backup)?;
        let seconds = called.seconds;
        let answer = called.done()?;
        let read = resident(&stage.database)?;
        let grown = snapshot_bytes(stage.program.repo())? - before;

        let copy = application::path(&done, "copy")?;
        let (changed, together) =
            changed_pages(&application::path(&stage.ready, "before")?, &copy, self.level)?;
        let stored = stored_bytes(&answer)?;
        verdict.check(
            answer["kind"] == "incremental",
            format_args!("the second snapshot is {}", answer["kind"]),
        );
        verdict.figure(format_args!("{changed} pages changed, {together} bytes compressed together"));
        for (what, bytes) in [("stored", stored), ("repository grown by", grown)] {
            let ratio = bytes as f64 / together as f64;
            verdict.figure(format_args!("{what} {bytes} bytes ({ratio:.3} times)"));
            verdict.check(
                ratio < STORED_RATIO_MAX,
                format_args!("increment: {what} {ratio:.3} times the changed pages"),
            );
        }
        verdict.figure(format_args!("{read} bytes of the database read, {seconds:.2} s"));
        verdict
            .check(read <= READ_BYTES_MAX, format_args!("the increment read {read} bytes of the database"));

        let output = stage.world.path("latest.db");
        stage.program.restore("latest", &output, &[])?.done()?;
        if let Some(difference) = exact::compare(&output, &copy)? {
            verdict.fail(format_args!("latest: {difference}"));
        }
        Ok(())
    }
}

/// Number of pages that differ between two files of equal page size, and their size when compressed
/// as one.
fn changed_pages(before: &Path, after: &Path, level: i32) -> Result<(u64, u64)> {
    let (mut before, mut after) = (File::open(before)?, File::open(after)?);
    let mut together = zstd::Encoder::new(Vec::new(), level)?;
    let (mut old, mut new) = ([0; PAGE_BYTES], [0; PAGE_BYTES]);
    let mut changed = 0;
    loop {
        let had = read_page(&mut before, &mut old)?;
        if !read_page(&mut after, &mut new)? {
            return Ok((changed, together.finish()?.len() as u64));
        }
        if !had || old != new {
            together.write_all(&new)?;
            changed += 1;
        }
    }
}

fn read_page(file: &mut File, page: &mut [u8; PAGE_BYTES]) -> Result<bool> {
    match file.read_exact(page) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Size of everything in the repository other than the log, bytes.
fn snapshot_bytes(repo: &Path) -> Result<u64> {
    let mut bytes = bytes_below(repo)?;
    for source in std::fs::read_dir(repo.join("sources"))? {
        let log = source?.path().join("log");
        if log.exists() {
            bytes -= bytes_below(&log)?;
        }
    }
    Ok(bytes)
}

/// Bytes of `file` in the page cache.
fn resident(file: &Path) -> Result<u64> {
    let script = "\
import ctypes, mmap, os, sys
libc = ctypes.CDLL(None, use_errno=True)
size = os.path.getsize(sys.argv[1])
with open(sys.argv[1], 'rb') as f:
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    at = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, f.fileno(), 0)
    pages = (ctypes.c_ubyte * (-(-size // mmap.PAGESIZE)))()
    libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    assert libc.mincore(at, size, pages) == 0
    print(sum(page & 1 for page in bytes(pages)) * mmap.PAGESIZE)
";
    Ok(python(script, file)?.trim().parse()?)
}

fn python(script: &str, file: &Path) -> Result<String> {
    let output = Command::new("python3").args(["-c", script]).arg(file).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_and_added_pages_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let (before, after) = (dir.path().join("before"), dir.path().join("after"));
        let mut bytes = vec![7; 5 * PAGE_BYTES];
        std::fs::write(&before, &bytes).unwrap();
        bytes[2 * PAGE_BYTES] = 8;
        bytes.extend([9; PAGE_BYTES]);
        std::fs::write(&after, &bytes).unwrap();
        assert_eq!(changed_pages(&before, &after, 3).unwrap().0, 2);
    }

    #[test]
    fn read_pages_are_counted() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, vec![7; 64 * PAGE_BYTES]).unwrap();
        assert_eq!(resident(&file).unwrap(), 64 * PAGE_BYTES as u64);
        drop_cache(&file).unwrap();
        assert_eq!(resident(&file).unwrap(), 0);
    }
}
