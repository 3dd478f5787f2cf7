//! Answer of `pitr demo`.

use serde::Serialize;

use crate::output::Document;
use crate::output::values::Phases;

/// Result of the demo.
#[derive(Debug, Serialize)]
pub(crate) struct Demo {
    pub(crate) transactions: u64,
    pub(crate) archived: u64,
    pub(crate) damage_tx: u64,
    pub(crate) damage: String,
    pub(crate) target: String,
    pub(crate) rows_before_damage: u64,
    pub(crate) rows_in_damaged_database: u64,
    pub(crate) restored_rows: u64,
    pub(crate) exact: bool,
    pub(crate) phases: Phases,
}

impl Document for Demo {
    fn for_people(&self) -> String {
        if !self.exact {
            return format!(
                "\nThe restored database DIFFERS from the copy that the application took just before the damage.\n\
                 Times: {}.\n",
                self.phases
            );
        }
        format!(
            "\nThe restored database equals the copy that the application took just before the damage:\n\
             every row of every table ({} rows), the schema, integrity_check, page count and file length.\n\
             Times: {}.\n",
            self.restored_rows, self.phases
        )
    }
}
