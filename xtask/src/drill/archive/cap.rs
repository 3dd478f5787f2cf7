//! The store is away until the local log reaches its maximum size and drops the archiver's slot.
//! The gap is reported and a new base is taken. Moments outside the gap are exact; those inside are
//! refused.

use super::Common;
use super::bank::{Bank, Outcome};
use super::place::{Place, Way};
use crate::Result;
use crate::moments::Rng;
use crate::verdict::Verdict;
use crate::world::World;
use pitr::engine::Event;
use pitr::format::Lsn;
use pitr::format::record::GapReason;
use pitr::vfs::Env;
use pitr::wal::WalOptions;
use pitr::{AttachOptions, Attached, Hint};
use pitr_testkit::proxy::Faults;
use std::thread;
use std::time::{Duration, Instant};

const SEGMENT_BYTES: u32 = 64 << 10;
const SEGMENTS_MAX: u32 = 8;
/// Commits before, after, and in each round without the store.
const COMMITS: usize = 200;
/// Commits before the store goes away that wait together until they are archived.
const STEP: usize = 20;
/// Rounds after which the slot must be dropped.
const ROUNDS_MAX: usize = 100;
const SHIP_EVERY: Duration = Duration::from_millis(100);
const DRAIN_MAX: Duration = Duration::from_secs(120);
/// Moments that are restored of each part.
const MOMENTS: usize = 15;

/// The commits, by what must become of them.
struct Parts {
    /// Commits below this number were archived before the store went away.
    before: usize,
    /// Commits that were made without the store, up to here.
    without: usize,
    /// Commits from this number on are in the new base or after it.
    after: usize,
    /// Everything below was removed from the log.
    lost_to: Lsn,
}

pub(super) fn run(common: &Common, verdict: &mut Verdict) -> Result<()> {
    let world = World::new("archive-cap")?;
    let place = Place::start(common.store, &world, Faults::none(common.seed))?;
    place.init()?;
    let pitr = place.pitr(Way::ByProxy)?;
    let wal = WalOptions { segments_max: Some(SEGMENTS_MAX), ..WalOptions::default() };
    let bank = Bank::create(&Env::system(), &world.path("store"), SEGMENT_BYTES, wal)?;
    let options =
        AttachOptions::new("reference").ship_every(Some(SHIP_EVERY)).accept_gaps(true).events(bank.events());
    let attached = pitr.attach(bank.wal(), &bank.source, options)?;
    attached.snapshot(&bank.store.begin_snapshot()?, Hint::Tracked)?;
    let parts = live(&bank, &attached, &place, common.seed, verdict)?;
    let state = attached.stop()?;
    verdict.check(state.is_current(), format_args!("not everything is archived: {state:?}"));
    check(&bank, &place, &world, &parts, common.seed, verdict)
}

fn live(bank: &Bank, attached: &Attached, place: &Place, seed: u64, verdict: &mut Verdict) -> Result<Parts> {
    let (rng, proxy) = (&mut Rng(seed), place.proxy()?);
    let mut commits = |count: usize| -> Result<()> {
        (0..count).try_for_each(|_| bank.commit(rng).map(drop))?;
        // The engine itself needs no more log than this.
        Ok(bank.store.checkpoint()?)
    };
    // In steps: on a busy machine the log would be full before any of it is archived.
    for _ in 0..COMMITS / STEP {
        commits(STEP)?;
        drain(bank, attached)?;
    }
    let before = bank.count();
    verdict.check(!attached.needs_snapshot()?, "a snapshot is needed before there is a gap");

    proxy.set_away(true);
    let slot = |bank: &Bank| {
        let slots = bank.wal().slots();
        slots.into_iter().find(|slot| slot.name == AttachOptions::SLOT).ok_or("there is no slot")
    };
    let mut rounds = 0;
    while !slot(bank)?.is_dropped {
        commits(COMMITS)?;
        rounds += 1;
        if rounds > ROUNDS_MAX {
            return Err(format!("the log does not drop its slot: {:?}", slot(bank)?).into());
        }
    }
    commits(COMMITS)?;
    let (without, lost_to) = (bank.count(), bank.wal().first());
    verdict.step(format_args!("the slot was dropped after {} commits without the store", without - before));
    let segments = bank.wal().stats().segments;
    verdict
        .check(segments as u64 <= u64::from(SEGMENTS_MAX), format_args!("the log has {segments} segments"));
    let is_current = attached.state().is_current();
    verdict.check(!is_current, "the state says that lost log is archived");

    proxy.set_away(false);
    drain(bank, attached)?;
    let is_told = bank.has_seen(|event| matches!(event, Event::Gap(GapReason::LogFull)));
    verdict.check(is_told, "no event reports the gap");
    verdict.check(attached.needs_snapshot()?, "no snapshot is needed after the gap");
    let snapshot = attached.snapshot(&bank.store.begin_snapshot()?, Hint::Tracked)?;
    verdict.check(!attached.needs_snapshot()?, "a snapshot is needed after the new base");
    let after = bank.commits().partition_point(|made| made.lsn < snapshot.meta.consistent_at);
    (0..COMMITS).try_for_each(|_| bank.commit(rng).map(drop))?;
    Ok(Parts { before, without, after, lost_to })
}

