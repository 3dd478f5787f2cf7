//! What retention took away of a timeline's log: ranges that are known not to be there.
//!
//! Its name says all; what it holds, a version and the time when it was made, is for people. Such a range is put before the first of its objects is deleted. From then on they don't count, so that nobody begins to
//! rely on them, and a reader knows afterwards that nothing was lost.

use crate::archive::Archive;
use crate::error::Result;
use pitr_codec::ObjectKind;
use pitr_format::bytes::Put;
use pitr_format::{Lsn, Timestamp};
use pitr_objects::layout::{PrunedRange, SourceObject};

const VERSION: u16 = 1;

/// True if every position from `from` on and before `to` lies in one of these ranges.
pub(crate) fn cover(ranges: impl IntoIterator<Item = (Lsn, Lsn)>, from: Lsn, to: Lsn) -> bool {
    let mut ranges: Vec<(Lsn, Lsn)> = ranges.into_iter().collect();
    ranges.sort_unstable();
    let reached =
        ranges.into_iter().fold(from, |at, (begin, end)| if begin <= at { at.max(end) } else { at });
    reached >= to
}

pub(crate) fn encode(now: Timestamp) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_u16(VERSION);
    out.put_i64(now.micros());
    out
}

impl Archive {
    /// States that the log objects in this range don't count any more. Ranges that it holds, of which `known` may name
    /// some, are said by it too, and go.
    ///
    /// # Errors
    /// [`Error::Objects`](crate::Error::Objects).
    pub fn prune(&self, range: PrunedRange, known: &[PrunedRange], now: Timestamp) -> Result<()> {
        // If it is there already an earlier run said so.
        self.create(&SourceObject::Pruned(range), ObjectKind::Pruned, &encode(now))?;
        let within = |old: &&PrunedRange| {
            **old != range && old.timeline == range.timeline && range.from <= old.from && old.to <= range.to
        };
        for old in known.iter().filter(within) {
            self.objects().delete(&self.folder().path(&SourceObject::Pruned(*old)))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_together_what_none_covers_alone() {
        let lsn = Lsn::new;
        let ranges = [(lsn(20), lsn(30)), (lsn(0), lsn(12)), (lsn(10), lsn(20))];
        assert!(cover(ranges, lsn(5), lsn(30)));
        assert!(!cover(ranges, lsn(5), lsn(31)));
        assert!(!cover([(lsn(0), lsn(12)), (lsn(13), lsn(30))], lsn(5), lsn(30)));
        assert!(cover([], lsn(5), lsn(5)));
    }

    #[test]
    fn the_bytes_are_those_of_the_format_page() {
        let bytes = encode(Timestamp::from_micros(-2));
        assert_eq!(bytes, [1, 0, 0xfe, 255, 255, 255, 255, 255, 255, 255]);
    }
}
