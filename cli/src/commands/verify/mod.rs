//! `pitr verify`.

pub(crate) mod args;
mod document;

use std::sync::OnceLock;

use pitr::verify::Progress;

use self::args::Verify;
use self::document::Spoiled;
use super::open;
use crate::args::Global;
use crate::failure::explain::explain;
use crate::failure::{CliError, Exit};

pub(crate) fn run(global: &Global, args: &Verify) -> Result<(), CliError> {
    let options = args.options()?;
    let pitr = open(global)?;
    let begun = pitr.clock().monotonic();
    let phase = OnceLock::new();
    let progress =
        |at: Progress| phase.get_or_init(|| global.progress().phase("verify", at.total)).set(at.done);
    let report = pitr.verify(options, &progress).map_err(explain)?;
    drop(phase);
    let seconds = pitr.clock().monotonic().saturating_sub(begun).as_secs_f64();
    let failures = report.faults.iter().map(|fault| document::Failure {
        kind: fault.kind.into(),
        object: fault.object.clone(),
        what: fault.what.clone(),
        snapshots: fault
            .snapshots
            .iter()
            .map(|(source, id)| Spoiled { source: source.to_string(), snapshot_id: id.to_string() })
            .collect(),
    });
    global.output().answer(&document::Verify {
        ok: report.is_sound(),
        checked_bytes: report.bytes,
        checked_objects: report.objects,
        snapshots: report.snapshots,
        failures: failures.collect(),
        pending: report.pending.clone(),
        strangers: report.strangers.clone(),
        seconds,
    })?;
    match report.faults.len() {
        0 => Ok(()),
        count => Err(CliError::new(Exit::Corrupt, format_args!("{count} faults found"))
            .next("snapshots without a fault can still be restored")
            .after_the_answer()),
    }
}
