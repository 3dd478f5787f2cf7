//! The payload of a fence.
//!
//! A writer claims the next epoch with an object that only one writer can create. Then it creates a
//! fence for each earlier epoch that it takes over, which states where that epoch's objects end.
//! Objects that a paused earlier writer adds later lie beyond its fence and are never read.

use pitr_format::bytes::{DecodeError, Put, Reader};
use pitr_format::{Lsn, TimelineId};
use pitr_objects::layout::LogName;
use std::collections::BTreeMap;

const VERSION: u16 = 1;

/// Where the objects of an epoch end, for each timeline that it wrote to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fence {
    ends: BTreeMap<TimelineId, Lsn>,
}

impl Fence {
    /// The fence after these objects, which are all of an epoch.
    #[must_use]
    pub fn behind(names: impl IntoIterator<Item = LogName>) -> Self {
        let mut ends = BTreeMap::new();
        for name in names {
            let end = ends.entry(name.timeline).or_insert(name.to);
            *end = name.to.max(*end);
        }
        Fence { ends }
    }

    /// True if an object of the fenced epoch counts.
    #[must_use]
    pub fn admits(&self, name: &LogName) -> bool {
        self.ends.get(&name.timeline).is_some_and(|end| name.to <= *end)
    }

    /// The last LSN that counts, for each timeline.
    pub fn ends(&self) -> impl Iterator<Item = (TimelineId, Lsn)> {
        self.ends.iter().map(|(timeline, end)| (*timeline, *end))
    }

    /// The fence's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u16(VERSION);
        out.put_varint(self.ends.len() as u64);
        for (timeline, end) in &self.ends {
            out.put_u32(timeline.get());
            out.put_u64(end.get());
        }
        out
    }

    /// Reads a fence.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        r.check_version_u16(VERSION, "fence")?;
        let count = r.count(12, "fence")?;
        let mut ends = BTreeMap::new();
        for _ in 0..count {
            let timeline = TimelineId::new(r.u32("fence")?);
            if ends.insert(timeline, Lsn::new(r.u64("fence")?)).is_some() {
                return Err(DecodeError::Range { what: "fence", value: timeline.get().into() });
            }
        }
        r.finish("fence")?;
        Ok(Fence { ends })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitr_format::Epoch;

    fn name(timeline: u32, from: u64, to: u64) -> LogName {
        let timeline = TimelineId::new(timeline);
        LogName { timeline, from: Lsn::new(from), to: Lsn::new(to), epoch: Epoch::FIRST, level: 0 }
    }

    #[test]
    fn fences_come_back() {
        let fence = Fence::behind([name(1, 0, 9), name(2, 9, 20), name(2, 20, 30)]);
        assert_eq!(Fence::decode(&fence.encode()).unwrap(), fence);
        assert!(Fence::decode(&fence.encode()[..9]).is_err());
    }

    #[test]
    fn later_objects_are_not_admitted() {
        // FAILURES 21
        let fence = Fence::behind([name(1, 0, 10), name(1, 10, 20)]);
        assert!(fence.admits(&name(1, 10, 20)));
        assert!(!fence.admits(&name(1, 20, 30)));
        assert!(!fence.admits(&name(1, 10, 21)), "an object across the fence");
        assert!(!fence.admits(&name(2, 5, 10)), "a timeline that the epoch had not begun");
        assert!(!Fence::behind([]).admits(&name(1, 0, 1)));
    }

    #[test]
    fn the_bytes_are_those_of_the_format_page() {
        let hex = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let fence = Fence::behind([name(1, 0, 10), name(3, 0, 258)]);
        assert_eq!(
            hex(fence.encode()),
            "0100020100\
00000a00000000000000030000000201000000000000"
        );
    }
}
