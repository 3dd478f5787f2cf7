//! Resource usage of a command: time, processor time, and memory of it and of all its descendants.

use crate::Result;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Interval between samples, and minimum number of samples in the time so far: a short command is
/// sampled too.
const SAMPLE_EVERY: Duration = Duration::from_millis(10);
const SAMPLES_MIN: u32 = 10;
/// Interval between samples of a folder's size.
const SAMPLE_DISK_EVERY: Duration = Duration::from_millis(500);
/// Limit of the anonymous memory of every pitr command, bytes.
pub(crate) const MEMORY_MAX: u64 = 256_000_000;
/// Linux reports a process's time in units of 1/100 s, independent of the kernel's tick rate.
const TICKS_A_SECOND: f64 = 100.0;

/// The usage of a command.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    pub(crate) seconds: f64,
    pub(crate) cpu_seconds: f64,
    /// Peak memory, bytes, sampled every 10 ms.
    pub(crate) memory: u64,
}

/// Returns the counted memory of a process, bytes.
pub(crate) type MemoryProbe = fn(u32) -> u64;

/// Like [`of_by`], with the anonymous memory of all processes.
pub(crate) fn of(command: &mut Command) -> Result<(Usage, Output)> {
    of_by(command, anonymous_below)
}

/// Runs the command to its end, and then syncs everything it wrote, which counts as its time. An
/// error if it fails.
pub(crate) fn of_by(command: &mut Command, probe: MemoryProbe) -> Result<(Usage, Output)> {
    of_with(command, probe, rustix::fs::sync)
}

/// Like [`of`], for a command that syncs what it writes.
pub(crate) fn of_durable(command: &mut Command) -> Result<(Usage, Output)> {
    of_with(command, anonymous_below, || {})
}

fn of_with(command: &mut Command, probe: MemoryProbe, sync: fn()) -> Result<(Usage, Output)> {
    let (begun, before) = (Instant::now(), children_cpu()?);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let peak = Peak::of(child.id(), probe);
    let output = child.wait_with_output();
    let memory = peak.stop();
    let output = output?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    sync();
    let seconds = begun.elapsed().as_secs_f64();
    Ok((Usage { seconds, cpu_seconds: children_cpu()? - before, memory }, output))
}

/// Samples the memory of a process repeatedly.
#[derive(Debug)]
pub(crate) struct Peak {
    ended: Arc<AtomicBool>,
    sampler: JoinHandle<u64>,
}

impl Peak {
    /// Starts to sample.
    pub(crate) fn of(pid: u32, probe: MemoryProbe) -> Peak {
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ended);
        let sampler = thread::spawn(move || {
            let (mut peak, begun) = (0, Instant::now());
            while !seen.load(Ordering::Acquire) {
                peak = peak.max(probe(pid));
                thread::sleep(SAMPLE_EVERY.min(begun.elapsed() / SAMPLES_MIN));
            }
            peak
        });
        Peak { ended, sampler }
    }

    /// Stops, and returns the peak, bytes.
    pub(crate) fn stop(self) -> u64 {
        self.ended.store(true, Ordering::Release);
        self.sampler.join().unwrap_or_default()
    }
}

/// Samples the size of a folder repeatedly.
#[derive(Debug)]
pub(crate) struct DiskPeak {
    ended: Arc<AtomicBool>,
    sampler: JoinHandle<u64>,
}

impl DiskPeak {
    /// Starts to sample.
    pub(crate) fn of(dir: &Path) -> DiskPeak {
        let ended = Arc::new(AtomicBool::new(false));
        let (seen, dir) = (Arc::clone(&ended), dir.to_owned());
        let sampler = thread::spawn(move || {
            let mut peak = 0;
            while !seen.load(Ordering::Acquire) {
                peak = peak.max(stored_below(&dir));
                thread::sleep(SAMPLE_DISK_EVERY);
            }
            peak
        });
        DiskPeak { ended, sampler }
    }

    /// Stops, and returns the peak, bytes.
    pub(crate) fn stop(self) -> u64 {
        self.ended.store(true, Ordering::Release);
        self.sampler.join().unwrap_or_default()
    }
}

