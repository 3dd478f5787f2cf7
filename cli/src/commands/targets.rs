//! Converts targets of the command line to targets of the library, and chooses the history in which
//! they are looked for.
//!
//! | target | without `--timeline` | with `--timeline N` |
//! | --- | --- | --- |
//! | `latest`, a time, `lsn:N`, `tx:N` | the newest timeline | timeline N |
//! | `lsn:T/N`, `tx:T/N` | timeline T | N must be T |
//! | a snapshot, a point | the state's timeline | timeline N, which must have the state |

use pitr::archive::NamedPoint;
use pitr::format::{Lsn, SourceName, TimelineId, Timestamp, TxId};
use pitr::recovery::{History, Point, RecoveryTarget};
use pitr::{BackupMetadata, Backups, Pitr};

use crate::args::Global;
use crate::args::target::{IdPrefix, Numbered, Target};
use crate::failure::explain::explain;
use crate::failure::{CliError, Code};
use crate::output::values::{Position, Time};

/// A target of the command line in a source.
pub(crate) struct Wanted<'a> {
    target: &'a Target,
    pub(crate) moment: RecoveryTarget,
    /// The timeline that the target names, or that of its state.
    timeline: Option<TimelineId>,
    /// Position of a state that has one timeline.
    state: Option<Lsn>,
}

impl<'a> Wanted<'a> {
    /// The target at the current time `now`.
    pub(crate) fn new(
        pitr: &Pitr,
        source: &SourceName,
        target: &'a Target,
        now: Timestamp,
    ) -> Result<Self, CliError> {
        let of = |moment, timeline| Wanted { target, moment, timeline, state: None };
        Ok(match target {
            Target::Latest => of(RecoveryTarget::Latest, None),
            Target::Time(moment) => of(RecoveryTarget::Timestamp(moment.resolve(now)), None),
            Target::Lsn(Numbered { timeline, number }) => {
                of(RecoveryTarget::Lsn(Lsn::new(*number)), *timeline)
            }
            Target::Tx(Numbered { timeline, number }) => {
                of(RecoveryTarget::Transaction(TxId::new(*number)), *timeline)
            }
            Target::Snapshot(id) => {
                let BackupMetadata { id, timeline, consistent_at, .. } = snapshot(pitr, source, *id)?;
                let state = Some(consistent_at);
                Wanted { state, ..of(RecoveryTarget::Snapshot(id), Some(timeline)) }
            }
            Target::Point(name) => {
                let point = pitr.point(source, name).map_err(|error| match error {
                    error @ pitr::Error::UnknownPoint { .. } => CliError::of(Code::UnreachableTarget, error)
                        .next("`pitr point list` lists the points"),
                    other => explain(other),
                })?;
                let NamedPoint { timeline, lsn, .. } = point;
                Wanted { state: Some(lsn), ..of(RecoveryTarget::from(&point), Some(timeline)) }
            }
        })
    }

    /// The timeline of the target's history; `None` for the newest one. `given` is `--timeline`.
    pub(crate) fn timeline(&self, given: Option<u32>) -> Result<Option<TimelineId>, CliError> {
        let given = given.map(TimelineId::new);
        match (given, self.named()) {
            (Some(given), Some((named, number))) if given != named => {
                let what = format!("{number} is on timeline {named}, and --timeline says {given}");
                Err(CliError::usage(what).next("omit --timeline"))
            }
            _ => Ok(given.or(self.timeline)),
        }
    }

    /// The history in which the target is looked for.
    pub(crate) fn history(
        &self,
        pitr: &Pitr,
        source: &SourceName,
        given: Option<u32>,
    ) -> Result<History, CliError> {
        let history = pitr.history(source, self.timeline(given)?).map_err(explain)?;
        self.check_in(&history)?;
        Ok(history)
    }

    /// Fails if the target is a snapshot or a point, and the history does not have its state:
    /// another state of the history may be at the same position.
    pub(crate) fn check_in(&self, history: &History) -> Result<(), CliError> {
        let Some(timeline) = self.missing_in(history) else { return Ok(()) };
        let what = format_args!(
            "the state is on timeline {timeline}, and the history of timeline {} does not have it",
            history.lineage().timeline()
        )
        .to_string();
        Err(CliError::of(Code::UnreachableTarget, what).next(format_args!("give --timeline {timeline}")))
    }

