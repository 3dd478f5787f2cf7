//! `pitr point`: named recovery points.

pub(crate) mod args;
mod document;

use pitr::recovery::{NewPoint, Target};

use self::args::{Create, Point};
use super::{open, targets};
use crate::args::Global;
use crate::failure::CliError;
use crate::failure::explain::explain;

pub(crate) fn run(global: &Global, args: &Point) -> Result<(), CliError> {
    let pitr = open(global)?;
    let source = pitr.source(global.source()?).map_err(explain)?;
    match args {
        Point::Create(Create { name, note, at }) => {
            let mut new = NewPoint { note: note.clone(), ..NewPoint::latest(name.clone()) };
            if let Some(target) = at {
                let (moment, timeline) = targets::in_source(&pitr, &source, target, pitr.clock().now())?;
                (new.target, new.timeline) = (Target::at(moment), timeline);
            }
            let point = pitr.create_point(&source, &new).map_err(explain)?;
            let (source, point) = (source.to_string(), document::Point::of(&point));
            global.output().answer(&document::Created { source, point, newest: at.is_none() })
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
