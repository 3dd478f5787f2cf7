//! A process that writes, ships and merges, killed at random moments.

use super::Common;
use super::held::Held;
use super::part::{BEGIN, Ship};
use super::place::Place;
use super::segments::check_all;
use super::shipping::Shipping;
use crate::Result;
use crate::moments::Rng;
use crate::verdict::Verdict;
use crate::world::World;
use pitr::format::Lsn;
use pitr_testkit::proxy::Faults;
use std::collections::BTreeMap;
use std::time::Duration;

/// Maximum size of an object. Those that are shipped while the log is written slowly are smaller,
/// and are merged.
const OBJECT_BYTES: u32 = 16 << 10;
const DATA_BYTES: u64 = 1500;
/// Number of objects that are merged into one: few, so that merges are killed too.
const COMPACT: usize = 4;
/// Log that a process has to ship, bytes: a quarter of it at once, and a quarter slowly, twice.
const LOG_BYTES: u64 = 256 << 10;
/// Kills between two comparisons of the whole archive with the log.
const COMPARE_EVERY: u32 = 10;
/// A process may end before its kill. Attempts for each kill, at most.
const ATTEMPTS: u32 = 10;

/// Some requests fail. The delay puts kills between a request and its reply.
fn faults(seed: u64) -> Faults {
    Faults {
        latency: Duration::from_millis(1),
        jitter: Duration::from_millis(10),
        error: 0.02,
        throttle: 0.02,
        cut_response: 0.005,
        lose_reply: 0.02,
        ..Faults::none(seed)
    }
}

/// What the drill has seen.
#[derive(Debug, Default)]
struct Seen {
    kills: u32,
    /// Processes that ended before their kill.
    ended: u32,
    /// Kills after which the archive had more than was acknowledged.
    ahead: u32,
    /// Kills after which the archive had a hole before its end.
    holes: u32,
    twins: usize,
    failures: BTreeMap<String, u64>,
}

pub(super) fn run(common: &Common, kills: u32, verdict: &mut Verdict) -> Result<()> {
    let world = World::new("archive-kills")?;
    let place = Place::start(common.store, &world, faults(common.seed))?;
    place.init()?;
    let (mut seen, mut acknowledged) = (Seen::default(), Lsn::ORIGIN);
    let mut ship = Ship {
        url: place.url(),
        log: world.path("log"),
        until: 0,
        data_bytes: DATA_BYTES,
        slow_bytes: Some(LOG_BYTES / 4),
        large: 0,
        object_bytes: OBJECT_BYTES,
        uploads: common.uploads,
        compact: COMPACT,
        seed: common.seed,
    };
    let next = |acknowledged: Lsn| acknowledged.get().max(BEGIN) + LOG_BYTES;
    let rng = &mut Rng(common.seed);
    // The first one is not killed: it tells how long a process lives.
    ship.until = next(acknowledged);
    let first = Shipping::start(&place, &ship)?.finish()?;
    acknowledged = first.said.archived;
    let mut life = first.seconds;
    verdict.step(format_args!("a process lives {life:.2} s"));
    let mut attempts = 0;
    while seen.kills < kills && attempts < kills * ATTEMPTS {
        attempts += 1;
        ship.until = next(acknowledged);
        let at = Duration::from_micros(rng.below((life * 1e6) as u64));
        let (was_killed, ended) = Shipping::start(&place, &ship)?.kill_after(at)?;
        acknowledged = acknowledged.max(ended.said.archived);
        for (failure, count) in ended.said.failures {
            *seen.failures.entry(failure).or_default() += count;
        }
        if !was_killed {
            seen.ended += 1;
            life = (life + ended.seconds) / 2.0;
            continue;
        }
        seen.kills += 1;
        let compares = seen.kills.is_multiple_of(COMPARE_EVERY);
        check_after_kill(&place, &ship, acknowledged, compares, &mut seen, verdict)?;
    }
    verdict.check(seen.kills == kills, format_args!("{} of {kills} processes were killed", seen.kills));
    ship.until = next(acknowledged);
    let last = Shipping::start(&place, &ship)?.finish()?;
    let done = last.said.done.ok_or("the process did not report its end")?;
    let held = Held::load(&place)?;
    check_all(&held, &ship, done.durable, verdict)?;
    report(&held, &ship, &seen, verdict)
}

/// The archive loads, and has what was acknowledged. What counts equals the log.
fn check_after_kill(
    place: &Place,
    ship: &Ship,
    acknowledged: Lsn,
    compares: bool,
    seen: &mut Seen,
    verdict: &mut Verdict,
) -> Result<()> {
    let kills = seen.kills;
    let held = match Held::load(place) {
        Ok(held) => held,
        Err(error) => {
            verdict.fail(format_args!("the archive can't be read after kill {kills}: {error}"));
            return Ok(());
        }
    };
    let reached = held.reached();
    verdict.check(
        reached >= acknowledged,
        format_args!("after kill {kills} the archive ends at {reached}; acknowledged was {acknowledged}"),
    );
    seen.ahead += u32::from(reached > acknowledged);
    seen.holes += u32::from(held.end() > reached);
    seen.twins = held.catalog.twins().len();
    if compares && let Err(error) = held.compare(&ship.log) {
        verdict.fail(format_args!("after kill {kills}: {error}"));
    }
    Ok(())
}

fn report(held: &Held, ship: &Ship, seen: &Seen, verdict: &mut Verdict) -> Result<()> {
    let shipped = held.shipped();
    held.compare_these(shipped.iter().copied(), &ship.log)?;
    for (failure, count) in &seen.failures {
        verdict.step(format_args!("failed {count} times: {failure}"));
    }
    verdict.figure(format_args!(
        "{} kills ({} processes ended before): {} times the archive had more than was acknowledged, {} times a hole before its end; {} ranges stored twice with the same content",
        seen.kills, seen.ended, seen.ahead, seen.holes, seen.twins
    ));
    verdict.figure(format_args!(
        "{} objects shipped by {} writers, {} objects count, all equal to the log",
        shipped.len(),
        held.catalog.epochs().len(),
        held.count()
    ));
    let merged = held.merged();
    verdict.check(merged > 0, "nothing was merged: the drill proved nothing about it");
    verdict.figure(format_args!("{merged} merged objects, levels up to {}", held.level()));
    Ok(())
}
