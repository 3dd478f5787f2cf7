//! Answer of `pitr log`: transactions, gaps and forks.

use pitr::format::Timestamp;
use serde::Serialize;

use crate::output::Document;
use crate::output::human::{self, Align, Table};
use crate::output::values::{Gap, Position, Time};

/// Answer of `log`.
#[derive(Debug, Serialize)]
pub(crate) struct Log {
    pub(crate) transactions: Vec<Transaction>,
    /// Ranges in which commits are missing or can't be restored.
    pub(crate) gaps: Vec<Gap>,
    /// Points at which the history continues on another timeline.
    pub(crate) forks: Vec<Fork>,
}

/// A committed transaction. It was committed after `earliest` and not later than `time`.
#[derive(Debug, Serialize)]
pub(crate) struct Transaction {
    /// Absent if only one source is listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<String>,
    pub(crate) timeline: u32,
    #[serde(flatten)]
    pub(crate) at: Position,
    pub(crate) earliest: Time,
    pub(crate) blocks: u64,
    pub(crate) bytes: u64,
    /// False for an archived commit that no snapshot makes restorable.
    pub(crate) restorable: bool,
}

/// The point at which a timeline left its parent.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Fork {
    /// Absent if only one source is listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<String>,
    pub(crate) timeline: u32,
    pub(crate) parent: Option<u32>,
    /// The last LSN of the parent that belongs to the timeline's history.
    pub(crate) lsn: u64,
    /// When the timeline began, by its source's clock.
    pub(crate) time: Time,
    pub(crate) reason: String,
    /// Times that the source's clock showed both before and after the fork.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ambiguous: Option<Times>,
}

/// A range of times.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Times {
    pub(crate) from: Time,
    pub(crate) to: Time,
}

impl Log {
    /// The logs of several sources, merged by time.
    pub(crate) fn merged<'a>(logs: impl IntoIterator<Item = (&'a str, Log)>) -> Log {
        let mut all = Log { transactions: Vec::new(), gaps: Vec::new(), forks: Vec::new() };
        for (name, log) in logs {
            let source = || Some(name.to_owned());
            let Log { transactions, gaps, forks } = log;
            all.transactions
                .extend(transactions.into_iter().map(|tx| Transaction { source: source(), ..tx }));
            all.gaps.extend(gaps.into_iter().map(|gap| Gap { source: source(), ..gap }));
            all.forks.extend(forks.into_iter().map(|fork| Fork { source: source(), ..fork }));
        }
        // The sort is stable: entries of one source keep their order.
        all.transactions.sort_by_key(|tx| tx.at.time.0);
        all.gaps.sort_by_key(|gap| gap.from.time.0);
        all.forks.sort_by_key(|fork| fork.time.0);
        all
    }

    /// All entries, ordered by LSN within a source and by time across sources.
    fn lines(&self) -> Vec<Line<'_>> {
        let mut lines: Vec<Line<'_>> = Vec::new();
        lines.extend(self.transactions.iter().map(|tx| Line::new(&tx.source, tx.at, What::Transaction(tx))));
        lines.extend(self.gaps.iter().map(|gap| Line::new(&gap.source, gap.from, What::Gap(gap))));
        lines.extend(self.forks.iter().map(|fork| Line {
            source: fork.source.as_deref(),
            lsn: fork.lsn,
            time: fork.time.0,
            what: What::Fork(fork),
        }));
        // The sort is stable: a gap or fork stays after the commit at the same LSN.
        lines.sort_by_key(|line| (line.source, line.lsn));
        // If a clock was set back, a line gets the time of the line before it in its source.
        let mut before: Option<(Option<&str>, Timestamp)> = None;
        for line in &mut lines {
            if let Some((_, time)) = before.filter(|(source, _)| *source == line.source) {
                line.time = line.time.max(time);
            }
            before = Some((line.source, line.time));
        }
        lines.sort_by_key(|line| line.time);
        lines
    }
}

impl Document for Log {
    fn for_people(&self) -> String {
        let lines = self.lines();
        let mut columns = vec![
            ("TX", Align::Right),
            ("TIME (UTC)", Align::Left),
            ("LSN", Align::Right),
            ("BLOCKS", Align::Right),
            ("SIZE", Align::Right),
            ("", Align::Left),
        ];
        let several = self.transactions.iter().any(|tx| tx.timeline != self.transactions[0].timeline);
        if several {
            columns.insert(3, ("TIMELINE", Align::Right));
        }
        if lines.iter().any(|line| line.source.is_some()) {
            columns.insert(0, ("SOURCE", Align::Left));
        }
        let mut table = Table::new(&columns);
        for line in lines {
            let source = line.source.map(str::to_owned).into_iter();
            match line.what {
                What::Transaction(tx) => {
                    let place = [tx.at.tx.to_string(), tx.at.time.to_string(), tx.at.lsn.to_string()];
                    let timeline = several.then(|| tx.timeline.to_string());
                    let size = [tx.blocks.to_string(), human::bytes(tx.bytes)];
                    let doubt = if tx.restorable { "" } else { "CAN'T BE RESTORED" };
                    table.row(source.chain(place).chain(timeline).chain(size).chain([doubt.to_owned()]));
                }
                What::Gap(gap) => table.line(source, gap.line()),
                What::Fork(fork) => table.line(source, fork.line()),
            }
        }
        table.render()
    }
}

/// A row of the table.
struct Line<'a> {
    source: Option<&'a str>,
    lsn: u64,
    time: Timestamp,
    what: What<'a>,
}

