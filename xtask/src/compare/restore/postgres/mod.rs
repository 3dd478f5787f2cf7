//! PostgreSQL: a base backup, its archived log, and recovery to a time.
//!
//! The server runs in the run's folder, listens on a socket there only, and is stopped at the end.
//! It does not run as root: for root, PostgreSQL's own user runs it.

mod archive;
mod cluster;
mod session;

use super::{Changes, Moment, Outcome, Work};
use crate::Result;
use crate::world::{World, bytes_below};
use cluster::Cluster;
use session::Session;
use std::thread;
use std::time::Duration;

/// Transactions after the target.
const AFTER: u64 = 50;
/// Distance of the target from the commits around it.
const PAUSE: Duration = Duration::from_millis(200);
const SETTINGS_SAID: &str = "`shared_buffers = 1GB`, full-page images, fsync on, no restart point during recovery; until the server accepts connections. \
    The log's seconds are the server's own `redo done ... elapsed`, which includes waiting for `restore_command`. \
    Writing: `synchronous_commit = off`, no autovacuum, no checkpoint after the base. Target by time.";

pub(super) fn restore(work: Work) -> Result<Option<Outcome>> {
    let Some(version) = cluster::version() else { return Ok(None) };
    let world = World::new("restore-postgres")?;
    let cluster = Cluster::create(&world)?;
    let mut session = Session::new(&cluster, work.seed);
    let filling = cluster.start(cluster::WITHOUT_LOG)?;
    session.fill(work.sizes.base.bytes())?;
    let base = cluster.ask("SELECT pg_total_relation_size('entries')")?.parse()?;
    drop(filling);

    cluster.archive.create(&cluster)?;
    let writing = cluster.start(&[])?;
    cluster.archive.back_up(&cluster)?;
    let base_end = position(&cluster.ask("SELECT pg_current_wal_lsn()")?)?;
    let (moment, wanted) = session.write_until(work.target_at())?;
    let (commits, rows) = (session.commits, session.changed_rows);
    thread::sleep(PAUSE);
    let (target, state) = (cluster.ask("SELECT clock_timestamp()")?, cluster.state()?);
    thread::sleep(PAUSE);
    session.write_commits(AFTER)?;
    cluster.archive_all()?;
    drop(writing);

    let whole = cluster.recover(&target)?;
    let difference = (cluster.state()? != state).then(|| "the rows differ".to_owned());
    let pages = cluster.changed_since(base_end)?;
    drop(whole.running);
    let of_moment = cluster.recover(&moment)?;
    let found = Some(cluster.ask("SELECT commits FROM progress")?.parse()?);
    drop(of_moment.running);
    Ok(Some(Outcome {
        name: format!("postgres {version}"),
        changes: Changes { base, commits, rows, pages },
        seconds: whole.seconds,
        base_seconds: Some(whole.copied),
        log: Some(whole.log),
        stored: bytes_below(&cluster.copies())?,
        difference,
        by_time: Some(Moment { wanted, found }),
        by_transaction: None,
        settings: format!("{} {SETTINGS_SAID}", cluster.archive.said()),
    }))
}

/// Bytes and seconds of replay, from the server's log.
fn replayed(log: &str) -> Result<(u64, f64)> {
    let after =
        |mark: &str| log.split(mark).nth(1).ok_or_else(|| format!("the server's log has no {mark:?}"));
    let (from, to) = (after("redo starts at ")?, after("redo done at ")?);
    let seconds =
        to.split("elapsed: ").nth(1).and_then(|rest| rest.split(' ').next()).ok_or("no elapsed time")?;
    Ok((position(to)?.saturating_sub(position(from)?), seconds.parse()?))
}

/// A position of PostgreSQL's log, such as `0/2000028`, at the begin of a text.
fn position(text: &str) -> Result<u64> {
    let word = text.split_whitespace().next().unwrap_or_default();
    let (high, low) = word.split_once('/').ok_or_else(|| format!("{word:?} is no position"))?;
    Ok(u64::from(u32::from_str_radix(high, 16)?) << 32 | u64::from(u32::from_str_radix(low, 16)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_replay_is_read_from_the_server_s_log() {
        let log = "x LOG:  redo starts at 0/2000028\ny\nx LOG:  redo done at 1/3000000 system usage: CPU: user: 1.00 s, system: 0.50 s, elapsed: 9.25 s\n";
        assert_eq!(replayed(log).unwrap(), (0x1_0300_0000 - 0x200_0028, 9.25));
        assert!(replayed("redo starts at 0/2000028").is_err());
        assert!(position("12").is_err() && position("1/100000000").is_err());
    }
}
