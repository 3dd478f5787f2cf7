//! Answers of `pitr key`.

use serde::Serialize;

use crate::output::Document;
use crate::output::human::{Align, Table};
use crate::output::values::Time;

/// Answer of `key list`.
#[derive(Debug, Serialize)]
pub(crate) struct Keys {
    pub(crate) slots: Vec<KeySlot>,
    /// Number of data keys. New objects use the last one.
    pub(crate) data_keys: usize,
}

/// A passphrase or key that opens the repository.
#[derive(Debug, Serialize)]
pub(crate) struct KeySlot {
    pub(crate) id: String,
    pub(crate) method: String,
    pub(crate) created: Time,
}

impl Document for Keys {
    fn for_people(&self) -> String {
        let mut table =
            Table::new(&[("slot", Align::Left), ("opened by", Align::Left), ("created", Align::Left)]);
        for slot in &self.slots {
            let by = match slot.method.as_str() {
                "argon2id" => "passphrase",
                "raw" => "key file",
                other => other,
            };
            table.row([slot.id.clone(), by.to_owned(), slot.created.to_string()]);
        }
        format!("{}{} data keys\n", table.render(), self.data_keys)
    }
}

/// Answer of `key add`, `remove` and `rotate`. Fields of the other subcommands are null.
#[derive(Debug, Default, Serialize)]
pub(crate) struct KeyChange {
    pub(crate) added: Option<String>,
    pub(crate) removed: Option<String>,
    /// Number of data keys now.
    pub(crate) data_keys: Option<usize>,
}

impl Document for KeyChange {
    fn for_people(&self) -> String {
        let mut out = String::new();
        if let Some(slot) = &self.added {
            out += &format!("key slot {slot} added\n");
        }
        if let Some(slot) = &self.removed {
            out += &format!("key slot {slot} removed\n");
        }
        if let Some(count) = self.data_keys {
            out += &format!("data key {count} created; earlier data stays readable\n");
        }
        out
    }
}
