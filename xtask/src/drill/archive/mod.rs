//! The archive on real object stores, with a network that fails and processes that die.
//!
//! - `--segments` ships a log of many small objects while most requests fail. The archive then has
//!   every byte once, and memory is bounded.
//! - `--kills` kills a process that writes, ships and merges. What was acknowledged is archived,
//!   and what counts is in the local log.
//! - `--away` takes the store away while transactions commit. Commits go on, or fail clearly; then
//!   the archive drains, and moments are exact.
//! - `--cap` takes the store away until the log drops its slot. The gap is reported, and moments
//!   outside it are exact.
//! - `--requests` counts the requests of a day, an opening and a restore, and compares the restore
//!   with plain reads.
//!
//! Without any of these options all parts run with small numbers. Each part has a line of its own
//! in the ledger. The store is a server on this machine, behind the proxy of `pitr-testkit`;
//! `local` is a folder, without a proxy. What is archived is always read without the proxy.

mod away;
mod bank;
mod cap;
mod held;
mod kills;
mod part;
mod place;
mod requests;
mod segments;
mod shipping;
mod throughput;

pub(crate) use part::Part;
pub(crate) use place::{Place, StoreKind, Way};

use super::{Seed, judged};
use crate::Result;
use crate::size::Size;
use crate::verdict::Verdict;

/// Anonymous memory of a process that ships, bytes.
const MEMORY_MAX: u64 = 150_000_000;

#[derive(Debug, clap::Args)]
pub(crate) struct Archive {
    /// Ship a log of this many small objects while most requests fail
    #[arg(long, value_name = "OBJECTS")]
    segments: Option<u64>,
    /// Size of the objects of `--segments`, bytes
    #[arg(long, default_value_t = segments::OBJECT_BYTES)]
    object_bytes: u32,
    /// Kill a process that ships and merges this many times
    #[arg(long, value_name = "KILLS")]
    kills: Option<u32>,
    /// Take the store away for this many seconds
    #[arg(long, value_name = "SECONDS")]
    away: Option<u64>,
    /// Take the store away until the log reaches its maximum size
    #[arg(long)]
    cap: bool,
    /// Count requests, and compare a restore with plain reads
    #[arg(long)]
    requests: bool,
    /// Size of the base that `--requests` restores
    #[arg(long, default_value = "200M")]
    base: Size,
    /// Shipments of the day at RPO 1 s that `--requests` counts: with 98500, the repository that it
    /// opens then has 100,000 objects
    #[arg(long, default_value_t = requests::SHIPMENTS)]
    shipments: u64,
    /// The store. By default SeaweedFS, and for `--kills` also a folder
    #[arg(long, value_enum)]
    store: Option<StoreKind>,
    /// Maximum number of objects that are put at the same time
    #[arg(long, default_value_t = 8)]
    uploads: usize,
    #[command(flatten)]
    seed: Seed,
}

/// The options that the parts share.
#[derive(Debug, Clone, Copy)]
struct Common {
    store: StoreKind,
    uploads: usize,
    seed: u64,
}

impl Common {
    /// The command that repeats a part.
    fn command(&self, part: &str) -> String {
        let Common { store, uploads, seed } = self;
        format!("cargo xtask drill archive {part} --store {store} --uploads {uploads} --seed {seed}")
    }

    /// Runs a part and judges it.
    fn judged(&self, part: &str, body: impl FnOnce(&Self, &mut Verdict) -> Result<()>) -> Result<bool> {
        judged(&self.command(part), |verdict| body(self, verdict))
    }
}

impl Archive {
    /// All parts with small numbers.
    pub(super) fn small(seed: Seed) -> Archive {
        let base = Size::mega(200);
        Archive {
            segments: None,
            object_bytes: segments::OBJECT_BYTES,
            kills: None,
            away: None,
            cap: false,
            requests: false,
            base,
            shipments: requests::SHIPMENTS,
            store: None,
            uploads: 8,
            seed,
        }
    }

    pub(crate) fn run(&self) -> Result<bool> {
        let Archive { segments, object_bytes, kills, away, cap, requests, base, shipments, uploads, .. } =
            *self;
        let is_all = segments.is_none() && kills.is_none() && away.is_none() && !cap && !requests;
        let small = |number| is_all.then_some(number);
        let on = |store| Common { store, uploads, seed: self.seed.seed };
        let store = self.store.unwrap_or(StoreKind::Seaweedfs);
        let mut passed = true;
        if let Some(objects) = segments.or(small(300)) {
            let part = format!("--segments {objects} --object-bytes {object_bytes}");
            let run = |common: &_, verdict: &mut _| segments::run(common, objects, object_bytes, verdict);
            passed &= on(store).judged(&part, run)?;
        }
        if let Some(count) = kills.or(small(10).map(|count| count as u32)) {
            let stores = match self.store {
                Some(store) => vec![store],
                None => vec![StoreKind::Local, StoreKind::Seaweedfs],
            };
            for store in stores {
                let part = format!("--kills {count}");
                passed &= on(store).judged(&part, |common, verdict| kills::run(common, count, verdict))?;
            }
        }
        if let Some(seconds) = away.or(small(20)) {
            let part = format!("--away {seconds}");
            passed &= on(store).judged(&part, |common, verdict| away::run(common, seconds, verdict))?;
        }
        if cap || is_all {
            passed &= on(store).judged("--cap", cap::run)?;
        }
        if requests || is_all {
            let part = format!("--requests --base {base} --shipments {shipments}");
            let run = |common: &_, verdict: &mut _| requests::run(common, base, shipments, verdict);
            passed &= on(store).judged(&part, run)?;
        }
        Ok(passed)
    }
}
