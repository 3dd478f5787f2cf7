//! `pitr key`: the passphrases and keys of an encrypted repository.

pub(crate) mod args;
mod document;

use pitr::codec::KeyWrap;

use self::args::{Key, NewKey};
use super::open;
use crate::args::Global;
use crate::args::credentials::Given;
use crate::failure::CliError;
use crate::failure::explain::explain;
use crate::output::values::Time;

pub(crate) fn run(global: &Global, args: &Key) -> Result<(), CliError> {
    let pitr = open(global)?;
    let objects = pitr.objects();
    let failed = |error: pitr::objects::Error| explain(error.into());
    match args {
        Key::List => {
            let slots = objects.key_slots().map_err(failed)?;
            let slots = slots.into_iter().map(|slot| document::KeySlot {
                id: slot.id.to_string(),
                method: slot.method,
                created: Time(slot.created),
            });
            let keys = objects.keys().map_or(0, |keys| keys.len());
            global.output().answer(&document::Keys { slots: slots.collect(), data_keys: keys })
        }
        Key::Add(new) => {
            let added = objects.add_key_slot(pitr.clock().now(), new_key(new)?.as_ref()).map_err(failed)?;
            let added = Some(added.to_string());
            global.output().answer(&document::KeyChange { added, ..Default::default() })
        }
        Key::Remove { slot } => {
            objects.remove_key_slot(slot).map_err(failed)?;
            let removed = Some(slot.clone());
            global.output().answer(&document::KeyChange { removed, ..Default::default() })
        }
        Key::Rotate => {
            let data_keys = Some(objects.rotate_keys().map_err(failed)?);
            global.output().answer(&document::KeyChange { data_keys, ..Default::default() })
        }
    }
}

fn new_key(args: &NewKey) -> Result<Box<dyn KeyWrap>, CliError> {
    let given = Given {
        passphrase_file: args.new_passphrase_file.as_deref(),
        key_file: args.new_key_file.as_deref(),
        key_command: args.new_key_command.as_deref(),
    };
    let none = "give --new-passphrase-file, --new-key-file or --new-key-command";
    given.fetch()?.ok_or_else(|| CliError::usage(none))
}
