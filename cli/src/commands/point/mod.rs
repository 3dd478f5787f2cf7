//! `pitr point`: named recovery points.

pub(crate) mod args;
mod document;

use std::path::PathBuf;

use pitr::Pitr;
use pitr::engine::Error as EngineError;
use pitr::format::{SourceName, TimelineId};
use pitr::recovery::{NewPoint, Target};

use self::args::{Create, Point};
use super::open;
use super::targets::Wanted;
use crate::args::Global;
use crate::failure::CliError;
use crate::failure::explain::explain;
use crate::output::values::Time;

pub(crate) fn run(global: &Global, args: &Point) -> Result<(), CliError> {
    let pitr = open(global)?;
    let source = pitr.source(global.source()?).map_err(explain)?;
    match args {
        Point::Create(create) => {
            let created = self::create(global, &pitr, &source, create)?;
            global.output().answer(&created)
        }
        Point::List => {
            let found = pitr.points(&source).map_err(explain)?;
            global.output().answer(&document::List {
                source: source.to_string(),
                points: found.points.iter().map(document::Point::of).collect(),
                damaged: found.damaged.iter().map(|(_, error)| error.to_string()).collect(),
            })
        }
        Point::Delete { name } => {
            pitr.delete_point(&source, name).map_err(explain)?;
            let (source, deleted) = (source.to_string(), name.to_string());
            global.output().answer(&document::Deleted { source, deleted })
        }
    }
}

fn create(
    global: &Global,
    pitr: &Pitr,
    source: &SourceName,
    args: &Create,
) -> Result<document::Created, CliError> {
    let Create { name, note, at, timeline, state } = args;
    let mut new = NewPoint { note: note.clone(), ..NewPoint::latest(name.clone()) };
    new.timeline = timeline.map(TimelineId::new);
    let mut complete = false;
    let mut others = None;
    let history = match at {
        None => {
            complete = archive_now(global, pitr, source, new.timeline, state.clone())?;
            pitr.history(source, new.timeline).map_err(explain)?
        }
        Some(target) => {
            let wanted = Wanted::new(pitr, source, target, pitr.clock().now())?;
            let history = wanted.history(pitr, source, *timeline)?;
            others = Some(wanted.others(&history, *timeline)?);
            new.target = Target::at(wanted.moment);
            new.timeline = Some(history.lineage().timeline());
            history
        }
    };
    let spans = history.restorable().map_err(|error| explain(error.into()))?;
    let archived_until = spans.last().filter(|_| !history.has_no_log()).map(|span| Time(span.watermark));
    // A prune waits for the end of the history's lease.
    drop(history);
    let point = pitr.create_point(source, &new).map_err(|error| match &others {
        Some(others) => others.explain(error),
        None => explain(error),
    })?;
    if let Some(others) = others {
        others.remark(global);
    }
    if let (None, false, Some(until)) = (at, complete, archived_until) {
        global
            .output()
            .remark(format_args!("the archive reaches {until}: later commits are not in the point"));
    }
    let (source, point) = (source.to_string(), document::Point::of(&point));
    Ok(document::Created { source, point, newest: at.is_none(), complete, archived_until })
}

/// Has a running watcher archive every commit that has returned. False if none could.
fn archive_now(
    global: &Global,
    pitr: &Pitr,
    source: &SourceName,
    timeline: Option<TimelineId>,
    state: Option<PathBuf>,
) -> Result<bool, CliError> {
    match pitr.archive_now(source, timeline, state) {
        Ok(()) => Ok(true),
        // A source without a log has no watcher.
        Err(pitr::Error::Engine(EngineError::Lacks { .. } | EngineError::UnknownEngine { .. })) => Ok(false),
        Err(pitr::Error::Engine(EngineError::NoAnswer { .. })) => {
            global.output().remark(format_args!("no watcher of {source} answers on this machine"));
            Ok(false)
        }
        Err(pitr::Error::Engine(late @ (EngineError::Refused { .. } | EngineError::Behind { .. }))) => {
            global.output().remark(late);
            Ok(false)
        }
        Err(other) => Err(explain(other)),
    }
}
