//! `pitr init`.

use pitr::{Pitr, PitrConfig};

use super::failure;
use crate::cli::args::Global;
use crate::cli::documents;
use crate::cli::exit::CliError;

pub(crate) fn run(global: &Global) -> Result<(), CliError> {
    let place = global.repository()?;
    let pitr = Pitr::init(&PitrConfig::at(place)).map_err(failure::explain)?;
    let id = pitr.repository().id.iter().map(|byte| format!("{byte:02x}")).collect();
    global.output().answer(&documents::Init { repository: place.display().to_string(), id })
}
