//! The results of the tests against servers, as a table: a line for each suite, a column for each
//! store.

use std::fmt;

use crate::Result;

/// One suite against one store.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    suite: String,
    store: String,
    outcome: String,
    seconds: f64,
    reason: String,
}

/// All results, in their order.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// Reads the file of results.
    pub(super) fn parse(text: &str) -> Result<Table> {
        let row = |line: &str| {
            let fields: Vec<&str> = line.split('\t').collect();
            let [suite, store, outcome, seconds, reason] = fields[..] else {
                return Err(format!("a result has five fields: {line:?}").into());
            };
            Ok(Row {
                suite: suite.to_owned(),
                store: store.to_owned(),
                outcome: outcome.to_owned(),
                seconds: seconds.parse()?,
                reason: reason.to_owned(),
            })
        };
        Ok(Table { rows: text.lines().map(row).collect::<Result<_>>()? })
    }

    /// Suites that passed, failed and were skipped.
    pub(super) fn counts(&self) -> (usize, usize, usize) {
        let count = |outcome| self.rows.iter().filter(|row| row.outcome == outcome).count();
        let (passed, skipped) = (count("passed"), count("skipped"));
        (passed, self.rows.len() - passed - skipped, skipped)
    }

    /// Different values, in the order of their first row.
    fn different(&self, of: impl Fn(&Row) -> &str) -> Vec<&str> {
        let mut found = Vec::new();
        for row in &self.rows {
            let value = of(row);
            if !found.contains(&value) {
                found.push(value);
            }
        }
        found
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (suites, stores) = (self.different(|row| &row.suite), self.different(|row| &row.store));
        let width = suites.iter().map(|suite| suite.chars().count()).max().unwrap_or(0);
        write!(f, "{:width$}", "seconds")?;
        for store in &stores {
            write!(f, "  {store:>16}")?;
        }
        writeln!(f)?;
        for suite in suites {
            write!(f, "{suite:width$}")?;
            for store in &stores {
                let row = self.rows.iter().find(|row| row.suite == suite && row.store == *store);
                let cell = match row {
                    None => "-".to_owned(),
                    Some(row) if row.outcome == "passed" => format!("{:.2}", row.seconds),
                    Some(row) if row.outcome == "skipped" => "skipped".to_owned(),
                    Some(row) => format!("FAILED {:.2}", row.seconds),
                };
                write!(f, "  {cell:>16}")?;
            }
            writeln!(f)?;
        }
        for row in self.rows.iter().filter(|row| !row.reason.is_empty()) {
            writeln!(f, "{} on {}: {}: {}", row.suite, row.store, row.outcome, row.reason)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_become_a_table() {
        let table = Table::parse(
            "put\tlocal\tpassed\t0.124\t\nput\tmoto 5.2.5\tfailed\t1.5\t\n\
             ranges\tlocal\tpassed\t0.2\t\nconformance\tazurite 3.35.0\tskipped\t0.0\tnode is not installed\n",
        )
        .unwrap();
        assert_eq!(table.counts(), (2, 1, 1));
        let expected = "\
seconds                 local        moto 5.2.5    azurite 3.35.0
put                      0.12       FAILED 1.50                 -
ranges                   0.20                 -                 -
conformance                 -                 -           skipped
conformance on azurite 3.35.0: skipped: node is not installed
";
        assert_eq!(table.to_string(), expected);
    }

    #[test]
    fn an_unknown_outcome_is_a_failure_and_a_broken_line_is_an_error() {
        assert_eq!(Table::parse("put\tlocal\t\t0.1\t\n").unwrap().counts(), (0, 1, 0));
        assert!(Table::parse("put\tlocal\tpassed\n").is_err());
        assert!(Table::parse("put\tlocal\tpassed\tsoon\t\n").is_err());
    }
}
