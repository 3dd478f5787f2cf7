//! The restore of one source.

use std::path::Path;
use std::time::Duration;

use pitr::Pitr;
use pitr::recovery::{
    Estimate, History, Phase, Phases as Times, Plan, RecoveryStats, RestoreOptions, Target, Unreachable,
};

use super::args::Restore;
use super::document::{self as documents, Owner, Room, Transactions};
use crate::args::Global;
use crate::commands::bars::Bars;
use crate::commands::targets;
use crate::failure::CliError;
use crate::failure::explain::explain;
use crate::output::values::Phases;

/// A source, and the plan to restore it.
pub(super) struct Job {
    history: History,
    plan: Plan,
    /// Why the restored state is earlier than the target.
    instead: Option<Unreachable>,
}

impl Job {
    /// Plans the restore of the target or, with `--or-before`, of the newest restorable state
    /// before it. A validation goes around no damage.
    pub(super) fn new(history: History, target: &Target, args: &Restore) -> pitr::Result<Self> {
        let (history, plan, instead) = if args.validate {
            let (plan, instead) = history.plan_or_before(target, args.or_before)?;
            (history, plan, instead)
        } else {
            history.into_plan(target, args.or_before)?
        };
        Ok(Job { history, plan, instead })
    }

    /// The disk space that the restore needs at the output. Fails if less is free.
    pub(super) fn room(&self, pitr: &Pitr, args: &Restore) -> pitr::Result<Room> {
        let room = pitr.room(&self.history, &self.plan, &options(args, args.output()))?;
        Ok(Room { needed_bytes: room.needed, free_bytes: room.free })
    }

    /// How long the restore will take.
    pub(super) fn estimate(&self) -> pitr::Result<Estimate> {
        Ok(self.history.estimate(&self.plan)?)
    }

    /// The answer of a dry run.
    pub(super) fn plan_document(
        &self,
        output: &Path,
        room: Room,
        estimate: &Estimate,
    ) -> pitr::Result<documents::Restore> {
        Ok(documents::Restore {
            wal_bytes: self.history.log_bytes(&self.plan)?,
            seconds: estimate.total().as_secs_f64(),
            phases: named([
                (Phase::Base, estimate.base),
                (Phase::Log, estimate.log),
                (Phase::Finish, estimate.finish),
            ]),
            is_guess: Some(estimate.is_guess),
            room: Some(room),
            dry_run: true,
            ..self.document(output)
        })
    }

    /// The fields that are known before the restore.
    fn document(&self, output: &Path) -> documents::Restore {
        let plan = &self.plan;
        documents::Restore {
            source: None,
            snapshot_id: plan.snapshot.map(|id| id.to_string()),
            timeline: plan.reached.timeline.get(),
            reached: targets::position(&plan.reached),
            base_bytes: plan.base_bytes,
            reused_bytes: None,
            incomplete: Vec::new(),
            target_unreachable: self.instead.as_ref().map(|instead| instead.why.to_string()),
            not_given: None,
            room: None,
            kept_owners: None,
            avoided: self.history.avoided().to_vec(),
            wal_bytes: 0,
            records: 0,
            transactions: None,
            checked: false,
            is_guess: None,
            seconds: 0.0,
            workers: None,
            phases: Phases::default(),
            dry_run: false,
            output: output.display().to_string(),
        }
    }

    /// Restores the source. `in_place` updates what an interrupted restore of several sources left.
    pub(super) fn build(
        &self,
        global: &Global,
        args: &Restore,
        pitr: &Pitr,
        output: &Path,
        in_place: bool,
        begun: Duration,
    ) -> Result<documents::Restore, CliError> {
        let mut options = options(args, output);
        options.in_place |= in_place;
        let bars = Bars::new(global.progress());
        let tell = |at| bars.tell(at);
        let restored = pitr.restore(&self.history, &self.plan, &options, &tell).map_err(explain)?;
        for moved in &restored.moved_aside {
            global.output().remark(format_args!("moved aside: {}", moved.display()));
        }
        let seconds = pitr.clock().monotonic().saturating_sub(begun).as_secs_f64();
        let incomplete = restored.incomplete.iter().map(|path| path.display().to_string());
        Ok(documents::Restore {
            snapshot_id: restored.stats.snapshot.map(|id| id.to_string()),
            base_bytes: restored.stats.base_bytes,
            avoided: restored.avoided,
            incomplete: incomplete.collect(),
            kept_owners: (restored.kept_owners > 0).then_some(restored.kept_owners),
            seconds,
            reused_bytes: (args.delta || restored.reused_bytes > 0).then_some(restored.reused_bytes),
            not_given: restored.not_given.map(|not| Owner {
                uid: not.uid,
                gid: not.gid,
                mode: format!("{:04o}", not.mode),
            }),
            wal_bytes: restored.stats.log_bytes,
            records: restored.stats.records,
            transactions: Some(Transactions {
                applied: restored.stats.applied,
                skipped: restored.stats.skipped,
            }),
            checked: args.check,
            workers: Some(restored.stats.workers),
            phases: phases(&restored.stats, args.check),
            ..self.document(output)
        })
    }

