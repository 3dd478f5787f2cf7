//! The timelines of a source, as a tree: each below the one that it forked from.

use std::fmt::Write as _;

use serde::Serialize;

use crate::output::values::{Position, Time};

/// A timeline of a source.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Timeline {
    pub(crate) timeline: u32,
    /// The timeline that it forked from. Null if it has no known past.
    pub(crate) parent: Option<u32>,
    /// The last LSN of the parent that belongs to its history.
    pub(crate) lsn: u64,
    /// When it began, by its source's clock.
    pub(crate) time: Time,
    pub(crate) reason: String,
    /// Its newest archived commit. Null if it has none of its own.
    pub(crate) newest: Option<Position>,
    /// True for the timeline whose history a restore uses unless the target or `--timeline` names
    /// another.
    pub(crate) followed: bool,
}

/// The timelines as a tree, a line for each; empty for a single one.
pub(super) fn draw(timelines: &[Timeline]) -> String {
    let mut text = String::new();
    if timelines.len() < 2 {
        return text;
    }
    text += "  timelines:\n";
    let known = |parent: u32| timelines.iter().any(|other| other.timeline == parent);
    let is_root = |timeline: &&Timeline| timeline.parent.is_none_or(|parent| !known(parent));
    for root in timelines.iter().filter(is_root) {
        let _ = writeln!(text, "    {}", line(root));
        branches(timelines, root.timeline, "    ", &mut text);
    }
    text
}

/// Draws what forked from `parent`. A timeline's number is higher than its parent's, so that the
/// recursion ends.
fn branches(timelines: &[Timeline], parent: u32, indent: &str, text: &mut String) {
    let is_child = |child: &&Timeline| child.parent == Some(parent) && child.timeline > parent;
    let mut children = timelines.iter().filter(is_child).peekable();
    while let Some(child) = children.next() {
        let (branch, below) =
            if children.peek().is_some() { ("├─ ", "│  ") } else { ("└─ ", "   ") };
        let _ = writeln!(text, "{indent}{branch}{}", line(child));
        branches(timelines, child.timeline, &format!("{indent}{below}"), text);
    }
}

fn line(timeline: &Timeline) -> String {
    let Timeline { timeline, parent, lsn, time, reason, newest, followed } = timeline;
    let fork = parent.map_or(String::new(), |_| format!(" from lsn {lsn}"));
    let newest = newest.map_or("no commits of its own".to_owned(), |newest| format!("up to {newest}"));
    let followed = if *followed { "; a restore follows this one" } else { "" };
    format!("{timeline}{fork} since {time}, {newest}{followed}; {reason}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitr::format::{Lsn, Timestamp, TxId};

    fn timeline(timeline: u32, parent: Option<u32>) -> Timeline {
        let time = Time(Timestamp::from_micros(i64::from(timeline)));
        let newest = Position::of(Lsn::new(900), TxId::new(7), time);
        let newest = (timeline != 4).then_some(newest);
        Timeline { timeline, parent, lsn: 500, time, reason: "why".into(), newest, followed: timeline == 5 }
    }

    #[test]
    fn each_timeline_is_drawn_once_below_its_parent() {
        let all: Vec<Timeline> =
            [(1, None), (2, Some(1)), (3, Some(1)), (4, Some(2)), (5, Some(2)), (7, Some(6))]
                .map(|(id, parent)| timeline(id, parent))
                .into();
        let drawn = draw(&all);
        let shape: Vec<String> = drawn
            .lines()
            .skip(1)
            .map(|line| line.split(" from ").next().unwrap().split(" since ").next().unwrap().to_owned())
            .collect();
        // The history object of timeline 6 is lost.
        assert_eq!(
            shape,
            ["    1", "    ├─ 2", "    │  ├─ 4", "    │  └─ 5", "    └─ 3", "    7"],
            "{drawn}"
        );
        assert_eq!(drawn.matches("a restore follows this one").count(), 1, "{drawn}");
        let of = |id: &str| drawn.lines().find(|line| line.contains(id)).unwrap();
        assert!(of("└─ 5").contains("from lsn 500") && of("└─ 5").contains("follows"), "{drawn}");
        assert!(of("├─ 4").contains("no commits of its own"), "{drawn}");
        assert!(of("└─ 3").contains("up to tx 7 of") && of("└─ 3").ends_with("; why"), "{drawn}");
        assert_eq!(draw(&all[..1]), "", "a single timeline needs no tree");
    }
}
