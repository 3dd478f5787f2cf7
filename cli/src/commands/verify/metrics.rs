//! The file of `pitr verify --every --metrics`, for a monitoring system that reads files.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use pitr::verify::COVERAGE_WINDOW;
use pitr::{Pitr, Round};

use crate::failure::explain::explain;
use crate::failure::{CliError, Exit};

/// How each such file begins.
const BEGINNING: &str = "# HELP pitr_";

/// Refuses a file that is not one of metrics, and one in a folder that does not exist.
///
/// # Errors
/// A usage error; errors of reading it.
pub(super) fn check(path: &Path) -> Result<(), CliError> {
    match fs::read(path) {
        Ok(bytes) if bytes.is_empty() || bytes.starts_with(BEGINNING.as_bytes()) => Ok(()),
        Ok(_) => {
            let what = "the file for metrics exists and holds something else";
            Err(CliError::usage(what).at(path.display()).next("give another name"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir());
            folder.map_or(Ok(()), |folder| {
                let what = "the folder for metrics does not exist";
                Err(CliError::usage(what).at(folder.display()).next("create it, or give another name"))
            })
        }
        Err(error) => Err(CliError::new(Exit::Failed, error).at(path.display())),
    }
}

/// Writes the state after a round. A reader finds the old file or the new one, never a part.
///
/// # Errors
/// Errors of the repository and of the file.
pub(super) fn write(pitr: &Pitr, round: &Round, path: &Path) -> Result<(), CliError> {
    let text = pitr.audit(Some(&round.report), COVERAGE_WINDOW).map_err(explain)?.metrics();
    let mut beside = OsString::from(path);
    beside.push(".pitr-new");
    let written = File::create(&beside).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        fs::rename(&beside, path)
    });
    written.map_err(|error| CliError::new(Exit::Failed, error).at(path.display()))
}
