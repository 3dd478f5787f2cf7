//! The store is away while transactions commit. With an asynchronous archive they go on, and it
//! drains by itself. With a synchronous one the caller is told in time.

use super::Common;
use super::bank::{Bank, Outcome, quantile};
use super::place::{Place, Way};
use crate::Result;
use crate::moments::Rng;
use crate::verdict::Verdict;
use crate::world::World;
use pitr::engine::Event;
use pitr::format::{Lsn, SegmentSize};
use pitr::vfs::Env;
use pitr::wal::WalOptions;
use pitr::{AttachOptions, Attached, Error, Hint};
use pitr_testkit::proxy::Faults;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Pause between two commits.
const PAUSE: Duration = Duration::from_millis(10);
/// Time of undisturbed shipping before.
const BEFORE: Duration = Duration::from_secs(5);
/// Longest time from the return of the store until everything is archived.
const DRAIN_MAX: Duration = Duration::from_secs(120);
/// How long a synchronous commit waits for the store that is away.
const PATIENCE: Duration = Duration::from_secs(2);
/// How much longer it may take.
const TOLERANCE: Duration = Duration::from_millis(500);
/// Longest commit while the store is away. It waits for the local disk only.
const COMMIT_MAX: Duration = Duration::from_secs(2);
const MOMENTS: usize = 30;
const POLL: Duration = Duration::from_millis(5);

pub(super) fn run(common: &Common, seconds: u64, verdict: &mut Verdict) -> Result<()> {
    let world = World::new("archive-away")?;
    let place = Place::start(common.store, &world, Faults::none(common.seed))?;
    place.init()?;
    let proxy = place.proxy()?;
    let pitr = place.pitr(Way::ByProxy)?;
    let segment_bytes = SegmentSize::SMALL.bytes();
    let bank = Bank::create(&Env::system(), &world.path("store"), segment_bytes, WalOptions::default())?;
    let options = AttachOptions::new("reference").events(bank.events());
    let attached = pitr.attach(bank.wal(), &bank.source, options)?;
    attached.snapshot(&bank.store.begin_snapshot()?, Hint::Tracked)?;

    let ended = AtomicBool::new(false);
    thread::scope(|scope| -> Result<()> {
        let writing = scope.spawn(|| {
            let mut rng = Rng(common.seed);
            while !ended.load(Ordering::Acquire) {
                bank.commit(&mut rng).map_err(|error| error.to_string())?;
                thread::sleep(PAUSE);
            }
            Ok::<(), String>(())
        });
        let observed = observe(&bank, &attached, proxy, seconds, verdict);
        ended.store(true, Ordering::Release);
        writing.join().map_err(|_| "the writing thread died")??;
        observed
    })?;
    wait_for_callers(&bank, &attached, proxy, common.seed, verdict)?;
    let state = attached.stop()?;
    verdict.check(state.is_current(), format_args!("not everything is archived: {state:?}"));
    check_moments(&bank, &place, &world, common.seed, verdict)
}

