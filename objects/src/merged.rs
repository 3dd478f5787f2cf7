//! Shipped log objects that a reader need not list: merged ones hold their range.
//!
//! A log that is shipped once a second makes 86,400 objects a day, and a listing has 1,000 of them.
//! The merged objects come first in a listing ([`layout`](crate::layout)), so it can go on behind
//! what they hold.
//!
//! # Promises
//! - What is left out lies within merged objects that follow each other without a hole, so each
//!   position is still held.
//! - Where merged objects overlap in part, nothing is left out: which of them count depends on the
//!   others.

use crate::Entry;
use crate::layout::{LogName, ObjectName, SourceFolder, SourceObject};
use pitr_format::{Epoch, Lsn, TimelineId};
use std::collections::HashMap;

/// Objects that are listed one after the other although merged ones hold them, before the listing
/// goes on behind those: half a page, because the request that finds the place is one more.
const LISTED_MAX: usize = 500;

/// Start and end of a range.
type Span = (Lsn, Lsn);

/// The merged objects that a listing has shown.
#[derive(Debug, Default)]
pub(crate) struct Merged {
    of: HashMap<SourceFolder, HashMap<(TimelineId, Epoch), Spans>>,
    /// Where the listing may go on, and the number of objects before it that were listed.
    ahead: (String, usize),
}

/// The merged objects of one timeline by one writer.
#[derive(Debug, Default)]
struct Spans {
    found: Vec<Span>,
    /// What they hold without a hole; `None` after one was found.
    runs: Option<Vec<Span>>,
}

impl Merged {
    /// The merged objects of a listing.
    pub(crate) fn of(entries: &[Entry]) -> Self {
        let mut merged = Merged::default();
        let logs = entries.iter().filter_map(|entry| log_at(&entry.path));
        logs.filter(|(_, name)| name.level > 0).for_each(|(folder, name)| merged.note(folder, &name));
        merged
    }

    /// Takes note of the next object of a sorted listing. Returns a path behind which the listing
    /// may go on: all objects before it are left out.
    pub(crate) fn next(&mut self, path: &str) -> Option<String> {
        let (folder, name) = log_at(path)?;
        if name.level > 0 {
            self.note(folder, &name);
            return None;
        }
        let (_, end) = self.run(&folder, &name)?;
        let [shipped, _] = folder.logs_of(name.timeline, name.epoch);
        let ahead = format!("{shipped}/{:016x}", end.get());
        if self.ahead.0 != ahead {
            self.ahead = (ahead, 0);
        }
        self.ahead.1 += 1;
        (self.ahead.1 == LISTED_MAX).then(|| self.ahead.0.clone())
    }

    /// Takes note of a merged object.
    fn note(&mut self, folder: SourceFolder, name: &LogName) {
        let spans = self.of.entry(folder).or_default().entry((name.timeline, name.epoch)).or_default();
        spans.found.push((name.from, name.to));
        spans.runs = None;
    }

    /// True if the object at this path is a shipped one whose range merged ones hold.
    pub(crate) fn holds(&mut self, path: &str) -> bool {
        let Some((folder, name)) = log_at(path) else { return false };
        name.level == 0 && self.run(&folder, &name).is_some_and(|(_, to)| name.to <= to)
    }

    /// The run that holds the start of this object.
    fn run(&mut self, folder: &SourceFolder, name: &LogName) -> Option<Span> {
        let spans = self.of.get_mut(folder)?.get_mut(&(name.timeline, name.epoch))?;
        let runs = spans.runs.get_or_insert_with(|| runs(&mut spans.found));
        let run = *runs.get(runs.partition_point(|(_, to)| *to <= name.from))?;
        (run.0 <= name.from).then_some(run)
    }
}

fn log_at(path: &str) -> Option<(SourceFolder, LogName)> {
    match ObjectName::parse(path)? {
        ObjectName::Source(folder, SourceObject::Log(name)) => Some((folder, name)),
        _ => None,
    }
}

/// What these ranges hold without a hole, ascending; nothing if two overlap in part.
fn runs(found: &mut [Span]) -> Vec<Span> {
    // Of those with one start the longest comes first: the others lie within it.
    found.sort_unstable_by_key(|(from, to)| (*from, std::cmp::Reverse(*to)));
    let mut runs: Vec<Span> = Vec::new();
    let mut last = (Lsn::ORIGIN, Lsn::ORIGIN);
    for span in found.iter().copied() {
        if span.1 <= last.1 {
            continue;
        }
        if span.0 < last.1 {
            return Vec::new();
        }
        match runs.last_mut().filter(|run| run.1 == span.0) {
            Some(run) => run.1 = span.1,
            None => runs.push(span),
        }
        last = span;
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(level: u8, from: u64, to: u64) -> String {
        let (timeline, epoch) = (TimelineId::FIRST, Epoch::FIRST);
        let name = LogName { timeline, epoch, from: Lsn::new(from), to: Lsn::new(to), level };
        format!("sources/app/{name}")
    }

    fn spans(pairs: &[(u64, u64)]) -> Vec<Span> {
        pairs.iter().map(|(from, to)| (Lsn::new(*from), Lsn::new(*to))).collect()
    }

    #[test]
    fn only_what_follows_without_a_hole_is_one_run() {
        let runs = |pairs: &[(u64, u64)]| runs(&mut spans(pairs));
        assert_eq!(runs(&[(10, 20), (0, 10), (30, 40)]), spans(&[(0, 20), (30, 40)]));
        assert_eq!(runs(&[(0, 5), (0, 10), (5, 10), (10, 20), (0, 20)]), spans(&[(0, 20)]));
        assert_eq!(runs(&[(0, 30), (10, 40), (40, 50)]), [], "which of the two counts is not known");
    }

    #[test]
    fn a_listing_goes_on_behind_many_objects_that_were_merged() {
        let mut merged = Merged::default();
        assert_eq!(merged.next(&path(1, 0, 1000)), None);
        assert_eq!(merged.next("sources/app/epochs/0000000000000001-claim"), None);
        let asked: Vec<Option<String>> = (0..1000).map(|at| merged.next(&path(0, at, at + 1))).collect();
        let jumps: Vec<usize> = (0..1000).filter(|at| asked[*at].is_some()).collect();
        assert_eq!(jumps, [LISTED_MAX - 1]);
        let ahead = asked[LISTED_MAX - 1].as_deref().unwrap();
        assert!(path(0, 999, 1000).as_str() < ahead && ahead < path(0, 1000, 1001).as_str(), "{ahead}");
        let behind = (1000..3000).find_map(|at| merged.next(&path(0, at, at + 1)));
        assert_eq!(behind, None, "nothing was merged there");
        let other = path(0, 0, 1).replace("sources/app/", "sources/other/");
        assert!(merged.holds(&path(0, 0, 1)) && !merged.holds(&other) && !merged.holds(&path(1, 0, 1000)));
        assert!(!merged.holds(&path(0, 999, 1001)), "it was not merged as a whole");
    }

    proptest! {
        #[test]
        fn what_is_left_out_is_held(
            found in prop::collection::vec((0u64..40, 1u64..12), 0..12),
            shipped in prop::collection::vec((0u64..50, 1u64..5), 0..40),
        ) {
            let mut merged = Merged::default();
            for (from, len) in &found {
                merged.next(&path(1, *from, from + len));
            }
            for (from, len) in shipped {
                if merged.holds(&path(0, from, from + len)) {
                    let is_held = |at| found.iter().any(|(from, len)| (*from..from + len).contains(&at));
                    prop_assert!((from..from + len).all(is_held), "{from} {len} {found:?}");
                }
            }
        }
    }
}
