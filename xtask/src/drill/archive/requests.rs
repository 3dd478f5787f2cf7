//! Requests to the store, and their price: of a day of archiving, of opening a repository, and of a
//! restore. The rate of the restore is compared with plain reads of the same objects.

use super::bank::Bank;
use super::place::{Place, Way};
use super::{Common, throughput};
use crate::Result;
use crate::drill::Stage;
use crate::moments::Rng;
use crate::program::Program;
use crate::size::Size;
use crate::verdict::Verdict;
use crate::world::World;
use pitr::format::{SegmentSize, Timestamp};
use pitr::recovery::Target;
use pitr::vfs::{Clock, Env, SystemClock};
use pitr::wal::WalOptions;
use pitr::{AttachOptions, Attached};
use pitr_testkit::proxy::{Counts, Faults, Kind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const DAY_SECONDS: u64 = 86_400;
/// Prices of Amazon S3 Standard in us-east-1, USD for 1000 requests: PUT and LIST, GET and HEAD.
const PUT_PRICE: f64 = 0.005;
const GET_PRICE: f64 = 0.0004;
/// GETs of an opening, at most.
const OPENING_MAX: u64 = 9;
/// Shipments of the first day that are counted, by default.
pub(super) const SHIPMENTS: u64 = 4096;

/// A way to archive for a day.
struct Day {
    name: &'static str,
    /// Time between two shipments, seconds.
    every: u64,
    /// Commits between two shipments; none on an idle day.
    commits: u64,
    /// Shipments that are counted. Enough for merges of several levels, where a day has them.
    shipments: u64,
    /// PUTs of a day, at most.
    puts_max: u64,
}

const DAYS: [Day; 3] = [
    Day { name: "a commit a second, RPO 1 s", every: 1, commits: 1, shipments: SHIPMENTS, puts_max: 100_000 },
    Day { name: "a commit a second, RPO 60 s", every: 60, commits: 60, shipments: 192, puts_max: 2000 },
    Day { name: "idle", every: 60, commits: 0, shipments: 192, puts_max: 1500 },
];

/// The clock of the machine, and the time that the drill has added.
#[derive(Debug, Default)]
struct Moved {
    real: SystemClock,
    added_us: AtomicU64,
}

impl Moved {
    fn pass(&self, time: Duration) {
        self.added_us.fetch_add(time.as_micros() as u64, Ordering::Relaxed);
    }
}

impl Clock for Moved {
    fn now(&self) -> Timestamp {
        let added = self.added_us.load(Ordering::Relaxed);
        Timestamp::from_micros(self.real.now().micros().saturating_add_unsigned(added))
    }

    fn monotonic(&self) -> Duration {
        self.real.monotonic() + Duration::from_micros(self.added_us.load(Ordering::Relaxed))
    }
}

pub(super) fn run(common: &Common, base: Size, shipments: u64, verdict: &mut Verdict) -> Result<()> {
    let mut days = DAYS;
    days[0].shipments = shipments;
    for day in &days {
        count_day(common, day, verdict)?;
    }
    throughput::run(common, base, verdict)?;
    opening_of_a_database(common, verdict)
}

/// Archives a part of a day, and counts.
fn count_day(common: &Common, day: &Day, verdict: &mut Verdict) -> Result<()> {
    let world = World::new("archive-day")?;
    let place = Place::start(common.store, &world, Faults::none(common.seed))?;
    place.init()?;
    let clock = Arc::new(Moved::default());
    let env = Env::system().with_clock(Arc::clone(&clock) as Arc<dyn Clock>);
    let pitr = place.pitr_on(Way::ByProxy, &env)?;
    let segment_bytes = SegmentSize::SMALL.bytes();
    let bank = Bank::create(&env, &world.path("store"), segment_bytes, WalOptions::default())?;
    // Shipments and merges happen when the drill asks for them.
    let options = AttachOptions::new("reference").ship_every(None);
    let attached = pitr.attach(bank.wal(), &bank.source, options)?;
    let before = place.counts();
    let merges = archive(&bank, &attached, &clock, day, common.seed)?;
    let counts = place.counts().since(&before);
    attached.stop()?;
    let Day { name, every, shipments, puts_max, .. } = *day;
    let shipments_a_day = DAY_SECONDS / every;
    let a_day = |count: u64| count * shipments_a_day / shipments;
    let of = |kind| counts.of(kind).requests;
    let [puts, gets, heads, lists] = [Kind::Put, Kind::Get, Kind::Head, Kind::List].map(of);
    verdict.step(format_args!(
        "{name}: {shipments} shipments and {merges} merges took {puts} PUT, {gets} GET, {heads} HEAD, {lists} LIST; a day has {shipments_a_day} shipments"
    ));
    verdict.figure(format_args!(
        "{name}: {} PUT, {} GET, {} HEAD, {} LIST and {:.1} MB a day, {:.3} USD",
        a_day(puts),
        a_day(gets),
        a_day(heads),
        a_day(lists),
        a_day(counts.of(Kind::Put).request_bytes) as f64 / 1e6,
        price(&counts) * shipments_a_day as f64 / shipments as f64
    ));
    verdict.check(a_day(puts) < puts_max, format_args!("{name}: {} PUTs a day", a_day(puts)));
    if day.commits == 1 {
        opening(&place, &bank, verdict)?;
    }
    Ok(())
}

/// The price of these requests, USD.
fn price(counts: &Counts) -> f64 {
    let sum = |kinds: [Kind; 2]| kinds.map(|kind| counts.of(kind).requests as f64).iter().sum::<f64>();
    sum([Kind::Put, Kind::List]) * PUT_PRICE / 1000.0 + sum([Kind::Get, Kind::Head]) * GET_PRICE / 1000.0
}

/// Ships after each interval, and merges what is due. Returns the number of merges.
fn archive(bank: &Bank, attached: &Attached, clock: &Moved, day: &Day, seed: u64) -> Result<u64> {
    let (rng, mut merges) = (&mut Rng(seed), 0);
    for _ in 0..day.shipments {
        for _ in 0..day.commits {
            bank.commit(rng)?;
        }
        clock.pass(Duration::from_secs(day.every));
        attached.store()?;
        merges += attached.compact()?;
    }
    Ok(merges)
}

/// What an opening and a plan cost with the objects of that part of a day.
fn opening(place: &Place, bank: &Bank, verdict: &mut Verdict) -> Result<()> {
    let before = place.counts();
    let pitr = place.pitr(Way::ByProxy)?.view()?;
    let history = pitr.history(&bank.source, None)?;
    let opened = place.counts().since(&before);
    history.plan_for(&Target::latest())?;
    let planned = place.counts().since(&before).since(&opened);
    let objects = pitr.objects().listing("")?.entries.len();
    verdict.figure(format_args!(
        "opening a repository of {objects} objects: {}; a plan of the latest state: {}",
        printed(&opened),
        printed(&planned)
    ));
    let gets = opened.of(Kind::Get).requests + opened.of(Kind::Head).requests;
    verdict.check(gets <= OPENING_MAX, format_args!("an opening takes {gets} GETs"));
    Ok(())
}

/// What the program's commands cost with a watched database.
fn opening_of_a_database(common: &Common, verdict: &mut Verdict) -> Result<()> {
    let server = World::new("archive-opening")?;
    let place = Place::start(common.store, &server, Faults::none(common.seed))?;
    let program = Program::in_store(&place.url(), place.environment(Way::ByProxy))?;
    let seed = common.seed.to_string();
    let mut stage = Stage::with("archive-opened", "writer.py", &[&seed, "100"], program)?;
    let watch = stage.program.watch(&stage.database, &[])?;
    stage.application.send("go")?;
    stage.application.events_until("done")?;
    crate::drill::settle();
    watch.stop()?;
    let output = stage.world.path("restored.db");
    let output = output.to_string_lossy().into_owned();
    let dry_run = ["restore", "--to", "latest", "--dry-run", "--output", &output];
    // More than an opening: `info` looks at every timeline and at both ends of the log.
    for command in [&["info"][..], &["log"], &dry_run] {
        let before = place.counts();
        stage.program.call(command)?.done()?;
        let counts = place.counts().since(&before);
        let name = if command.len() > 1 { "restore --dry-run" } else { command[0] };
        verdict.figure(format_args!("pitr {name}: {}", printed(&counts)));
    }
    Ok(())
}

/// The requests of each kind.
pub(super) fn printed(counts: &Counts) -> String {
    let kinds = Kind::ALL.into_iter().filter(|kind| counts.of(*kind).requests > 0);
    let each =
        kinds.map(|kind| format!("{} {}", counts.of(kind).requests, format!("{kind:?}").to_uppercase()));
    each.collect::<Vec<_>>().join(", ")
}
