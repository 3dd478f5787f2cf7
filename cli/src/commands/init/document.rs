//! Answer of `pitr init`.

use serde::Serialize;

use crate::output::Document;

/// Answer of `init`.
#[derive(Debug, Serialize)]
pub(crate) struct Init {
    pub(crate) repository: String,
    pub(crate) id: String,
    pub(crate) encrypted: bool,
}

impl Document for Init {
    fn for_people(&self) -> String {
        let kind = if self.encrypted { "encrypted repository" } else { "repository" };
        format!("{kind} {} created in {}\n", self.id, self.repository)
    }
}
