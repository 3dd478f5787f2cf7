//! `pitr init`.

pub(crate) mod args;
mod document;

use pitr::{Pitr, PitrConfig};

use self::args::Init;
use crate::args::Global;
use crate::args::credentials::PASSPHRASE_VARIABLE;
use crate::failure::CliError;
use crate::failure::explain::explain;

pub(crate) fn run(global: &Global, args: &Init) -> Result<(), CliError> {
    let place = global.repository()?;
    let config = PitrConfig { mode: args.mode, ..PitrConfig::at(place) };
    let pitr = match (args.encrypt, global.credential()?) {
        (false, None) => Pitr::init(&config),
        (true, Some(credential)) => Pitr::init_encrypted(&config, credential.as_ref()),
        (true, None) => {
            let next = format!(
                "give --passphrase-file FILE, --key-file FILE or --key-command COMMAND, or set {PASSPHRASE_VARIABLE}"
            );
            return Err(CliError::usage("--encrypt needs a passphrase or key").next(&next));
        }
        (false, Some(_)) => {
            let what = "a passphrase or key was given without --encrypt";
            return Err(CliError::usage(what).next("add --encrypt, or omit the passphrase or key"));
        }
    };
    let pitr = pitr.map_err(explain)?;
    let id = pitr.repository().id.iter().map(|byte| format!("{byte:02x}")).collect();
    let encrypted = pitr.repository().encrypted;
    global.output().answer(&document::Init { repository: place.display().to_string(), id, encrypted })
}