/// The content of a row.
enum What<'a> {
    Transaction(&'a Transaction),
    Gap(&'a Gap),
    Fork(&'a Fork),
}

impl<'a> Line<'a> {
    fn new(source: &'a Option<String>, at: Position, what: What<'a>) -> Self {
        Line { source: source.as_deref(), lsn: at.lsn, time: at.time.0, what }
    }
}

impl Gap {
    fn line(&self) -> String {
        let to = self.to.map_or("now, still open".into(), |to| to.time.to_string());
        format!("-- GAP from {} to {to}: {}", self.from.time, self.reason)
    }
}

impl Fork {
    fn line(&self) -> String {
        let twice = self.ambiguous.map_or(String::new(), |times| {
            format!(" (the clock showed {} to {} twice)", times.from, times.to)
        });
        format!("-- TIMELINE {} begins at {}: {}{twice}", self.timeline, self.time, self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitr::format::{Lsn, TxId};
    use serde_json::Value;

    fn position(tx: u64) -> Position {
        let time = Time(Timestamp::from_micros(1_795_271_526_000_000 + tx as i64));
        Position::of(Lsn::new(tx * 100), TxId::new(tx), time)
    }

    fn transaction(tx: u64) -> Transaction {
        let earliest = position(tx - 1).time;
        let (timeline, at, restorable) = (if tx > 9 { 2 } else { 1 }, position(tx), tx != 8);
        Transaction { source: None, timeline, at, earliest, blocks: 2, bytes: 8192, restorable }
    }

    #[test]
    fn gaps_and_forks_are_listed_between_the_transactions() {
        // FAILURES 60
        let gap = |from, to| Gap { source: None, from: position(from), to, reason: "not seen".into() };
        let (lsn, time) = (900, position(9).time);
        let ambiguous = Some(Times { from: position(8).time, to: time });
        let fork =
            Fork { source: None, timeline: 2, parent: Some(1), lsn, time, reason: "why".into(), ambiguous };
        let log = Log {
            transactions: [7, 8, 9, 10].map(transaction).into(),
            gaps: vec![gap(7, Some(position(8))), gap(10, None)],
            forks: vec![fork],
        };
        let text = log.for_people();
        let told: Vec<&str> = text.lines().map(|line| line.split_whitespace().nth(1).unwrap()).collect();
        assert_eq!(told[2], "GAP", "{text}");
        assert_eq!((told[5], told[7]), ("TIMELINE", "GAP"), "{text}");
        assert!(text.contains("twice") && text.lines().nth(7).unwrap().contains("still open"), "{text}");
        assert_eq!(text.matches("CAN'T BE RESTORED").count(), 1, "{text}");
        // The column is there only if it tells transactions apart.
        let column = |text: &str| -> Vec<String> {
            let rows = text.lines().filter(|line| !line.contains("--"));
            rows.map(|line| line.split_whitespace().nth(3).unwrap().to_owned()).collect()
        };
        assert_eq!(text.lines().next().unwrap().split_whitespace().nth(4), Some("TIMELINE"), "{text}");
        assert_eq!(column(&text)[1..], ["1", "1", "1", "2"], "{text}");
        let on_one = Log { transactions: [7, 9].map(transaction).into(), gaps: vec![], forks: vec![] };
        assert!(!on_one.for_people().contains("TIMELINE"), "{}", on_one.for_people());

        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
        let json = serde_json::to_value(&log).unwrap();
        assert_eq!(keys(&json), "forks gaps transactions");
        assert_eq!(keys(&json["transactions"][0]), "blocks bytes earliest lsn restorable time timeline tx");
        assert_eq!(keys(&json["gaps"][0]), "from reason to");
        assert_eq!(keys(&json["forks"][0]), "ambiguous lsn parent reason time timeline");
    }

    #[test]
    fn several_sources_are_merged_by_time() {
        // FAILURES 60
        let log = |txs: &[u64], gaps: Vec<Gap>, forks: Vec<Fork>| Log {
            transactions: txs.iter().copied().map(transaction).collect(),
            gaps,
            forks,
        };
        let gap = Gap { source: None, from: position(2), to: Some(position(5)), reason: "not seen".into() };
        // A clock that was set back before the fork.
        let (lsn, time, reason) = (700, position(1).time, "why".into());
        let fork = Fork { source: None, timeline: 2, parent: Some(1), lsn, time, reason, ambiguous: None };
        let log = Log::merged([
            ("users", log(&[2, 5], vec![gap], vec![])),
            ("a", log(&[3, 7, 9], vec![], vec![fork])),
        ]);
        let text = log.for_people();
        let told = text.lines().map(|line| line.split_whitespace().take(3).collect::<Vec<_>>().join(" "));
        let told: Vec<String> = told.collect();
        let short: Vec<&str> =
            told.iter().map(|line| &line[..line.find(" 20").unwrap_or(line.len())]).collect();
        let expected =
            ["SOURCE TX TIME", "users 2", "users -- GAP", "a 3", "users 5", "a 7", "a -- TIMELINE", "a 9"];
        assert_eq!(short, expected, "{text}");
        let json = serde_json::to_value(&log).unwrap();
        assert_eq!((&json["gaps"][0]["source"], &json["forks"][0]["source"]), (&"users".into(), &"a".into()));
        let txs: Vec<u64> = log.transactions.iter().map(|tx| tx.at.tx).collect();
        assert_eq!(txs, [2, 3, 5, 7, 9]);
    }
}