/// Waits until everything that is durable now is archived.
fn drain(bank: &Bank, attached: &Attached) -> Result<()> {
    let (begun, durable) = (Instant::now(), bank.wal().durable());
    while attached.state().archived < Some(durable) {
        if begun.elapsed() > DRAIN_MAX {
            return Err(format!("not archived after {DRAIN_MAX:?}: {:?}", attached.state()).into());
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn check(
    bank: &Bank,
    place: &Place,
    world: &World,
    parts: &Parts,
    seed: u64,
    verdict: &mut Verdict,
) -> Result<()> {
    let pitr = place.pitr(Way::Direct)?;
    let history = pitr.history(&bank.source, None)?;
    let (commits, count) = (bank.commits(), bank.count());
    verdict.check(
        history.coverage().gaps.len() == 1,
        format_args!("the gaps are {:?}", history.coverage().gaps),
    );
    let (rng, output) = (&mut Rng(seed + 1), world.path("restored"));
    let mut restore = |range: std::ops::Range<usize>, verdict: &mut Verdict| -> (Vec<usize>, Vec<usize>) {
        let (mut exact, mut refused) = (Vec::new(), Vec::new());
        let last = range.end.checked_sub(1);
        let mut moments = rng.sample(range.collect(), MOMENTS);
        moments.extend(last.filter(|last| !moments.contains(last)));
        for nth in moments {
            match bank.restore(&pitr, nth, &output) {
                Ok(Outcome::Exact) => exact.push(nth),
                Ok(Outcome::Refused) => refused.push(nth),
                Err(error) => verdict.fail(error),
            }
        }
        (exact, refused)
    };
    for (name, range) in [("before", 0..parts.before), ("after", parts.after..count)] {
        let (exact, refused) = restore(range, verdict);
        verdict.check(refused.is_empty(), format_args!("refused {name} the gap: {refused:?}"));
        verdict.figure(format_args!("{name} the gap: {} moments exact", exact.len()));
    }
    // Objects that were built before the slot was dropped are put when the store is back: the gap
    // begins after them.
    let gap = history.coverage().gaps.first().ok_or("there is no gap")?;
    let begins = commits.partition_point(|made| made.lsn <= gap.from);
    let lost = commits.partition_point(|made| made.lsn < parts.lost_to);
    verdict.check(
        parts.before <= begins && begins < lost,
        format_args!("the gap begins at commit {begins}, and {} to {lost} were removed", parts.before),
    );
    let (exact, refused) = restore(parts.before..begins, verdict);
    verdict.check(refused.is_empty(), format_args!("archived, and refused: {refused:?}"));
    verdict.step(format_args!("without the store, before the gap: {} exact", exact.len()));
    let (exact, refused) = restore(begins..parts.after, verdict);
    verdict.check(exact.is_empty(), format_args!("restored inside the gap: {exact:?}"));
    verdict.figure(format_args!(
        "{} commits without the store, {} lost; inside the gap: {} moments refused",
        parts.without - parts.before,
        lost - begins,
        refused.len()
    ));
    Ok(())
}
