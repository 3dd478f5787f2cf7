//! Takes a snapshot on each of ten days, and keeps the last three of them.

use pitr_dedup::ChunkStore;
use pitr_format::{SourceName, Timestamp};
use pitr_objects::Objects;
use pitr_prune::{Policy, Pruner, Report};
use pitr_snapshot::{FileSource, Manifest, SnapshotMeta, write_full};
use std::error::Error;
use std::fs;
use std::num::NonZeroU32;

const DAY_MICROS: i64 = 24 * 3600 * 1_000_000;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let objects = Objects::create_local(dir.path().join("repo"))?;
    let now = objects.env().clock.now();
    objects.init_repository(now)?;

    let path = dir.path().join("diary.txt");
    let mut parent: Option<Manifest> = None;
    for day in 1..=10 {
        // Each day is about something else, so each snapshot has its own chunks.
        fs::write(&path, format!("This is day {day}. ").repeat(20_000))?;
        let taken = Timestamp::from_micros(now.micros() - (10 - day) * DAY_MICROS);
        let meta = SnapshotMeta::new(SourceName::new("diary")?, "example", day as u64, taken);
        let chunks = ChunkStore::open(objects.clone())?;
        let source = FileSource::open(&path)?;
        parent = Some(write_full(&chunks, &source, meta, parent.as_ref())?.publish(&chunks)?);
    }

    let policy = Policy { keep_daily: NonZeroU32::new(3), ..Policy::default() };
    let pruner = Pruner::new(objects.clone(), policy)?;
    show("would keep", &pruner.plan(now)?);
    show("kept", &pruner.execute(now)?);

    let left = objects.list("packs")?.len();
    let after = pruner.plan(now)?;
    println!("{left} packs are left, {} bytes in all", after.stored);
    if after.sources.iter().any(|source| !source.removed.is_empty()) {
        return Err("a second run would remove more".into());
    }
    Ok(())
}

fn show(what: &str, report: &Report) {
    for source in &report.sources {
        for kept in &source.kept {
            let reasons: Vec<_> = kept.reasons.iter().map(|reason| reason.as_str()).collect();
            println!("{what} the snapshot of {} ({})", kept.snapshot.meta.created, reasons.join(", "));
        }
        println!("  {} snapshots go, {} bytes are freed", source.removed.len(), report.freed);
    }
}
