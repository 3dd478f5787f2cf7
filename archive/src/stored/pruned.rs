//! Ranges of a timeline's log that retention removed.
//!
//! The object's name states the range; its content, a version and the creation time, is for people.
//! The object is created before the first log object of the range is deleted. From then on those
//! objects don't count, so no reader starts to rely on them, and later readers know that nothing
//! was lost.

use crate::archive::Archive;
use crate::error::Result;
use pitr_format::Timestamp;
use pitr_format::bytes::Put;
use pitr_objects::layout::{PrunedRange, SourceObject};

const VERSION: u16 = 1;

pub(crate) fn encode(now: Timestamp) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_u16(VERSION);
    out.put_i64(now.micros());
    out
}

impl Archive {
    /// States that the log objects in this range no longer count. Deletes those ranges of `known`
    /// that lie within it.
    ///
    /// # Errors
    /// [`Error::Objects`](crate::Error::Objects).
    pub fn prune(&self, range: PrunedRange, known: &[PrunedRange], now: Timestamp) -> Result<()> {
        // If the object exists already, an earlier run created it.
        self.create(&SourceObject::Pruned(range), &encode(now))?;
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
    fn the_bytes_are_those_of_the_format_page() {
        let bytes = encode(Timestamp::from_micros(-2));
        assert_eq!(bytes, [1, 0, 0xfe, 255, 255, 255, 255, 255, 255, 255]);
    }
}
