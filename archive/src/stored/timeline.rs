//! The history of timelines: the fork point of each, and its reason.

use pitr_format::bytes::{DecodeError, Put, Reader};
use pitr_format::{Lsn, TimelineId, Timestamp};

const VERSION: u16 = 1;
const WHAT: &str = "timeline object";

/// Why a timeline began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum ForkReason {
    /// The timeline is the first of its source, or its past is unknown.
    First = 0,
    /// A restored copy was written to.
    Restored = 1,
    /// The source went back to an earlier state, for example after a power loss.
    SourceRewound = 2,
    /// The wall clock was set back too far.
    ClockSetBack = 3,
    /// The local log was behind its archive.
    LogBehind = 4,
    /// The source's content was not a state that the repository knows.
    StateUnknown = 5,
}

impl ForkReason {
    const ALL: [ForkReason; 6] = [
        ForkReason::First,
        ForkReason::Restored,
        ForkReason::SourceRewound,
        ForkReason::ClockSetBack,
        ForkReason::LogBehind,
        ForkReason::StateUnknown,
    ];

    /// What happened to the source and the consequence, for people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            ForkReason::First => "the database was watched for the first time",
            ForkReason::Restored => {
                "a restored copy of the database was written to; the history before stays restorable"
            }
            ForkReason::SourceRewound => {
                "the database went back to an earlier state, as after a power loss; the commits that it lost stay restorable on the timeline before"
            }
            ForkReason::ClockSetBack => {
                "the clock was set back; times that it showed twice can't be restored by time, only by transaction or LSN"
            }
            ForkReason::LogBehind => {
                "the watcher's state folder was missing, damaged or older than the repository; commits made until it began again were not captured"
            }
            ForkReason::StateUnknown => {
                "the database's content was not a state that the repository knows; the history before stays restorable"
            }
        }
    }
}

/// The start of a timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeline {
    /// The timeline's parent; `None` for a timeline without a past.
    pub parent: Option<TimelineId>,
    /// The last position of the parent that belongs to the timeline's history; [`Lsn::ORIGIN`]
    /// without a parent.
    pub fork: Lsn,
    /// The reason of the fork.
    pub reason: ForkReason,
    /// Time of the fork, by the clock that stamps the timeline's commits.
    pub created: Timestamp,
    /// First and last time that the source's clock showed twice, before and after it was set back.
    pub ambiguous: Option<(Timestamp, Timestamp)>,
    /// Root of the restored state that the timeline started from.
    pub root: Option<[u8; 32]>,
}

impl Timeline {
    /// Position at which the timeline's own log begins: its fork point, or the origin.
    #[must_use]
    pub fn begin(&self) -> Lsn {
        // On a timeline without a parent, positions start at the origin, whatever its fork point
        // is.
        self.parent.map_or(Lsn::ORIGIN, |_| self.fork)
    }

    /// The first timeline of a source, from the origin of its log.
    #[must_use]
    pub fn first(created: Timestamp) -> Self {
        let (fork, reason) = (Lsn::ORIGIN, ForkReason::First);
        Timeline { parent: None, fork, reason, created, ambiguous: None, root: None }
    }

    /// The bytes of the history object's payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u16(VERSION);
        out.put_u8(self.reason as u8);
        out.put_u8(u8::from(self.ambiguous.is_some()) | u8::from(self.root.is_some()) << 1);
        out.put_u32(self.parent.map_or(0, TimelineId::get));
        out.put_u64(self.fork.get());
        out.put_i64(self.created.micros());
        if let Some((from, to)) = self.ambiguous {
            out.put_i64(from.micros());
            out.put_i64(to.micros());
        }
        if let Some(root) = &self.root {
            out.put(root);
        }
        out
    }

    /// Reads the history of timeline `id`: a timeline's parent is always one with a smaller number.
    pub fn decode(id: TimelineId, bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        r.check_version_u16(VERSION, WHAT)?;
        let raw = r.u8(WHAT)?;
        let reason = ForkReason::ALL.into_iter().find(|reason| *reason as u8 == raw);
        let reason = reason.ok_or(DecodeError::Range { what: "fork reason", value: raw.into() })?;
        let flags = r.u8(WHAT)?;
        let parent = r.u32(WHAT)?;
        if flags > 3 || parent >= id.get() {
            return Err(DecodeError::Range { what: "parent of a timeline", value: parent.into() });
        }
        let fork = Lsn::new(r.u64(WHAT)?);
        let created = Timestamp::from_micros(r.i64(WHAT)?);
        let mut time = || r.i64(WHAT).map(Timestamp::from_micros);
        let ambiguous = if flags & 1 != 0 { Some((time()?, time()?)) } else { None };
        let root = if flags & 2 != 0 { Some(r.array(WHAT)?) } else { None };
        r.finish(WHAT)?;
        let parent = (parent != 0).then_some(TimelineId::new(parent));
        Ok(Timeline { parent, fork, reason, created, ambiguous, root })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn histories_come_back(
            id in 2u32.., parent: prop::sample::Index, fork: u64, at: i64, why in 0usize..6,
            ambiguous: Option<(i64, i64)>, root: Option<[u8; 32]>,
        ) {
            let parent = parent.index(id as usize) as u32;
            let timeline = Timeline {
                parent: (parent != 0).then_some(TimelineId::new(parent)),
                fork: Lsn::new(fork),
                reason: ForkReason::ALL[why],
                created: Timestamp::from_micros(at),
                ambiguous: ambiguous.map(|(a, b)| (Timestamp::from_micros(a), Timestamp::from_micros(b))),
                root,
            };
            let bytes = timeline.encode();
            prop_assert_eq!(Timeline::decode(TimelineId::new(id), &bytes).unwrap(), timeline);
            prop_assert!(Timeline::decode(TimelineId::new(id), &bytes[..bytes.len() - 1]).is_err());
            // A timeline that descends from itself or from a later one would make a path without
            // end.
            prop_assert!(parent == 0 || Timeline::decode(TimelineId::new(parent), &bytes).is_err());
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_format_page() {
        let time = Timestamp::from_micros;
        let (parent, ambiguous) = (Some(TimelineId::FIRST), Some((time(1), time(2))));
        let (fork, reason, created) = (Lsn::new(258), ForkReason::ClockSetBack, time(3));
        let bytes = Timeline { parent, fork, reason, created, ambiguous, root: None }.encode();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let fixed = "010003010100000002010000000000000300000000000000";
        assert_eq!(hex, format!("{fixed}01000000000000000200000000000000"));
    }
}
