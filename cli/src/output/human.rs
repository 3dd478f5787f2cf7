//! Sizes, durations and tables for people.

use std::time::Duration;

/// A size with three significant digits and a decimal unit: `999 B`, `1.23 kB`, `45.6 MB`.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64;
    let mut unit = 0;
    // 999.5 would round to four digits.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = if value < 9.995 {
        2
    } else if value < 99.95 {
        1
    } else {
        0
    };
    format!("{value:.decimals$} {}", UNITS[unit])
}

/// A duration in at most two units: `843 ms`, `12.3 s`, `2 min 05 s`, `1 h 03 min`.
pub(crate) fn duration(length: Duration) -> String {
    let seconds = length.as_secs_f64();
    if seconds < 0.9995 {
        format!("{:.0} ms", seconds * 1000.0)
    } else if seconds < 59.95 {
        format!("{seconds:.1} s")
    } else {
        let whole = seconds.round() as u64;
        if whole < 3600 {
            format!("{} min {:02} s", whole / 60, whole % 60)
        } else {
            format!("{} h {:02} min", whole / 3600, whole / 60 % 60)
        }
    }
}

/// The seconds of a JSON document as a duration.
pub(crate) fn seconds(seconds: f64) -> String {
    Duration::try_from_secs_f64(seconds).map_or_else(|_| "unknown".to_owned(), duration)
}

/// Alignment of a column's cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Columns of text under a heading.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    cells: Vec<String>,
    /// Text across the columns after the cells.
    rest: Option<String>,
}

impl Table {
    /// An empty table with these columns.
    pub(crate) fn new(columns: &[(&'static str, Align)]) -> Self {
        Table { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row. Surplus cells are dropped; missing cells are blank.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(Row { cells: cells.into_iter().collect(), rest: None });
    }

    /// Adds a row with these first cells, and `text` across the other columns.
    pub(crate) fn line(&mut self, cells: impl IntoIterator<Item = String>, text: String) {
        self.rows.push(Row { cells: cells.into_iter().collect(), rest: Some(text) });
    }

    /// The table as text: two spaces between columns, no trailing spaces.
    pub(crate) fn render(&self) -> String {
        let heading = self.columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        let heading = Row { cells: heading, rest: None };
        let lines = || std::iter::once(&heading).chain(&self.rows);
        let cells = |i: usize| lines().filter_map(move |row| row.cells.get(i));
        let width_of = |i: usize| cells(i).map(|cell| cell.chars().count()).max();
        let widths: Vec<usize> = (0..self.columns.len()).map(|i| width_of(i).unwrap_or(0)).collect();
        let mut text = String::new();
        for Row { cells, rest } in lines() {
            let shown = if rest.is_some() { cells.len() } else { widths.len() };
            let mut parts = Vec::with_capacity(shown + 1);
            for (i, ((_, align), width)) in self.columns.iter().zip(&widths).enumerate().take(shown) {
                let cell = cells.get(i).map_or("", String::as_str);
                parts.push(match align {
                    Align::Left => format!("{cell:<width$}"),
                    Align::Right => format!("{cell:>width$}"),
                });
            }
            parts.extend(rest.clone());
            text += parts.join("  ").trim_end();
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        let cases = [(0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (9_996, "10.0 kB"), (99_960, "100 kB")];
        for (given, printed) in cases {
            assert_eq!(bytes(given), printed);
        }
        assert_eq!(bytes(999_600), "1.00 MB");
        assert_eq!(bytes(1_610_612_736), "1.61 GB");
        assert_eq!(bytes(u64::MAX), "18.4 EB");
    }

    #[test]
    fn durations_have_two_units() {
        let cases = [(0, "0 ms"), (843, "843 ms"), (999, "999 ms"), (1_000, "1.0 s"), (59_949, "59.9 s")];
        for (millis, printed) in cases {
            assert_eq!(duration(Duration::from_millis(millis)), printed);
        }
        assert_eq!(duration(Duration::from_millis(59_990)), "1 min 00 s");
        assert_eq!(duration(Duration::from_secs(125)), "2 min 05 s");
        assert_eq!(duration(Duration::from_secs(3_780)), "1 h 03 min");
        assert_eq!(seconds(f64::NAN), "unknown");
    }

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&[("TX", Align::Right), ("NAME", Align::Left), ("X", Align::Left)]);
        table.row(["7".into(), "läden".into(), "a".into()]);
        table.line([], "a line that is wider than its column".into());
        table.line(["7".into()], "a line after a cell".into());
        table.row(["1482".into(), "b".into()]);
        let lines = [
            "  TX  NAME   X",
            "   7  läden  a",
            "a line that is wider than its column",
            "   7  a line after a cell",
            "1482  b",
            "",
        ];
        assert_eq!(table.render(), lines.join("\n"));
    }
}
