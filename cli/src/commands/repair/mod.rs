//! `pitr repair`.

pub(crate) mod args;
mod document;

use std::path::Path;

use pitr::Pitr;
use pitr::verify::{Options, Outcome, RepairOptions, Repaired, Report};

use self::args::Repair;
use self::document::{Lost, Object};
use super::open;
use crate::args::Global;
use crate::failure::explain::explain;
use crate::failure::{CliError, Exit};

pub(crate) fn run(global: &Global, args: &Repair) -> Result<(), CliError> {
    let pitr = open(global)?;
    let copy = args.from.as_deref().map(|from| open_copy(global, &pitr, from)).transpose()?;
    let before = check(&pitr)?;
    let options = RepairOptions {
        copy: copy.as_ref().map(Pitr::objects),
        set_aside: args.set_aside,
        execute: args.execute,
    };
    let repaired = pitr::verify::repair(pitr.objects(), &before, options);
    let repaired = repaired.map_err(|error| explain(error.into()))?;
    // What the objects state of each other may only be seen once some are back.
    let after = if args.execute && !repaired.is_empty() { check(&pitr)? } else { before.clone() };
    let open = |one: &&Repaired| !matches!(one.outcome, Outcome::Healed);
    let left = if args.execute { after.faults.len() } else { repaired.iter().filter(open).count() };
    global.output().answer(&document::Repair {
        ok: left == 0,
        dry_run: !args.execute,
        faults: before.faults.len() as u64,
        objects: repaired.iter().map(object).collect(),
        lost: lost(&after, &repaired, args.execute),
    })?;
    if left == 0 {
        return Ok(());
    }
    Err(CliError::new(Exit::Corrupt, format_args!("{left} faults can't be healed"))
        .next("give --from with a copy of the repository, or use --set-aside and then `pitr backup --full`")
        .after_the_answer())
}

/// Opens the copy with the same passphrase or key.
fn open_copy(global: &Global, pitr: &Pitr, from: &Path) -> Result<Pitr, CliError> {
    let copy = open(&Global { repo: Some(from.to_owned()), ..global.clone() })?;
    match copy.repository().id == pitr.repository().id {
        true => Ok(copy),
        false => Err(CliError::usage("is another repository, not a copy of this one").at(from.display())),
    }
}

fn check(pitr: &Pitr) -> Result<Report, CliError> {
    pitr.verify(Options::deep(), &|_| {}).map_err(explain)
}

fn object(repaired: &Repaired) -> Object {
    let (outcome, what) = match &repaired.outcome {
        Outcome::Healed => ("healed", None),
        Outcome::SetAside => ("set-aside", None),
        Outcome::CopyDamaged { what } => ("copy-damaged", Some(what.clone())),
        _ => ("no-copy", None),
    };
    Object { object: repaired.object.clone(), outcome, what }
}

/// What stays damaged, with the snapshots that it spoils.
fn lost(after: &Report, repaired: &[Repaired], executed: bool) -> Vec<Lost> {
    let heals = |object: &str| {
        let is_it = |one: &&Repaired| one.object == object && one.outcome == Outcome::Healed;
        !executed && repaired.iter().any(|one| is_it(&one))
    };
    let faults = after.faults.iter().filter(|fault| !heals(&fault.object));
    let spoiled = |(source, id): &(_, _)| format!("{id} of {source}");
    faults
        .map(|fault| Lost {
            object: fault.object.clone(),
            what: fault.what.clone(),
            snapshots: fault.snapshots.iter().map(spoiled).collect(),
        })
        .collect()
}
