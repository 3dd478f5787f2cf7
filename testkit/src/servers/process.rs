//! Processes that never outlive the test.

use rustix::process::{Pid, Signal, kill_process_group};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Ports below those that the system gives to outgoing connections: a server that restarts finds
/// its port free.
const PORTS: std::ops::Range<u32> = 12_000..32_000;

/// The shell ends when its input does, which is when this process has ended, however that happened.
/// Then it kills the group.
const GUARD: &str = "cat >/dev/null; kill -KILL -\"$1\" 2>/dev/null";

/// A process and all that it starts. They are killed when this value is dropped.
#[derive(Debug)]
pub(super) struct Group {
    leader: Child,
    /// Kills the group if this process is killed.
    guard: Child,
}

impl Group {
    pub(super) fn start(command: &mut Command) -> Result<Group, String> {
        let program = command.get_program().to_string_lossy().into_owned();
        let mut leader = command.process_group(0).spawn().map_err(|error| format!("{program}: {error}"))?;
        let guard = Command::new("sh")
            .args(["-c", GUARD, "sh", &leader.id().to_string()])
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match guard {
            Ok(guard) => Ok(Group { leader, guard }),
            Err(error) => {
                let _ = leader.kill();
                let _ = leader.wait();
                Err(format!("sh: {error}"))
            }
        }
    }

    /// How the process ended; `None` while it runs.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.leader.try_wait().ok().flatten()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The guard goes first: afterwards the number of the group may be used again.
        kill(&mut self.guard);
        kill(&mut self.leader);
    }
}

/// Kills a process and its group.
fn kill(leader: &mut Child) {
    if let Some(group) = i32::try_from(leader.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = leader.wait();
}

/// Different ports of 127.0.0.1 on which nobody listens.
pub(super) fn free_ports(count: usize) -> Result<Vec<u16>, String> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mut held = Vec::new();
    // Processes that start at the same time begin at different places.
    let begin = std::process::id().wrapping_mul(1_009);
    for _ in PORTS {
        let number = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % (PORTS.end - PORTS.start);
        let Ok(port) = u16::try_from(PORTS.start + number) else { continue };
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            held.push((port, listener));
        }
        if held.len() == count {
            return Ok(held.into_iter().map(|(port, _)| port).collect());
        }
    }
    Err(format!("127.0.0.1 has no {count} free ports"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::time::{Duration, Instant};

    /// A shell that starts a process, prints its number and waits.
    fn family() -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 600 & echo $!; wait"]).stdout(Stdio::piped());
        command
    }

    fn child_of(group: &mut Group) -> String {
        let mut number = String::new();
        let output = group.leader.stdout.as_mut().unwrap();
        while !number.ends_with('\n') {
            let mut byte = [0];
            output.read_exact(&mut byte).unwrap();
            number.push(char::from(byte[0]));
        }
        number.trim().to_owned()
    }

    fn ends(process: &str) -> bool {
        let until = Instant::now() + Duration::from_secs(20);
        // A zombie has ended, too.
        let runs = || {
            std::fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(|stat| !stat.contains(") Z"))
        };
        while runs() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        !runs()
    }

    #[test]
    fn a_dropped_group_leaves_no_process() {
        let mut group = Group::start(&mut family()).unwrap();
        let child = child_of(&mut group);
        assert!(group.ended().is_none());
        drop(group);
        assert!(ends(&child));
    }

    #[test]
    fn the_guard_kills_the_group_when_its_input_ends() {
        let mut group = Group::start(&mut family()).unwrap();
        let child = child_of(&mut group);
        drop(group.guard.stdin.take()); // as if this process had been killed
        assert!(ends(&child));
        group.leader.wait().unwrap();
    }

    #[test]
    fn ports_are_free_and_different() {
        let ports = free_ports(10).unwrap();
        let again = free_ports(10).unwrap();
        let mut all: Vec<u16> = ports.iter().chain(&again).copied().collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 20);
        let held = TcpListener::bind((Ipv4Addr::LOCALHOST, ports[0])).unwrap();
        drop(held);
    }
}
