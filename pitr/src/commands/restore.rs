//! `pitr restore`.

use std::num::NonZeroUsize;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use pitr::format::TimelineId;
use pitr::recovery::{History, Moment, Phase, Plan, Progress, RestoreOptions, Restored, Target};
use pitr::snapshot::Snapshot;
use pitr::{Pitr, directory};

use super::failure::explain;
use super::{open, targets};
use crate::cli::args::{Global, Restore};
use crate::cli::documents::{self, Phases};
use crate::cli::exit::{CliError, Exit};
use crate::cli::human;
use crate::cli::progress;

/// A cautious rate for the estimate of a dry run, bytes a second: half of what a restore sustains on two cores.
const ESTIMATED_BYTES_PER_SECOND: f64 = 400e6;

pub(crate) fn run(global: &Global, args: &Restore) -> Result<(), CliError> {
    let pitr = open(global)?;
    let begun = pitr.clock().monotonic();
    let source = pitr.source(global.source.as_deref()).map_err(explain)?;
    let history = pitr.history(&source, args.timeline.map(TimelineId::new)).map_err(explain)?;
    let moment = targets::moment(args.to, pitr.clock().now());
    if let Moment::Time(time) = moment {
        global.output().remark(format_args!("target: {time}"));
    }
    let target = Target { moment, exclusive: args.exclusive };
    let stop = history.resolve(&target).map_err(|e| explain(e.into()))?;
    let plan = history.plan(&stop).map_err(|e| explain(e.into()))?;
    if args.dry_run {
        let log_bytes = history.log_bytes(&plan).map_err(|e| explain(e.into()))?;
        return dry_run(global, args, &plan, log_bytes);
    }
    if let Some(snapshot) = folder_of(&history, &plan) {
        return folder(global, args, &pitr, snapshot, &plan, begun);
    }
    let options = RestoreOptions {
        output: args.output.clone(),
        force: args.force,
        delta: args.delta,
        workers: args.workers.and_then(|n| NonZeroUsize::new(n.into())),
    };
    let bars = Bars::new(global.progress());
    let restored = pitr.restore(&history, &plan, &options, &|at| bars.tell(at)).map_err(explain)?;
    let took = pitr.clock().monotonic().saturating_sub(begun);
    for moved in &restored.moved_aside {
        global.output().remark(format_args!("moved aside: {}", moved.display()));
    }
    global.output().answer(&document(args, &restored, took))?;
    check_rto(args, took)
}

/// The snapshot that a plan consists of, if it is one of a folder.
fn folder_of<'h>(history: &'h History, plan: &Plan) -> Option<&'h Snapshot> {
    let snapshot = history.snapshots().iter().find(|snapshot| Some(snapshot.id) == plan.snapshot)?;
    (snapshot.meta.engine == directory::ENGINE).then_some(snapshot)
}

fn folder(
    global: &Global,
    args: &Restore,
    pitr: &Pitr,
    snapshot: &Snapshot,
    plan: &Plan,
    begun: Duration,
) -> Result<(), CliError> {
    let options = directory::RestoreOptions { force: args.force, delta: args.delta };
    let phase = OnceLock::new();
    let tell = |done, total| phase.get_or_init(|| global.progress().phase("restore", total)).set(done);
    let build = || pitr.restore_folder(snapshot, &args.output, options, &tell).map_err(explain);
    let restored = match args.workers {
        None => build(),
        Some(workers) => in_pool(workers.into(), build)?,
    }?;
    drop(phase);
    let took = pitr.clock().monotonic().saturating_sub(begun);
    if let Some(moved) = &restored.moved_aside {
        global.output().remark(format_args!("moved aside: {}", moved.display()));
    }
    global.output().answer(&documents::Restore {
        snapshot_id: plan.snapshot.map(|id| id.to_string()),
        timeline: plan.reached.timeline.get(),
        reached: targets::position(&plan.reached),
        base_bytes: restored.bytes,
        reused_bytes: args.delta.then_some(restored.reused),
        incomplete: restored.missing.iter().chain(&restored.cut).map(|p| p.display().to_string()).collect(),
        kept_owners: (restored.kept_owners > 0).then_some(restored.kept_owners),
        wal_bytes: 0,
        records: 0,
        seconds: took.as_secs_f64(),
        workers: args.workers.map(usize::from),
        phases: Phases::default(),
        dry_run: false,
        output: args.output.display().to_string(),
    })?;
    check_rto(args, took)
}

fn in_pool<T: Send>(workers: usize, act: impl FnOnce() -> T + Send) -> Result<T, CliError> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(workers).build();
    Ok(pool.map_err(|e| CliError::new(Exit::Failed, e).at("worker threads"))?.install(act))
}

fn dry_run(global: &Global, args: &Restore, plan: &Plan, log_bytes: u64) -> Result<(), CliError> {
    let seconds = (plan.base_bytes + log_bytes) as f64 / ESTIMATED_BYTES_PER_SECOND;
    global.output().answer(&documents::Restore {
        snapshot_id: plan.snapshot.map(|id| id.to_string()),
        timeline: plan.reached.timeline.get(),
        reached: targets::position(&plan.reached),
        base_bytes: plan.base_bytes,
        reused_bytes: None,
        incomplete: Vec::new(),
        kept_owners: None,
        wal_bytes: log_bytes,
        records: 0,
        seconds,
        workers: None,
        phases: Phases::default(),
        dry_run: true,
        output: args.output.display().to_string(),
    })?;
    check_rto(args, Duration::from_secs_f64(seconds))
}

fn document(args: &Restore, restored: &Restored, took: Duration) -> documents::Restore {
    let phases = restored.phases;
    let named =
        [("index", phases.index), ("base", phases.base), ("log", phases.log), ("finish", phases.finish)];
    documents::Restore {
        snapshot_id: restored.snapshot.map(|id| id.to_string()),
        timeline: restored.timeline.get(),
        reached: targets::position(&restored.reached),
        base_bytes: restored.base_bytes,
        reused_bytes: args.delta.then_some(restored.reused_bytes),
        incomplete: Vec::new(),
        kept_owners: None,
        wal_bytes: restored.wal_bytes,
        records: restored.records,
        seconds: took.as_secs_f64(),
        workers: Some(restored.workers),
        phases: Phases(named.map(|(name, time)| (name.to_owned(), time.as_secs_f64())).to_vec()),
        dry_run: false,
        output: args.output.display().to_string(),
    }
}

fn check_rto(args: &Restore, took: Duration) -> Result<(), CliError> {
    match args.rto {
        Some(rto) if took > rto => Err(CliError::new(
            Exit::TooLate,
            format_args!(
                "the restore takes {}, more than the RTO of {}",
                human::duration(took),
                human::duration(rto)
            ),
        )
        .next("take snapshots more often, or give it more workers")),
        _ => Ok(()),
    }
}

/// One bar for each phase of the library.
struct Bars {
    progress: progress::Progress,
    current: Mutex<Option<(Phase, progress::Phase)>>,
}

impl Bars {
    fn new(progress: progress::Progress) -> Self {
        Bars { progress, current: Mutex::new(None) }
    }

    fn tell(&self, at: Progress) {
        let mut current = self.current.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if current.as_ref().is_none_or(|(phase, _)| *phase != at.phase) {
            let name = match at.phase {
                Phase::Index => "index",
                Phase::Base => "base",
                Phase::Log => "log",
                _ => "finish",
            };
            *current = None; // ends the phase before
            *current = Some((at.phase, self.progress.phase(name, at.total)));
        }
        if let Some((_, bar)) = current.as_ref() {
            bar.set(at.done);
        }
    }
}
