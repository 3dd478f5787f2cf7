//! What a command took: time, processor time, memory of it and of every process below it.

use crate::Result;
use std::fs;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How often at most, and how often for its time so far: one that ends soon is looked at too.
const LOOK_EVERY: Duration = Duration::from_millis(10);
const LOOKS_MIN: u32 = 10;
/// Anonymous memory that any command of ours stays below, bytes.
pub(crate) const MEMORY_MAX: u64 = 256_000_000;
/// Linux counts a process's time in these, whatever the kernel ticks at.
const TICKS_A_SECOND: f64 = 100.0;

/// See the module's head.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    pub(crate) seconds: f64,
    pub(crate) cpu_seconds: f64,
    /// Its memory.
    pub(crate) memory: Memory,
}

/// Peaks of memory, bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Memory {
    /// Of the anonymous memory of all processes together, looked at every 10 ms.
    pub(crate) anonymous: u64,
    /// Of the resident memory of the process itself, with its program and what it mapped, as the kernel counted it.
    pub(crate) resident: u64,
}

/// Runs the command to its end, and then has everything that it wrote on the disk, which counts. An error if it fails.
pub(crate) fn of(command: &mut Command) -> Result<(Usage, Output)> {
    let (begun, before) = (Instant::now(), children_cpu()?);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let peak = Peak::of(child.id());
    let output = child.wait_with_output();
    let memory = peak.stop();
    let output = output?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    rustix::fs::sync();
    let seconds = begun.elapsed().as_secs_f64();
    Ok((Usage { seconds, cpu_seconds: children_cpu()? - before, memory }, output))
}

/// Looks at the anonymous memory of a process and of those below it.
#[derive(Debug)]
pub(crate) struct Peak {
    ended: Arc<AtomicBool>,
    looking: JoinHandle<Memory>,
}

impl Peak {
    /// Begins to look.
    pub(crate) fn of(pid: u32) -> Peak {
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ended);
        let looking = thread::spawn(move || {
            let (mut peak, begun) = (Memory::default(), Instant::now());
            while !seen.load(Ordering::Acquire) {
                peak.anonymous = peak.anonymous.max(anonymous_below(pid));
                peak.resident = peak.resident.max(of_status(pid, "VmHWM:"));
                thread::sleep(LOOK_EVERY.min(begun.elapsed() / LOOKS_MIN));
            }
            peak
        });
        Peak { ended, looking }
    }

    /// The most that was seen.
    pub(crate) fn stop(self) -> Memory {
        self.ended.store(true, Ordering::Release);
        self.looking.join().unwrap_or_default()
    }
}

/// Processor seconds of all processes that this one waited for.
fn children_cpu() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The name, in brackets, may hold anything.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = fields.get(13..15).ok_or("the kernel tells no times")?;
    let ticks = ticks.iter().map(|ticks| ticks.parse::<f64>()).sum::<std::result::Result<f64, _>>()?;
    Ok(ticks / TICKS_A_SECOND)
}

/// Anonymous memory of a process and of those below it, bytes; of one that has ended, nothing.
fn anonymous_below(pid: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let children = threads
        .map(|thread| fs::read_to_string(thread.path().join("children")).unwrap_or_default())
        .collect::<String>();
    let below = children.split_whitespace().filter_map(|child| child.parse().ok()).map(anonymous_below);
    of_status(pid, "RssAnon:") + below.sum::<u64>()
}

/// What the kernel says of a process's memory in the line with this name, bytes; of one that has ended, nothing.
fn of_status(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_watched_with_all_below_it() {
        let script = "sh -c 'x=$(head -c 20000000 /dev/zero | tr \"\\0\" x); sleep 0.3; true'; true";
        let (usage, _) = of(Command::new("sh").args(["-c", script])).unwrap();
        assert!(usage.seconds > 0.3 && usage.memory.anonymous > 20_000_000, "{usage:?}");
        assert!((500_000..20_000_000).contains(&usage.memory.resident), "{usage:?}");
        assert!(of(Command::new("false").arg("x")).is_err());
    }
}
