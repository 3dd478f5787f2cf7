//! A PostgreSQL cluster in the run's folder.

use super::archive::Archive;
use super::replayed;
use crate::Result;
use crate::world::{World, drop_cache_below};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const READY_AT_MOST: Duration = Duration::from_secs(1800);
const ARCHIVED_AT_MOST: Duration = Duration::from_secs(1200);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The server's message, in the locale that the cluster is created with.
const READY: &str = "database system is ready to accept connections";
const BLOCK_BYTES: usize = 8192;
const SETTINGS: &str = "
listen_addresses = ''
wal_level = replica
max_wal_senders = 2
archive_mode = on
shared_buffers = 1GB
max_wal_size = 100GB
checkpoint_timeout = 1h
synchronous_commit = off
autovacuum = off
hot_standby = off
";
/// Arguments of a server whose filled table is not logged: the archive starts with the base.
pub(super) const WITHOUT_LOG: &[&str] =
    &["-c", "wal_level=minimal", "-c", "max_wal_senders=0", "-c", "archive_mode=off"];

/// Version of the newest installed server.
pub(super) fn version() -> Option<String> {
    let output = Command::new(programs().join("postgres")).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().nth(2).map(str::to_owned)
}

/// The folder of the newest installed server's programs; empty if they are in the search path.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let number = |path: &PathBuf| path.file_name()?.to_str()?.parse::<f64>().ok();
    let newest = versions
        .map(|entry| entry.path())
        .filter_map(|path| Some((number(&path)?, path)))
        .max_by(|(a, _), (b, _)| a.total_cmp(b));
    newest.map_or_else(PathBuf::new, |(_, folder)| folder.join("bin"))
}

/// Programs and folder of a cluster.
pub(super) struct Cluster {
    programs: PathBuf,
    dir: PathBuf,
    /// The user and group that run the programs, if this process is root.
    user: Option<(u32, u32)>,
    pub(super) archive: Archive,
}

/// A running server; stopped without a checkpoint when dropped.
pub(super) struct Server<'c> {
    cluster: &'c Cluster,
    child: Child,
}

/// A recovered server.
pub(super) struct Recovered<'c> {
    pub(super) running: Server<'c>,
    /// Seconds until it accepted connections, and until the base was copied.
    pub(super) seconds: f64,
    pub(super) copied: f64,
    /// Bytes of log, and seconds of replay.
    pub(super) log: (u64, f64),
}