    /// Checks the log of the plan, and writes nothing.
    pub(super) fn validate(
        &self,
        global: &Global,
        args: &Restore,
        pitr: &Pitr,
    ) -> Result<documents::Validation, CliError> {
        let bars = Bars::new(global.progress());
        let tell = |at| bars.tell(at);
        let stats = pitr.validate(&self.history, &self.plan, args.workers(), &tell).map_err(explain)?;
        Ok(documents::Validation {
            validated: true,
            snapshot_id: stats.snapshot.map(|id| id.to_string()),
            timeline: stats.reached.timeline.get(),
            reached: targets::position(&stats.reached),
            target_unreachable: self.instead.as_ref().map(|instead| instead.why.to_string()),
            wal_bytes: stats.log_bytes,
            records: stats.records,
            transactions: Transactions { applied: stats.applied, skipped: stats.skipped },
            seconds: stats.phases.total().as_secs_f64(),
            workers: stats.workers,
            phases: named([(Phase::Index, stats.phases.index), (Phase::Log, stats.phases.log)]),
        })
    }
}

fn options(args: &Restore, output: &Path) -> RestoreOptions {
    RestoreOptions {
        force: args.force,
        delta: args.delta,
        in_place: args.in_place,
        workers: args.workers(),
        check: args.check,
        memory: args.memory(),
        ..RestoreOptions::to(output)
    }
}

/// The parts of a restore: a replay if it applied records, a check if it was asked for.
fn phases(stats: &RecoveryStats, is_checked: bool) -> Phases {
    let Times { index, log, base, redo, check, finish } = stats.phases;
    let redo = (stats.logical_records > 0).then_some((Phase::Redo, redo));
    let check = is_checked.then_some((Phase::Check, check));
    let written = [(Phase::Index, index), (Phase::Log, log), (Phase::Base, base)];
    named(written.into_iter().chain(redo).chain(check).chain([(Phase::Finish, finish)]))
}

fn named(times: impl IntoIterator<Item = (Phase, Duration)>) -> Phases {
    Phases::named(times.into_iter().map(|(phase, time)| (phase.name(), time)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitr::format::{Lsn, TimelineId, Timestamp, TxId};
    use pitr::recovery::Point;

    #[test]
    fn a_replay_and_a_check_are_listed_if_there_were_any() {
        let seconds = Duration::from_secs;
        let [index, log, base, redo, check, finish] = [1, 2, 3, 4, 5, 6].map(seconds);
        let reached = Point {
            timeline: TimelineId::FIRST,
            lsn: Lsn::new(700),
            tx: TxId::new(7),
            time: Timestamp::from_micros(1),
            named: true,
        };
        let stats = |logical_records| RecoveryStats {
            snapshot: None,
            reached,
            base_bytes: 1,
            log_bytes: 1,
            records: 1,
            logical_records,
            applied: 1,
            skipped: 0,
            workers: 1,
            phases: Times { index, log, base, redo, check, finish },
        };
        assert_eq!(phases(&stats(0), false).to_string(), "index 1.0 s, log 2.0 s, base 3.0 s, finish 6.0 s");
        let all = serde_json::to_string(&phases(&stats(9), true)).unwrap();
        assert_eq!(all, r#"{"index":1.0,"log":2.0,"base":3.0,"redo":4.0,"check":5.0,"finish":6.0}"#);
    }
}