    /// The timeline of the target's state, if the history does not have that state.
    pub(crate) fn missing_in(&self, history: &History) -> Option<TimelineId> {
        let state = self.timeline.zip(self.state);
        let missing = state.filter(|(timeline, lsn)| !history.lineage().holds(*timeline, *lsn));
        missing.map(|(timeline, _)| timeline)
    }

    /// The timeline and the qualified form of a number that names its timeline.
    pub(crate) fn named(&self) -> Option<(TimelineId, String)> {
        let timeline = self.timeline?;
        self.number_on(timeline).map(|number| (timeline, number))
    }

    fn number_on(&self, timeline: TimelineId) -> Option<String> {
        let on = |number| Numbered { timeline: Some(timeline), number };
        match self.target {
            Target::Lsn(Numbered { number, .. }) => Some(format!("lsn:{}", on(*number))),
            Target::Tx(Numbered { number, .. }) => Some(format!("tx:{}", on(*number))),
            _ => None,
        }
    }

    /// The states on other timelines that an unqualified number may mean too.
    pub(crate) fn others(&self, history: &History, given: Option<u32>) -> Result<Others, CliError> {
        let timelines = match self.timeline(given)? {
            None => history.elsewhere(&self.moment).map_err(|error| explain(error.into()))?,
            Some(_) => Vec::new(),
        };
        let qualified = timelines.into_iter().filter_map(|timeline| self.number_on(timeline));
        Ok(Others { here: history.lineage().timeline(), qualified: qualified.collect() })
    }
}

/// States on other timelines.
pub(crate) struct Others {
    /// The timeline of the history in which the target is looked for.
    here: TimelineId,
    /// Targets that name the other states.
    qualified: Vec<String>,
}

impl Others {
    /// Says that the number was taken from one of several timelines.
    pub(crate) fn remark(&self, global: &Global) {
        if !self.qualified.is_empty() {
            global.output().remark(format_args!(
                "the target is looked for in the history of timeline {}, the newest; {} is another state",
                self.here,
                self.qualified.join(", ")
            ));
        }
    }

    /// The failure of a restore. A number that is only on other timelines is named in full.
    pub(crate) fn explain(&self, error: pitr::Error) -> CliError {
        let failure = explain(error);
        match failure.kind == Code::UnreachableTarget && !self.qualified.is_empty() {
            true => failure.next(format_args!(
                "timeline {} does not have it; give {} for the state on another timeline",
                self.here,
                self.qualified.join(" or ")
            )),
            false => failure,
        }
    }
}

/// The place of a target in the log of a history. A snapshot is at the LSN where it is consistent.
pub(crate) fn in_log(wanted: &Wanted<'_>) -> RecoveryTarget {
    match (wanted.moment.clone(), wanted.state) {
        (RecoveryTarget::Snapshot(_) | RecoveryTarget::RecoveryPoint(_), Some(lsn)) => {
            RecoveryTarget::Lsn(lsn)
        }
        (moment, _) => moment,
    }
}

/// The only snapshot whose ID begins with `id`.
fn snapshot(pitr: &Pitr, source: &SourceName, id: IdPrefix) -> Result<BackupMetadata, CliError> {
    let Backups { backups: mut found, damaged } = pitr.backups(source).map_err(explain)?;
    found.retain(|backup| id.fits(backup.id.0));
    match (found.pop(), found.len(), damaged.first()) {
        (Some(only), 0, _) => Ok(only),
        (None, _, None) => {
            let what = format_args!("source {source} has no snapshot {id}").to_string();
            Err(CliError::of(Code::UnreachableTarget, what).next("`pitr info` lists them"))
        }
        // The snapshot may be an unreadable one: "not found" would be a wrong answer (FAILURES 55).
        (None, _, Some(error)) => {
            let count = damaged.len();
            let what = format_args!(
                "{source} has no readable snapshot {id}, and {count} of its snapshots are damaged: {error}"
            )
            .to_string();
            Err(CliError::of(Code::Corrupt, what)
                .next("`pitr info` lists the states that can still be restored"))
        }
        (Some(_), others, _) => {
            let what = format_args!("{} snapshots of {source} begin with {id}", others + 1).to_string();
            Err(CliError::usage(what).next("give more digits of the ID"))
        }
    }
}

/// A point as a position in an answer.
pub(crate) fn position(point: &Point) -> Position {
    let Point { lsn, tx, time, named, .. } = *point;
    Position { named, ..Position::of(lsn, tx, Time(time)) }
}