/// Bytes that all files below a folder take on the disk. Files that vanish do not count.
fn stored_below(dir: &Path) -> u64 {
    const SECTOR_BYTES: u64 = 512;
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let of_entry = |entry: fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => stored_below(&entry.path()),
        Ok(meta) => meta.blocks() * SECTOR_BYTES,
        Err(_) => 0,
    };
    entries.map(of_entry).sum()
}

/// Processor seconds of all processes that this one has waited for.
fn children_cpu() -> Result<f64> {
    cpu_seconds("/proc/self/stat", 13)
}

/// Processor seconds of a process so far, in user and kernel mode.
pub(crate) fn cpu_seconds_of(pid: u32) -> Result<f64> {
    cpu_seconds(&format!("/proc/{pid}/stat"), 11)
}

/// Sum of two adjacent times of a stat file (see proc(5)), counted from the field after the name.
fn cpu_seconds(path: &str, first: usize) -> Result<f64> {
    let stat = fs::read_to_string(path)?;
    // The name, in parentheses, may contain any character.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = fields.get(first..first + 2).ok_or("the stat file has no times")?;
    let ticks = ticks.iter().map(|ticks| ticks.parse::<f64>()).sum::<std::result::Result<f64, _>>()?;
    Ok(ticks / TICKS_A_SECOND)
}

/// Anonymous memory of a process and its descendants, bytes; 0 if it has ended.
pub(crate) fn anonymous_below(pid: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let children = threads
        .map(|thread| fs::read_to_string(thread.path().join("children")).unwrap_or_default())
        .collect::<String>();
    let below = children.split_whitespace().filter_map(|child| child.parse().ok()).map(anonymous_below);
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let own = status.lines().find_map(|line| bytes_of(line, "RssAnon:"));
    own.unwrap_or_default() + below.sum::<u64>()
}

/// Resident memory of a process including its program, bytes. Mappings of unnamed files do not
/// count: they hold the index of chunks, on disk.
pub(crate) fn resident(pid: u32) -> u64 {
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap_or_default();
    let (mut sum, mut counts) = (0, true);
    for line in smaps.lines() {
        let is_head = line.split(' ').next().is_some_and(|word| !word.ends_with(':'));
        if is_head {
            counts = !line.ends_with(" (deleted)");
        } else if counts {
            sum += bytes_of(line, "Rss:").unwrap_or_default();
        }
    }
    sum
}

/// The number of bytes in the line of a kernel file that begins with this name.
fn bytes_of(line: &str, name: &str) -> Option<u64> {
    Some(line.strip_prefix(name)?.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitr_vfs::{Access, FileSystem, OsFs};

    #[test]
    fn the_usage_of_a_command_includes_its_descendants() {
        let script = "sh -c 'x=$(head -c 20000000 /dev/zero | tr \"\\0\" x); sleep 0.3; true'; true";
        let (usage, _) = of(Command::new("sh").args(["-c", script])).unwrap();
        assert!(usage.seconds > 0.3 && usage.memory > 20_000_000, "{usage:?}");
        assert!(of(Command::new("false").arg("x")).is_err());
    }

    #[test]
    fn the_peak_of_a_folder_includes_what_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        let file = dir.path().join("sub/file");
        fs::write(&file, vec![1; 1 << 20]).unwrap();
        fs::File::open(&file).unwrap().sync_all().unwrap();
        let peak = DiskPeak::of(dir.path());
        thread::sleep(2 * SAMPLE_DISK_EVERY);
        fs::remove_file(&file).unwrap();
        assert!(peak.stop() >= 1 << 20);
    }

    #[test]
    fn mapped_unnamed_files_are_not_resident_memory() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), vec![1; 64 << 20]).unwrap();
        let view = OsFs.open(file.path(), Access::Read).and_then(|file| file.view(64 << 20)).unwrap();
        let touched = view.iter().step_by(4096).map(|byte| u64::from(*byte)).sum::<u64>();
        let with_a_name = resident(std::process::id());
        file.close().unwrap();
        let without = resident(std::process::id());
        assert_eq!(touched, (64 << 20) / 4096);
        assert!(without > 1_000_000 && with_a_name > without + (50 << 20), "{with_a_name} {without}");
    }
}
