//! A log of many small objects, shipped while most requests fail.

use super::held::Held;
use super::part::{BEGIN, Ship};
use super::place::Place;
use super::shipping::Shipping;
use super::{Common, MEMORY_MAX};
use crate::Result;
use crate::verdict::Verdict;
use crate::world::World;
use pitr::format::Lsn;
use pitr_testkit::proxy::{Fault, Faults, Kind};
use std::time::Instant;

/// Default size of an object, which begins at each multiple of this position.
pub(super) const OBJECT_BYTES: u32 = 4096;
/// Maximum size of a record, bytes.
const DATA_BYTES_MAX: u64 = 64 << 10;
/// Segments of the log have ends without a batch: one part in this many of it is added.
const SPARE_PART: u64 = 50;
/// Number of objects that are merged into one.
const COMPACT: usize = 64;
/// Merges, at most. Each reads that many objects, through the same faults.
const MERGES: u64 = 8;
/// Failures that are printed.
const FAILURES_SHOWN: usize = 5;

/// A quarter of the requests fails, three of ten are throttled, and one of a hundred has a response
/// that is cut or damaged.
fn faults(seed: u64) -> Faults {
    Faults {
        error: 0.25,
        throttle: 0.30,
        cut_response: 0.004,
        flip: 0.003,
        wrong_length: 0.003,
        cut_request: 0.005,
        lose_reply: 0.01,
        ..Faults::none(seed)
    }
}

pub(super) fn run(common: &Common, objects: u64, object_bytes: u32, verdict: &mut Verdict) -> Result<()> {
    let world = World::new("archive-segments")?;
    let place = Place::start(common.store, &world, faults(common.seed))?;
    place.init()?;
    let ship = Ship {
        url: place.url(),
        log: world.path("log"),
        until: BEGIN + (objects + objects / SPARE_PART + 2) * u64::from(object_bytes),
        // A batch is shorter than an object, so that each object has one.
        data_bytes: (u64::from(object_bytes) * 3 / 4).min(DATA_BYTES_MAX),
        slow_bytes: None,
        large: MERGES.min(objects / COMPACT as u64),
        object_bytes,
        uploads: common.uploads,
        compact: COMPACT,
        seed: common.seed,
    };
    let ended = Shipping::start(&place, &ship)?.finish()?;
    let failed: u64 = ended.said.failures.values().sum();
    for (failure, count) in ended.said.failures.iter().take(FAILURES_SHOWN) {
        verdict.step(format_args!("failed {count} times: {failure}"));
    }
    let counts = place.counts();
    counts.to_string().lines().for_each(|line| verdict.step(line));
    let of = |fault| counts.faults(fault);
    let corrupt = of(Fault::CutResponse) + of(Fault::Flip) + of(Fault::WrongLength);
    verdict.figure(format_args!(
        "{} requests ({} PUT, {} GET, {} HEAD, {} LIST), of which failed {}, throttled {}, cut or damaged {corrupt}, lost replies {}; {failed} calls failed and were repeated",
        counts.requests(),
        counts.of(Kind::Put).requests,
        counts.of(Kind::Get).requests,
        counts.of(Kind::Head).requests,
        counts.of(Kind::List).requests,
        of(Fault::Error),
        of(Fault::Throttle),
        of(Fault::LoseReply)
    ));
    let done = ended.said.done.ok_or("the process did not report its end")?;
    verdict.check(
        ended.said.archived == done.durable,
        format_args!("archived up to {}, and the log ends at {}", ended.said.archived, done.durable),
    );
    let held = Held::load(&place)?;
    check_all(&held, &ship, done.durable, verdict)?;
    let shipped = held.shipped();
    verdict.check(held.catalog.twins().is_empty(), format_args!("shipped twice: {:?}", held.catalog.twins()));
    verdict.check(
        shipped.len() as u64 >= objects,
        format_args!("{} objects were shipped, wanted {objects}", shipped.len()),
    );
    let follow = shipped.windows(2).all(|pair| pair[0].to == pair[1].from);
    verdict.check(follow, "the shipped objects overlap, or there is a hole between them");
    let begun = Instant::now();
    let compared = held.compare_these(shipped.iter().copied(), &ship.log)?;
    verdict.step(format_args!("all shipped objects compared in {:.1} s", begun.elapsed().as_secs_f64()));
    verdict.figure(format_args!(
        "{} objects with {:.1} MB of log shipped in {:.0} s and equal to it, {} merges; {} objects count",
        shipped.len(),
        compared as f64 / 1e6,
        ended.seconds,
        done.merges,
        held.count()
    ));
    verdict.figure(format_args!("at most {:.0} MB of anonymous memory", ended.memory as f64 / 1e6));
    verdict.check(ended.memory < MEMORY_MAX, format_args!("{} bytes of anonymous memory", ended.memory));
    Ok(())
}

/// The archive has all of the log, each byte once and unchanged.
pub(super) fn check_all(held: &Held, ship: &Ship, durable: Lsn, verdict: &mut Verdict) -> Result<()> {
    let reached = held.reached();
    verdict.check(
        reached == durable,
        format_args!("the archive has a hole at {reached}, and the log ends at {durable}"),
    );
    held.compare(&ship.log)?;
    held.verify()
}