impl Cluster {
    /// Creates an empty cluster in the folder `data`.
    pub(super) fn create(world: &World) -> Result<Cluster> {
        let dir: PathBuf = world.path("").components().collect();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))?;
        let user = if rustix::process::geteuid().is_root() { Some((id("-u")?, id("-g")?)) } else { None };
        let cluster = Cluster { programs: programs(), dir, user, archive: Archive::installed() };
        cluster.own("")?;
        let mut initdb = cluster.command("initdb");
        cluster.run(initdb.args([
            "-D",
            "data",
            "-A",
            "trust",
            "--no-sync",
            "--encoding=UTF8",
            "--locale=C",
        ]))?;
        let (folder, push) = (cluster.folder(), cluster.archive.push(&cluster));
        cluster.configure(&format!(
            "{SETTINGS}unix_socket_directories = '{folder}'\narchive_command = '{push}'\n"
        ))?;
        Ok(cluster)
    }

    pub(super) fn folder(&self) -> String {
        self.dir.to_string_lossy().into_owned()
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The folder of the base backup and the archived log.
    pub(super) fn copies(&self) -> PathBuf {
        self.path("copies")
    }

    /// Creates a folder that the server's user can write.
    pub(super) fn create_folder(&self, name: &str) -> Result<()> {
        fs::create_dir(self.path(name))?;
        self.own(name)
    }

    fn own(&self, name: &str) -> Result<()> {
        match self.user {
            Some((user, group)) => Ok(chown(self.path(name), Some(user), Some(group))?),
            None => Ok(()),
        }
    }

    /// A command in the cluster's folder, as a user that may run PostgreSQL.
    pub(super) fn command(&self, program: &str) -> Command {
        let own = self.programs.join(program);
        let mut command = Command::new(if own.exists() { own } else { program.into() });
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        command.env("PGHOST", &self.dir).env("PGPORT", "5432").env("PGDATABASE", "postgres");
        command.env_remove("PGUSER").current_dir(&self.dir).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end and returns its output.
    pub(super) fn run(&self, command: &mut Command) -> Result<String> {
        let name = command.get_program().to_string_lossy().into_owned();
        let output = command.output().map_err(|error| format!("{name}: {error}"))?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
            false => Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr)).into()),
        }
    }

    /// Adds to the settings in the folder `data`.
    pub(super) fn configure(&self, settings: &str) -> Result<()> {
        let path = self.path("data/postgresql.conf");
        Ok(OpenOptions::new().append(true).open(path)?.write_all(settings.as_bytes())?)
    }

    /// Starts a server on the folder `data`, and waits until it accepts connections.
    pub(super) fn start(&self, args: &[&str]) -> Result<Server<'_>> {
        let log = File::create(self.path("server.log"))?;
        let mut command = self.command("postgres");
        command.args(["-D", "data"]).args(args).stdout(Stdio::null()).stderr(log);
        let mut server =
            Server { cluster: self, child: command.spawn().map_err(|error| format!("postgres: {error}"))? };
        let begun = Instant::now();
        // Asking the server instead takes processor time from the recovery.
        while !self.log().contains(READY) {
            if begun.elapsed() > READY_AT_MOST || server.child.try_wait()?.is_some() {
                return Err(format!("the server did not start: {}", self.last_words()).into());
            }
            thread::sleep(LOOK_EVERY);
        }
        Ok(server)
    }

    /// What the server has said since its start.
    fn log(&self) -> String {
        fs::read_to_string(self.path("server.log")).unwrap_or_default()
    }

    fn last_words(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(6)..].join("\n")
    }

    /// A session that stops at the first error and prints plain rows.
    pub(super) fn session(&self) -> Command {
        let mut command = self.command("psql");
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]);
        command
    }

    pub(super) fn ask(&self, query: &str) -> Result<String> {
        self.run(self.session().args(["-c", query])).map_err(|error| format!("{query}: {error}").into())
    }

    /// Number and hash of all rows.
    pub(super) fn state(&self) -> Result<String> {
        self.ask(
            "SELECT count(*), sum(hashtextextended(id || content, 0)::numeric), (SELECT commits FROM progress) FROM entries",
        )
    }

    /// Ends the segment, and waits until it is archived.
    pub(super) fn archive_all(&self) -> Result<()> {
        let last = self.ask("SELECT pg_walfile_name(pg_switch_wal())")?;
        let begun = Instant::now();
        while self.ask("SELECT last_archived_wal FROM pg_stat_archiver")? < last {
            if begun.elapsed() > ARCHIVED_AT_MOST {
                return Err(format!("the last segment was not archived: {}", self.last_words()).into());
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Number of the database's blocks that changed after a position of the log: a block begins
    /// with the position of its last change.
    pub(super) fn changed_since(&self, from: u64) -> Result<u64> {
        self.ask("CHECKPOINT")?;
        let table = self.path("data").join(self.ask("SELECT pg_relation_filepath('entries')")?);
        let (mut changed, mut block) = (0, [0; BLOCK_BYTES]);
        for entry in fs::read_dir(table.parent().unwrap_or(&table))? {
            let mut file = std::io::BufReader::with_capacity(1 << 20, File::open(entry?.path())?);
            while file.read_exact(&mut block).is_ok() {
                changed += u64::from(changed_at(&block) > from);
            }
        }
        Ok(changed)
    }

    /// Restores the base, and recovers it to a time.
    pub(super) fn recover(&self, time: &str) -> Result<Recovered<'_>> {
        fs::remove_dir_all(self.path("data"))?;
        self.create_folder("data")?;
        fs::set_permissions(self.path("data"), fs::Permissions::from_mode(0o700))?;
        rustix::fs::sync();
        drop_cache_below(&self.copies())?;
        let begun = Instant::now();
        self.archive.restore(self, time)?;
        let copied = begun.elapsed().as_secs_f64();
        let running = self.start(&[])?;
        rustix::fs::sync();
        let seconds = begun.elapsed().as_secs_f64();
        let log = replayed(&self.log())?;
        Ok(Recovered { running, seconds, copied, log })
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::QUIT);
        let _ = self.child.wait();
        let _ = self.cluster.archive.settle(self.cluster);
    }
}

/// A number that identifies the user `postgres`.
fn id(which: &str) -> Result<u32> {
    let output = Command::new("id").args([which, "postgres"]).output()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    text.parse().map_err(|_| "there is no user postgres, and root may not run the server".into())
}

/// The position of a block's last change: two numbers of 32 bits in the machine's order.
fn changed_at(block: &[u8; BLOCK_BYTES]) -> u64 {
    let half = |at: usize| u32::from_ne_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
    u64::from(half(0)) << 32 | u64::from(half(4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_s_position_is_read() {
        let mut block = [0xff; BLOCK_BYTES];
        block[..4].copy_from_slice(&1u32.to_ne_bytes());
        block[4..8].copy_from_slice(&0x300_0000u32.to_ne_bytes());
        assert_eq!(changed_at(&block), super::super::position("1/3000000").unwrap());
    }
}
