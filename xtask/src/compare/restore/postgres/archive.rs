//! Where the base backup and the log are kept: in pgBackRest's repository, or as plain copies.

use super::cluster::Cluster;
use crate::Result;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

/// The documented settings for speed: files bundled, a fast compression, and the log transferred
/// ahead by two processes.
const SETTINGS: &str = "
repo1-bundle=y
repo1-retention-full=1
compress-type=lz4
process-max=2
start-fast=y
archive-async=y
archive-get-queue-max=1GiB
log-level-file=off
log-level-console=off
";
const PGBACKREST_SAID: &str = "with 2 processes, lz4, bundles and asynchronous archive: base by `backup`, log by `archive-push`, \
    `restore --type=time`, log by `archive-get`, which fetches up to 1 GiB ahead of the replay.";
const COPIES_SAID: &str = "pgBackRest is not installed: base by `pg_basebackup` plain, log by `cp`, both uncompressed; \
    restore: `cp -a` of the base, log by `cp`.";

#[derive(Debug)]
pub(super) enum Archive {
    PgBackRest { version: String },
    Copies,
}

impl Archive {
    /// pgBackRest if it is installed.
    pub(super) fn installed() -> Archive {
        match Command::new("pgbackrest").arg("version").output() {
            Ok(output) if output.status.success() => {
                Archive::PgBackRest { version: String::from_utf8_lossy(&output.stdout).trim().to_owned() }
            }
            _ => Archive::Copies,
        }
    }

    /// How it runs.
    pub(super) fn said(&self) -> String {
        match self {
            Archive::PgBackRest { version } => format!("{version} {PGBACKREST_SAID}"),
            Archive::Copies => COPIES_SAID.into(),
        }
    }

    /// The server's `archive_command`.
    pub(super) fn push(&self, cluster: &Cluster) -> String {
        let folder = cluster.folder();
        match self {
            Archive::PgBackRest { .. } => {
                format!("pgbackrest --config={folder}/pgbackrest.conf --stanza=main archive-push %p")
            }
            Archive::Copies => format!("cp %p {folder}/copies/log/%f"),
        }
    }

    /// Creates an empty archive.
    pub(super) fn create(&self, cluster: &Cluster) -> Result<()> {
        cluster.create_folder("copies")?;
        match self {
            Archive::PgBackRest { .. } => {
                let folder = cluster.folder();
                let paths = format!(
                    "repo1-path={folder}/copies\nspool-path={folder}/spool\nlock-path={folder}/lock\n\
                     [main]\npg1-path={folder}/data\npg1-socket-path={folder}\n"
                );
                fs::write(cluster.path("pgbackrest.conf"), format!("[global]{SETTINGS}{paths}"))?;
                cluster.create_folder("lock")?;
                pgbackrest(cluster, &["--no-online", "stanza-create"])
            }
            Archive::Copies => cluster.create_folder("copies/log"),
        }
    }

    /// Makes a base backup of the running server.
    pub(super) fn back_up(&self, cluster: &Cluster) -> Result<()> {
        match self {
            Archive::PgBackRest { .. } => pgbackrest(cluster, &["--type=full", "backup"]),
            Archive::Copies => {
                let mut command = cluster.command("pg_basebackup");
                cluster.run(command.args(["-D", "copies/base", "-X", "none", "-c", "fast"])).map(drop)
            }
        }
    }

    /// Puts the base into the folder `data`, and configures recovery to a time.
    pub(super) fn restore(&self, cluster: &Cluster, time: &str) -> Result<()> {
        match self {
            Archive::PgBackRest { .. } => {
                let target = format!("--target={time}");
                let to = ["--type=time", &target, "--target-action=promote", "--archive-mode=off"];
                pgbackrest(cluster, &[&to[..], &["restore"]].concat())
            }
            Archive::Copies => {
                cluster.run(cluster.command("cp").args(["-a", "copies/base/.", "data"]))?;
                cluster.configure(&format!(
                    "restore_command = 'cp {}/copies/log/%f %p'\nrecovery_target_time = '{time}'\n\
                     recovery_target_action = promote\narchive_mode = off\n",
                    cluster.folder()
                ))?;
                cluster.run(cluster.command("touch").arg("data/recovery.signal")).map(drop)
            }
        }
    }

    /// Ends background processes, and removes the log that they fetched.
    pub(super) fn settle(&self, cluster: &Cluster) -> Result<()> {
        if matches!(self, Archive::Copies) || !cluster.path("lock").exists() {
            return Ok(());
        }
        pgbackrest(cluster, &["--force", "stop"])?;
        // A process removes its lock when it ends.
        for _ in 0..1000 {
            let mut locks = fs::read_dir(cluster.path("lock"))?.flatten();
            if !locks.any(|entry| entry.path().extension().is_some_and(|ending| ending == "lock")) {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let spool = cluster.path("spool");
        if spool.exists() {
            fs::remove_dir_all(spool)?;
        }
        pgbackrest(cluster, &["start"])
    }
}

fn pgbackrest(cluster: &Cluster, args: &[&str]) -> Result<()> {
    let config = format!("--config={}/pgbackrest.conf", cluster.folder());
    cluster.run(cluster.command("pgbackrest").arg(config).arg("--stanza=main").args(args)).map(drop)
}
