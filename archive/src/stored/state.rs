//! The position of a state: the first fields of a restored state and of a recovery point.

use super::CommitPoint;
use pitr_format::bytes::{DecodeError, Put, Reader};
use pitr_format::{Lsn, TimelineId, Timestamp, TxId};

/// Appends the version of the object, then the timeline and the commit.
pub(super) fn put(out: &mut Vec<u8>, version: u16, timeline: TimelineId, commit: CommitPoint) {
    out.put_u16(version);
    out.put_u32(timeline.get());
    out.put_u64(commit.lsn.get());
    out.put_u64(commit.tx.get());
    out.put_i64(commit.time.micros());
}

/// Checks the version, and reads the timeline and the commit.
pub(super) fn read(
    r: &mut Reader<'_>,
    version: u16,
    what: &'static str,
) -> Result<(TimelineId, CommitPoint), DecodeError> {
    r.check_version_u16(version, what)?;
    let timeline = TimelineId::new(r.u32(what)?);
    let (lsn, tx) = (Lsn::new(r.u64(what)?), TxId::new(r.u64(what)?));
    let time = Timestamp::from_micros(r.i64(what)?);
    Ok((timeline, CommitPoint { tx, lsn, time }))
}
