//! `pitr point`: named recovery points.

pub(crate) mod args;
mod document;

use pitr::Pitr;
use pitr::format::{SourceName, TimelineId};
use pitr::recovery::{NewPoint, Target};

use self::args::{Create, Point};
use super::open;
use super::targets::Wanted;
use crate::args::Global;
use crate::failure::CliError;
use crate::failure::explain::explain;

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
    let Create { name, note, at, timeline } = args;
    let mut new = NewPoint { note: note.clone(), ..NewPoint::latest(name.clone()) };
    new.timeline = timeline.map(TimelineId::new);
    let point = match at {
        None => pitr.create_point(source, &new).map_err(explain)?,
        Some(target) => {
            let wanted = Wanted::new(pitr, source, target, pitr.clock().now())?;
            let history = wanted.history(pitr, source, *timeline)?;
            let others = wanted.others(&history, *timeline)?;
            new.target = Target::at(wanted.moment);
            new.timeline = Some(history.lineage().timeline());
            // A prune waits for the end of the history's lease.
            drop(history);
            let point = pitr.create_point(source, &new).map_err(|error| others.explain(error))?;
            others.remark(global);
            point
        }
    };
    let (source, point) = (source.to_string(), document::Point::of(&point));
    Ok(document::Created { source, point, newest: at.is_none() })
}
