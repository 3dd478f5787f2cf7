//! The payload of a claim: which instance of the source the writer writes.
//!
//! The database and each restored copy of it that is archived under the same name are *instances*
//! of the source. Each has one writer at a time, on timelines of its own. An instance is named by
//! the epoch of its first writer.

use pitr_format::bytes::{DecodeError, Put, Reader};
use pitr_format::{Epoch, Lsn, TimelineId, Timestamp};
use std::fmt;

/// Version of a claim that takes over every instance.
const ALL: u16 = 1;
/// Version of a claim that names its instance.
const VERSION: u16 = 2;
const WHAT: &str = "claim";

/// An instance of a source: the original, or a restored copy that is archived under its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Instance(Epoch);

impl Instance {
    /// The original.
    pub const FIRST: Instance = Instance(Epoch::FIRST);

    /// The instance whose first writer has this epoch.
    #[must_use]
    pub const fn begun_by(epoch: Epoch) -> Self {
        Instance(epoch)
    }

    /// The epoch of the instance's first writer.
    #[must_use]
    pub const fn first_epoch(self) -> Epoch {
        self.0
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A writer's claim of an epoch. The owner token in the object's header identifies the writer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    /// Creation time by the writer's clock. For people only: no decision uses it.
    pub(crate) time: Timestamp,
    /// The instance that the writer writes. `None`: the writer takes over every instance, and
    /// writes the first one.
    pub(crate) instance: Option<Instance>,
    /// The newest timeline of each other instance and the end of its archived log, as the first
    /// writer of an instance found them.
    pub(crate) found: Vec<(TimelineId, Lsn)>,
}

impl Claim {
    /// The instance that the writer writes.
    pub(crate) fn writes(&self) -> Instance {
        self.instance.unwrap_or(Instance::FIRST)
    }

    /// True if this claim, which is later, takes over an instance.
    pub(crate) fn takes_over(&self, instance: Instance) -> bool {
        self.instance.is_none_or(|own| own == instance)
    }

    /// The claim's bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u16(if self.instance.is_none() { ALL } else { VERSION });
        out.put_i64(self.time.micros());
        if let Some(Instance(first)) = self.instance {
            out.put_u64(first.get());
            out.put_varint(self.found.len() as u64);
            for (timeline, end) in &self.found {
                out.put_u32(timeline.get());
                out.put_u64(end.get());
            }
        }
        out
    }

    /// Reads a claim.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let takes_all = Reader::new(bytes).u16(WHAT)? == ALL;
        let mut r = Reader::new(bytes);
        r.check_version_u16(if takes_all { ALL } else { VERSION }, WHAT)?;
        let time = Timestamp::from_micros(r.i64(WHAT)?);
        let (mut instance, mut found) = (None, Vec::new());
        if !takes_all {
            instance = Some(Instance(Epoch::new(r.u64(WHAT)?)));
            for _ in 0..r.count(12, WHAT)? {
                found.push((TimelineId::new(r.u32(WHAT)?), Lsn::new(r.u64(WHAT)?)));
            }
        }
        r.finish(WHAT)?;
        Ok(Claim { time, instance, found })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn claims_come_back(at: i64, instance: Option<u64>, found: Vec<(u32, u64)>) {
            let instance = instance.map(|first| Instance::begun_by(Epoch::new(first)));
            let found = found.into_iter().filter(|_| instance.is_some());
            let found = found.map(|(timeline, end)| (TimelineId::new(timeline), Lsn::new(end))).collect();
            let claim = Claim { time: Timestamp::from_micros(at), instance, found };
            let bytes = claim.encode();
            prop_assert_eq!(Claim::decode(&bytes).unwrap(), claim);
            prop_assert!(Claim::decode(&bytes[..bytes.len() - 1]).is_err());
        }

        #[test]
        fn any_bytes_are_a_claim_or_an_error(bytes: Vec<u8>) {
            let _ = Claim::decode(&bytes);
        }
    }

    #[test]
    fn a_claim_takes_over_its_own_instance_or_all() {
        let copy = Instance::begun_by(Epoch::new(3));
        let claim = |instance| Claim { time: Timestamp::MIN, instance, found: vec![] };
        assert!(claim(Some(copy)).takes_over(copy) && !claim(Some(copy)).takes_over(Instance::FIRST));
        assert!(claim(None).takes_over(copy) && claim(None).takes_over(Instance::FIRST));
        assert_eq!((claim(None).writes(), claim(Some(copy)).writes()), (Instance::FIRST, copy));
    }

    #[test]
    fn the_bytes_are_those_of_the_format_page() {
        let hex = |claim: Claim| claim.encode().iter().map(|b| format!("{b:02x}")).collect::<String>();
        let time = Timestamp::from_micros(-2);
        assert_eq!(hex(Claim { time, instance: None, found: vec![] }), "0100feffffffffffffff");
        let instance = Some(Instance::begun_by(Epoch::new(258)));
        let (first, fixed) = ("0201000000000000", "0200feffffffffffffff");
        assert_eq!(hex(Claim { time, instance, found: vec![] }), format!("{fixed}{first}00"));
        let found = vec![(TimelineId::FIRST, Lsn::new(258))];
        let found = hex(Claim { time, instance, found });
        assert_eq!(found, format!("{fixed}{first}01010000000201000000000000"));
        assert!(Claim::decode(&[3, 0, 0, 0, 0, 0, 0, 0, 0, 0]).is_err(), "a later version");
    }
}
