//! A writer at full speed that does not wait: how often it is refused and how fast it goes, with
//! and without a watcher, in pairs of consecutive slices; and how long the watcher held the write
//! lock.

use super::{Stage, judged, settle};
use crate::Result;
use crate::application;
use crate::verdict::Verdict;
use pitr::exact;
use serde_json::Value;

const PAIRS: u32 = 4;
const LOCK_HELD_P99_MS_MAX: f64 = 20.0;

#[derive(Debug, clap::Args)]
pub(crate) struct Busy {
    /// Seconds with a watcher, and as many without
    #[arg(long, default_value_t = 60)]
    pub(crate) seconds: u32,
}

/// A slice of the writer's time, or the sum of several slices.
#[derive(Debug, Clone, Copy, Default)]
struct Slice {
    commits: u64,
    busy: u64,
    seconds: f64,
}

impl Slice {
    fn read(event: &Value) -> Result<Slice> {
        let read = || {
            Some(Slice {
                commits: event["commits"].as_u64()?,
                busy: event["busy"].as_u64()?,
                seconds: event["seconds"].as_f64()?,
            })
        };
        read().ok_or_else(|| format!("not a slice event: {event}").into())
    }

    fn add(&mut self, other: Slice) {
        self.commits += other.commits;
        self.busy += other.busy;
        self.seconds += other.seconds;
    }

    fn rate(&self) -> f64 {
        self.commits as f64 / self.seconds
    }
}

impl Busy {
    pub(crate) fn run(&self) -> Result<bool> {
        let command = format!("cargo xtask drill busy --seconds {}", self.seconds);
        judged(&command, |verdict| self.body(verdict))
    }

    fn body(&self, verdict: &mut Verdict) -> Result<()> {
        let seconds = f64::from(self.seconds) / f64::from(PAIRS);
        let mut stage = Stage::new("busy", "busy.py", &[&seconds.to_string()])?;
        let (mut alone, mut watched) = (Slice::default(), Slice::default());
        let mut ratios = Vec::new();
        let mut locks = Locks::default();
        for _ in 0..PAIRS {
            stage.application.send("go")?;
            let without = Slice::read(&stage.application.event("slice")?)?;
            alone.add(without);

            let watch = stage.program.watch(&stage.database, &[])?;
            let logged = stage.log()?.len();
            stage.application.send("go")?;
            let with = Slice::read(&stage.application.event("slice")?)?;
            watched.add(with);
            settle();
            let stopped = watch.stop()?;
            locks.add(stopped.summary.as_ref(), verdict);
            let captured = stage.log()?.len() - logged;
            verdict.check(
                captured as u64 == with.commits,
                format_args!("the log has {captured} of the {} commits of a slice", with.commits),
            );
            ratios.push(with.rate() / without.rate());
            verdict.step(format_args!(
                "{:.0} commits/s alone, {:.0} watched, drained in {:.2} s",
                without.rate(),
                with.rate(),
                stopped.seconds
            ));
        }
        ratios.sort_by(f64::total_cmp);
        let median = (ratios[ratios.len() / 2] + ratios[(ratios.len() - 1) / 2]) / 2.0;
        verdict.figure(format_args!("BUSY {} of {} commits watched", watched.busy, watched.commits));
        verdict.figure(format_args!("BUSY {} of {} commits alone", alone.busy, alone.commits));
        verdict.figure(format_args!(
            "{:.0} commits/s watched, {:.0} alone, median ratio {median:.3}",
            watched.rate(),
            alone.rate()
        ));
        verdict.figure(format_args!(
            "write lock held {} times, p99 at most {:.2} ms, longest {:.2} ms",
            locks.count, locks.p99_ms, locks.max_ms
        ));
        verdict.check(
            locks.p99_ms < LOCK_HELD_P99_MS_MAX,
            format_args!("write lock held {:.2} ms at the 99th percentile", locks.p99_ms),
        );
        check_latest(&mut stage, verdict)
    }
}

/// Durations of the write lock over several watchers: the worst of their percentiles.
#[derive(Debug, Default)]
struct Locks {
    count: u64,
    p99_ms: f64,
    max_ms: f64,
}

impl Locks {
    fn add(&mut self, summary: Option<&Value>, verdict: &mut Verdict) {
        let held = summary.map(|summary| &summary["w_lock"]);
        let read = || {
            let held = held?;
            let count = held["count"].as_u64()?;
            // If the lock was never held there is no percentile.
            let figure = |key: &str| held[key].as_f64().or((count == 0).then_some(0.0));
            Some((count, figure("p99_ms")?, figure("max_ms")?))
        };
        match read() {
            Some((count, p99_ms, max_ms)) => {
                verdict.step(format_args!(
                    "write lock held {count} times, p99 {p99_ms:.2} ms, longest {max_ms:.2} ms"
                ));
                self.count += count;
                self.p99_ms = self.p99_ms.max(p99_ms);
                self.max_ms = self.max_ms.max(max_ms);
            }
            None => verdict.fail(format_args!("no w_lock in the watcher's summary: {summary:?}")),
        }
    }
}

fn check_latest(stage: &mut Stage, verdict: &mut Verdict) -> Result<()> {
    stage.application.send("stop")?;
    let done = stage.application.event("done")?;
    let output = stage.world.path("latest.db");
    stage.program.restore("latest", &output, &[])?.done()?;
    if let Some(difference) = exact::compare(&output, &application::path(&done, "copy")?)? {
        verdict.fail(format_args!("latest: {difference}"));
    }
    Ok(())
}
