//! The answer of `log`: transactions, and between them what interrupts the history.

use super::documents::{Gap, Position, Time};
use super::human::{self, Align, Table};
use super::output::Document;
use serde::Serialize;

/// Answer of `log`.
#[derive(Debug, Serialize)]
pub(crate) struct Log {
    pub(crate) transactions: Vec<Transaction>,
    /// Stretches in which commits are missing or can't be restored.
    pub(crate) gaps: Vec<Gap>,
    /// Where the history goes over to another timeline.
    pub(crate) forks: Vec<Fork>,
}

/// One committed transaction; it was committed after `earliest` and not after `time`.
#[derive(Debug, Serialize)]
pub(crate) struct Transaction {
    #[serde(flatten)]
    pub(crate) at: Position,
    pub(crate) earliest: Time,
    pub(crate) blocks: u64,
    pub(crate) bytes: u64,
    /// False for a commit that is archived and that no snapshot leads to.
    pub(crate) restorable: bool,
}

/// Where a timeline left its parent.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Fork {
    pub(crate) timeline: u32,
    pub(crate) parent: Option<u32>,
    /// The last position of the parent that counts.
    pub(crate) lsn: u64,
    /// When the timeline began, by the clock of its source.
    pub(crate) time: Time,
    pub(crate) reason: String,
    /// Times that the source's clock showed before the fork and again after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ambiguous: Option<Times>,
}

/// Two times.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Times {
    pub(crate) from: Time,
    pub(crate) to: Time,
}

impl Document for Log {
    fn for_people(&self) -> String {
        let mut lines: Vec<(u64, Line<'_>)> = Vec::new();
        lines.extend(self.transactions.iter().map(|tx| (tx.at.lsn, Line::Transaction(tx))));
        lines.extend(self.gaps.iter().map(|gap| (gap.from.lsn, Line::Gap(gap))));
        lines.extend(self.forks.iter().map(|fork| (fork.lsn, Line::Fork(fork))));
        // The commit at the edge of a gap or a fork comes before it, which stays as it was put.
        lines.sort_by_key(|(lsn, _)| *lsn);
        let mut table = Table::new(&[
            ("TX", Align::Right),
            ("TIME (UTC)", Align::Left),
            ("LSN", Align::Right),
            ("BLOCKS", Align::Right),
            ("SIZE", Align::Right),
            ("", Align::Left),
        ]);
        for (_, line) in lines {
            match line {
                Line::Transaction(tx) => table.row([
                    tx.at.tx.to_string(),
                    tx.at.time.to_string(),
                    tx.at.lsn.to_string(),
                    tx.blocks.to_string(),
                    human::bytes(tx.bytes),
                    if tx.restorable { String::new() } else { "CAN'T BE RESTORED".to_owned() },
                ]),
                Line::Gap(gap) => table.line(gap.line()),
                Line::Fork(fork) => table.line(fork.line()),
            }
        }
        table.render()
    }
}

/// What a line of the table tells of.
enum Line<'a> {
    Transaction(&'a Transaction),
    Gap(&'a Gap),
    Fork(&'a Fork),
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
    use pitr_format::{Lsn, Timestamp, TxId};
    use serde_json::Value;

    fn position(tx: u64) -> Position {
        let time = Time(Timestamp::from_micros(1_795_271_526_000_000 + tx as i64));
        Position::of(Lsn::new(tx * 100), TxId::new(tx), time)
    }

    fn transaction(tx: u64) -> Transaction {
        let earliest = position(tx - 1).time;
        Transaction { at: position(tx), earliest, blocks: 2, bytes: 8192, restorable: tx != 8 }
    }

    #[test]
    fn gaps_and_forks_stand_between_the_transactions() {
        // FAILURES 60
        let gap = |from, to| Gap { from: position(from), to, reason: "not seen".into() };
        let (lsn, time) = (900, position(9).time);
        let ambiguous = Some(Times { from: position(8).time, to: time });
        let fork = Fork { timeline: 2, parent: Some(1), lsn, time, reason: "why".into(), ambiguous };
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

        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
        let json = serde_json::to_value(&log).unwrap();
        assert_eq!(keys(&json), "forks gaps transactions");
        assert_eq!(keys(&json["transactions"][0]), "blocks bytes earliest lsn restorable time tx");
        assert_eq!(keys(&json["gaps"][0]), "from reason to");
        assert_eq!(keys(&json["forks"][0]), "ambiguous lsn parent reason time timeline");
    }
}