/// Watches the archive before, while and after the store is away.
fn observe(
    bank: &Bank,
    attached: &Attached,
    proxy: &pitr_testkit::proxy::Proxy,
    seconds: u64,
    verdict: &mut Verdict,
) -> Result<()> {
    let lags = lags(bank, attached, BEFORE);
    verdict.figure(format_args!(
        "lag of the archive: median {:.2?}, 99% below {:.2?}",
        quantile(lags.clone(), 0.5),
        quantile(lags, 0.99)
    ));
    let before = bank.count();
    proxy.set_away(true);
    thread::sleep(Duration::from_secs(seconds));
    let commits = bank.commits().split_off(before);
    let longest = commits.iter().map(|made| made.took).max().unwrap_or_default();
    let state = attached.state();
    let behind = commits.iter().filter(|made| Some(made.lsn) > state.archived).count();
    let behind_bytes = state.durable.since(state.archived.unwrap_or(Lsn::ORIGIN));
    verdict.check(!commits.is_empty(), "nothing was committed while the store was away");
    verdict.check(longest < COMMIT_MAX, format_args!("a commit took {longest:.2?}"));
    verdict.check(behind + 100 > commits.len(), "commits were archived while the store was away");
    let is_told = state.failure.is_some() && bank.has_seen(|event| matches!(event, Event::ShipFailed(_)));
    verdict.check(is_told || seconds < 60, "nothing says that the archive fails");
    proxy.set_away(false);
    let (begun, durable) = (Instant::now(), bank.wal().durable());
    while attached.state().archived < Some(durable) {
        if begun.elapsed() > DRAIN_MAX {
            return Err(format!(
                "not archived {DRAIN_MAX:?} after the store is back: {:?}",
                attached.state()
            )
            .into());
        }
        thread::sleep(POLL);
    }
    verdict.figure(format_args!(
        "away for {seconds} s: {} commits, the longest {longest:.2?}, {} of them behind with {:.1} MB of log; drained {:.2?} after its return",
        commits.len(),
        behind,
        behind_bytes as f64 / 1e6,
        begun.elapsed()
    ));
    Ok(())
}

/// The times from a commit to its archival, for this long.
fn lags(bank: &Bank, attached: &Attached, time: Duration) -> Vec<Duration> {
    let (begun, mut next, mut lags) = (Instant::now(), bank.count(), Vec::new());
    while begun.elapsed() < time {
        let archived = attached.state().archived;
        for made in bank.commits().iter().skip(next).take_while(|made| Some(made.lsn) <= archived) {
            lags.push(made.at.elapsed());
            next += 1;
        }
        thread::sleep(POLL);
    }
    lags
}

/// Commits that are acknowledged only when they are archived.
fn wait_for_callers(
    bank: &Bank,
    attached: &Attached,
    proxy: &pitr_testkit::proxy::Proxy,
    seed: u64,
    verdict: &mut Verdict,
) -> Result<()> {
    let rng = &mut Rng(seed + 1);
    let mut waits = Vec::new();
    for _ in 0..50 {
        let (lsn, begun) = (bank.commit(rng)?.lsn, Instant::now());
        attached.wait_archived(lsn, DRAIN_MAX)?;
        waits.push(begun.elapsed());
    }
    proxy.set_away(true);
    let (lsn, begun) = (bank.commit(rng)?.lsn, Instant::now());
    let refused = attached.wait_archived(lsn, PATIENCE);
    let took = begun.elapsed();
    let is_clear = matches!(refused, Err(Error::ArchivePatience { lsn: named, .. }) if named == lsn);
    verdict.check(is_clear, format_args!("a synchronous commit without a store: {refused:?}"));
    verdict.check(took < PATIENCE + TOLERANCE, format_args!("it was told after {took:.2?}"));
    proxy.set_away(false);
    let back = Instant::now();
    attached.wait_archived(lsn, DRAIN_MAX)?;
    verdict.figure(format_args!(
        "synchronous: median {:.2?}, 99% below {:.2?}; away: told after {took:.2?}; archived {:.2?} after the return",
        quantile(waits.clone(), 0.5),
        quantile(waits, 0.99),
        back.elapsed()
    ));
    Ok(())
}

/// Random moments and the last one are restored exactly, without the proxy.
fn check_moments(bank: &Bank, place: &Place, world: &World, seed: u64, verdict: &mut Verdict) -> Result<()> {
    let pitr = place.pitr(Way::Direct)?;
    let count = bank.count();
    let mut moments = Rng(seed + 2).sample((0..count - 1).collect(), MOMENTS);
    moments.push(count - 1);
    // The snapshot was taken before the first commit.
    for nth in &moments {
        match bank.restore(&pitr, *nth, &world.path("restored")) {
            Ok(Outcome::Exact) => {}
            Ok(Outcome::Refused) => verdict.fail(format_args!("commit {nth} of {count} is refused")),
            Err(error) => verdict.fail(error),
        }
    }
    verdict.figure(format_args!("{} moments of {count} exact", moments.len()));
    Ok(())
}
