//! `pitr key`: what opens an encrypted repository.

use pitr::codec::KeyWrap;

use super::failure::explain;
use super::open;
use crate::cli::args::{Global, Key, NewKey};
use crate::cli::credentials;
use crate::cli::documents;
use crate::cli::exit::CliError;

pub(crate) fn run(global: &Global, args: &Key) -> Result<(), CliError> {
    let pitr = open(global)?;
    let objects = pitr.objects();
    let failed = |error: pitr::objects::Error| explain(error.into());
    match args {
        Key::List => {
            let slots = objects.key_slots().map_err(failed)?;
            let slots = slots.into_iter().map(|slot| documents::KeySlot {
                id: slot.id.to_string(),
                method: slot.method,
                created: documents::Time(slot.created),
            });
            let keys = objects.keys().map_or(0, |keys| keys.len());
            global.output().answer(&documents::Keys { slots: slots.collect(), data_keys: keys })
        }
        Key::Add(new) => {
            let added = objects.add_key_slot(pitr.clock().now(), new_key(new)?.as_ref()).map_err(failed)?;
            global
                .output()
                .answer(&documents::KeyChange { added: Some(added.to_string()), ..Default::default() })
        }
        Key::Remove { slot } => {
            objects.remove_key_slot(slot).map_err(failed)?;
            let removed = Some(slot.clone());
            global.output().answer(&documents::KeyChange { removed, ..Default::default() })
        }
        Key::Rotate => {
            let data_keys = Some(objects.rotate_keys().map_err(failed)?);
            global.output().answer(&documents::KeyChange { data_keys, ..Default::default() })
        }
    }
}

fn new_key(args: &NewKey) -> Result<Box<dyn KeyWrap>, CliError> {
    let given = credentials::from_files(args.new_passphrase_file.as_deref(), args.new_key_file.as_deref())?;
    given.ok_or_else(|| CliError::usage("give --new-passphrase-file or --new-key-file"))
}
