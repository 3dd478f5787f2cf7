//! A restore of a base of some size: its requests, and its rate next to plain reads of the same
//! objects with the same number of requests at a time.

use super::Common;
use super::place::{Place, Way};
use super::requests::printed;
use crate::Result;
use crate::compare::median;
use crate::drill::recovery;
use crate::size::{Size, Sizes};
use crate::verdict::Verdict;
use crate::world::World;
use pitr::objects::layout::ObjectName;
use pitr::objects::object_store::{ObjectStore, ObjectStoreExt, path::Path};
use pitr::recovery::Target;
use pitr_testkit::proxy::{Faults, Kind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Size of the log after the base.
const LOG: Size = Size::mega(50);
/// GETs of a restore of this many bytes, at most.
const GETS_MAX: f64 = 600.0;
const GETS_FOR_BYTES: f64 = 4e9;
/// The part of the plain rate that a restore must reach.
const RATE_MIN: f64 = 0.7;
/// Requests at a time. A restore fetches packs with as many.
const REQUESTS: usize = 4;
const RUNS: usize = 3;
/// The link of the second comparison: a gigabit, and a store in the same region.
const LINK: u64 = 110_000_000;
const LATENCY: Duration = Duration::from_millis(20);

pub(super) fn run(common: &Common, base: Size, verdict: &mut Verdict) -> Result<()> {
    let world = World::new("archive-restore")?;
    let place = Place::start(common.store, &world, Faults::none(common.seed))?;
    place.init()?;
    let pitr = place.pitr(Way::Direct)?;
    let sizes = Sizes { base, log: LOG };
    let source = recovery::archive_into(&pitr, &world, sizes, common.seed, verdict)?;
    let name = pitr.only_source()?;
    let output = world.path("restored");

    let before = place.counts();
    place.pitr(Way::ByProxy)?.restore_to(&name, &Target::latest(), &output)?;
    let counts = place.counts().since(&before);
    let gets = counts.of(Kind::Get).requests + counts.of(Kind::Head).requests;
    let read = counts.of(Kind::Get).response_bytes;
    let projected = gets as f64 * GETS_FOR_BYTES / base.bytes() as f64;
    verdict.figure(format_args!(
        "a restore of {sizes}: {}, {:.0} MB read; a base of 4 GB takes {projected:.0} GETs at that rate",
        printed(&counts),
        read as f64 / 1e6
    ));
    verdict.check(projected < GETS_MAX, format_args!("a restore of 4 GB takes {projected:.0} GETs"));
    source.check(&output, verdict)?;
    std::fs::remove_dir_all(&output)?;

    let restore = |way| -> Result<f64> {
        let begun = Instant::now();
        place.pitr(way)?.restore_to(&name, &Target::latest(), &output)?;
        let rate = read as f64 / begun.elapsed().as_secs_f64();
        std::fs::remove_dir_all(&output)?;
        Ok(rate)
    };
    let compare = |way, what: String, verdict: &mut Verdict| -> Result<f64> {
        let (mut restores, mut plain) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            restores.push(restore(way)?);
            plain.push(plain_rate(&place, way)?);
        }
        let (restore, plain) = (median(&restores), median(&plain));
        let part = restore / plain;
        verdict.figure(format_args!(
            "{what}: the restore reads {:.0} MB/s, object_store alone {:.0} MB/s with {REQUESTS} requests at a time: {:.0}%",
            restore / 1e6,
            plain / 1e6,
            part * 100.0
        ));
        Ok(part)
    };
    // On loopback, the server is as fast as memory, and the restore is bound by what it does with
    // the bytes: it decodes, hashes and writes them. So the same is measured over a link.
    compare(Way::Direct, "on loopback".to_owned(), verdict)?;
    let link = Faults { link: Some(LINK), latency: LATENCY, ..Faults::none(common.seed) };
    place.proxy()?.set(link)?;
    let what = format!("over a link of {} MB/s with {} ms", LINK / 1_000_000, LATENCY.as_millis());
    let part = compare(Way::ByProxy, what, verdict)?;
    verdict.check(part >= RATE_MIN, format_args!("the restore has {:.0}% of the plain rate", part * 100.0));
    Ok(())
}

/// Reads all packs and log objects whole, by `object_store` alone. Returns bytes a second.
fn plain_rate(place: &Place, way: Way) -> Result<f64> {
    let objects = place.objects(Way::Direct)?; // it also installs TLS for the process
    let is_data = |path: &str| ObjectName::parse(path).is_some_and(|name| name.is_data());
    let listed = objects.listing("")?.entries;
    let paths = listed.into_iter().map(|entry| entry.path).filter(|path| is_data(path));
    let paths = Arc::new(paths.map(|path| Path::parse(&path)).collect::<std::result::Result<Vec<_>, _>>()?);
    let store = place.plain_store(way)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (next, bytes) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU64::new(0)));
    let begun = Instant::now();
    let readers: Vec<_> = (0..REQUESTS)
        .map(|_| {
            let (store, paths) = (Arc::clone(&store), Arc::clone(&paths));
            let (next, bytes) = (Arc::clone(&next), Arc::clone(&bytes));
            runtime.spawn(async move {
                while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let got = store.get(path).await?.bytes().await?;
                    bytes.fetch_add(got.len() as u64, Ordering::Relaxed);
                }
                Ok::<(), pitr::objects::object_store::Error>(())
            })
        })
        .collect();
    for reader in readers {
        runtime.block_on(reader)??;
    }
    Ok(bytes.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64())
}

impl Place {
    /// The store as `object_store` opens it, without this project's settings.
    fn plain_store(&self, way: Way) -> Result<Arc<dyn ObjectStore>> {
        use pitr::objects::object_store::{aws, azure};
        let options = self.options(way);
        let url = self.url();
        if url.starts_with("az://") {
            let mut builder = azure::MicrosoftAzureBuilder::new().with_url(&url);
            for (key, value) in options {
                builder = builder.with_config(key.parse()?, value);
            }
            return Ok(Arc::new(builder.build()?));
        }
        let mut builder = aws::AmazonS3Builder::new().with_url(&url);
        for (key, value) in options {
            builder = builder.with_config(key.parse()?, value);
        }
        Ok(Arc::new(builder.build()?))
    }
}
