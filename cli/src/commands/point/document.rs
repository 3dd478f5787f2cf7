//! Answers of `pitr point`.

use std::fmt::Write as _;

use pitr::archive::NamedPoint;
use serde::Serialize;

use crate::output::Document;
use crate::output::human::{Align, Table};
use crate::output::values::{Position, Time};

/// A named recovery point.
#[derive(Debug, Serialize)]
pub(crate) struct Point {
    pub(crate) name: String,
    pub(crate) timeline: u32,
    #[serde(flatten)]
    pub(crate) at: Position,
    pub(crate) created: Time,
    pub(crate) note: String,
}

impl Point {
    pub(crate) fn of(point: &NamedPoint) -> Self {
        Point {
            name: point.name.to_string(),
            timeline: point.timeline.get(),
            at: Position::of(point.lsn, point.tx, Time(point.time)),
            created: Time(point.created),
            note: point.note.clone(),
        }
    }
}

/// Answer of `point create`.
#[derive(Debug, Serialize)]
pub(crate) struct Created {
    pub(crate) source: String,
    #[serde(flatten)]
    pub(crate) point: Point,
    /// True if the point names the newest archived commit, because no target was given.
    pub(crate) newest: bool,
    /// True if a running watcher first archived every commit that had returned. The newest archived
    /// commit was then the newest commit.
    pub(crate) complete: bool,
    /// Every commit before this time is archived. Null for a source without a log.
    pub(crate) archived_until: Option<Time>,
}

impl Document for Created {
    fn for_people(&self) -> String {
        let Point { name, at, .. } = &self.point;
        let newest = match (self.newest, self.complete) {
            (false, _) => "",
            (true, true) => ", the newest commit",
            (true, false) => ", the newest archived commit",
        };
        format!("point {name} of {}: {at}{newest}; it stays restorable until it is deleted\n", self.source)
    }
}

/// Answer of `point list`.
#[derive(Debug, Serialize)]
pub(crate) struct List {
    pub(crate) source: String,
    pub(crate) points: Vec<Point>,
    /// Faults of unreadable points.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) damaged: Vec<String>,
}

impl Document for List {
    fn for_people(&self) -> String {
        let mut out = String::new();
        for damaged in &self.damaged {
            let _ = writeln!(out, "DAMAGED point: {damaged}");
        }
        if self.points.is_empty() {
            let _ = writeln!(out, "{} has no readable points", self.source);
            return out;
        }
        let mut table = Table::new(&[
            ("POINT", Align::Left),
            ("TX", Align::Right),
            ("TIME (UTC)", Align::Left),
            ("LSN", Align::Right),
            ("CREATED (UTC)", Align::Left),
            ("NOTE", Align::Left),
        ]);
        for Point { name, at, created, note, .. } in &self.points {
            // A note may have several lines.
            let note = note.split_whitespace().collect::<Vec<_>>().join(" ");
            let (tx, time, lsn) = (at.tx.to_string(), at.time.to_string(), at.lsn.to_string());
            table.row([name.clone(), tx, time, lsn, created.to_string(), note]);
        }
        out + &table.render()
    }
}

/// Answer of `point delete`.
#[derive(Debug, Serialize)]
pub(crate) struct Deleted {
    pub(crate) source: String,
    pub(crate) deleted: String,
}

impl Document for Deleted {
    fn for_people(&self) -> String {
        format!("point {} of {} deleted; a later prune may remove its state\n", self.deleted, self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitr::archive::PointName;
    use pitr::format::{Lsn, TimelineId, Timestamp, TxId};

    fn point() -> Point {
        Point::of(&NamedPoint {
            name: PointName::new("移行前").unwrap(),
            timeline: TimelineId::FIRST,
            lsn: Lsn::new(700),
            tx: TxId::new(7),
            time: Timestamp::from_micros(1_795_271_526_000_001),
            created: Timestamp::from_micros(1_795_271_527_000_000),
            note: "two\nlines".to_owned(),
        })
    }

    fn keys(document: &impl Serialize) -> String {
        let serde_json::Value::Object(map) = serde_json::to_value(document).unwrap() else { panic!() };
        map.keys().cloned().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn answers_have_their_keys_and_name_the_state() {
        let mut created = Created {
            source: "shop".into(),
            point: point(),
            newest: true,
            complete: false,
            archived_until: None,
        };
        let expected = "archived_until complete created lsn name newest note source time timeline tx";
        assert_eq!(keys(&created), expected);
        assert!(created.for_people().contains("tx 7 of") && created.for_people().contains("newest archived"));
        created.complete = true;
        assert!(created.for_people().contains("the newest commit;"), "{}", created.for_people());
        (created.newest, created.complete) = (false, false);
        assert!(!created.for_people().contains("newest"), "{}", created.for_people());

        let mut list = List { source: "shop".into(), points: vec![point()], damaged: vec![] };
        assert_eq!(keys(&list), "points source");
        assert!(list.for_people().contains("two lines"), "{}", list.for_people());
        assert!(list.for_people().contains("移行前") && list.for_people().contains("700"));
        (list.points, list.damaged) = (vec![], vec!["sources/shop/points/00: bad".into()]);
        assert!(list.for_people().contains("DAMAGED") && list.for_people().contains("no readable points"));

        let deleted = Deleted { source: "shop".into(), deleted: "移行前".into() };
        assert_eq!(keys(&deleted), "deleted source");
        assert!(deleted.for_people().contains("移行前"));
    }
}
