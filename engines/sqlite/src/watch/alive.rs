//! The time up to which the local log was complete while the watcher ran: a mark that survives a
//! kill.
//!
//! A watermark in the log costs a sync, so while nothing is committed, watermarks are rare. In
//! between, each look overwrites this file of 28 bytes without a sync: the page cache survives the
//! death of a process. The mark moves only when everything captured is durable, so that it never
//! claims more than the log holds. After a power loss the mark may be old. Then some moments at
//! which nothing was committed can't be restored; no commit is lost.

use std::path::Path;
use std::sync::Arc;

use pitr_format::bytes::{Put, Reader};
use pitr_format::log::Seed;
use pitr_format::{Incarnation, Lsn, SegmentNo, TimelineId, Timestamp};
use pitr_vfs::{File, FileSystem};

use super::state::open_or_create;
use crate::error::{Error, Result};

const MARK_BYTES: usize = 28;

/// The open file of the mark.
#[derive(Debug)]
pub(super) struct Alive {
    file: Arc<dyn File>,
}

/// Content of the mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) timeline: TimelineId,
    /// The log reached at least this position.
    pub(super) end: Lsn,
    /// Everything committed before this time is in the log.
    pub(super) until: Timestamp,
}

impl Alive {
    /// Opens the mark in the watcher's folder, or creates it.
    pub(super) fn open(fs: &dyn FileSystem, dir: &Path) -> Result<Self> {
        let path = dir.join("alive");
        let io = |source| Error::Open { path: path.clone(), source };
        Ok(Alive { file: open_or_create(fs, &path).map_err(io)? })
    }

    /// The mark of the last watcher; `None` if there is none or it is torn.
    pub(super) fn read(&self) -> Option<Mark> {
        let mut bytes = [0; MARK_BYTES];
        self.file.read_exact_at(&mut bytes, 0).ok()?;
        let mut r = Reader::new(&bytes);
        let timeline = TimelineId::new(r.u32("mark").ok()?);
        let end = Lsn::new(r.u64("mark").ok()?);
        let until = Timestamp::from_micros(r.i64("mark").ok()?);
        let crc = r.u64("mark").ok()?;
        let mark = Mark { timeline, end, until };
        (mark.crc(&bytes[..20]) == crc).then_some(mark)
    }

    /// Moves the mark. If the write fails, no commit is lost: the next tick still writes its
    /// watermark.
    pub(super) fn note(&self, mark: &Mark) {
        let mut bytes = Vec::with_capacity(MARK_BYTES);
        bytes.put_u32(mark.timeline.get());
        bytes.put_u64(mark.end.get());
        bytes.put_i64(mark.until.micros());
        bytes.put_u64(mark.crc(&bytes));
        let _ = self.file.write_all_at(&bytes, 0);
    }
}

impl Mark {
    fn crc(&self, bytes: &[u8]) -> u64 {
        Seed::new(self.timeline, SegmentNo::FIRST, Incarnation::FIRST).crc(bytes).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitr_vfs::OsFs;

    #[test]
    fn a_mark_is_read_back_and_a_torn_one_is_rejected() {
        let dir = tempfile::tempdir().unwrap();
        let alive = Alive::open(&OsFs, dir.path()).unwrap();
        assert_eq!(alive.read(), None);
        let mark = Mark { timeline: TimelineId::new(3), end: Lsn::new(9), until: Timestamp::from_micros(-7) };
        alive.note(&mark);
        assert_eq!(Alive::open(&OsFs, dir.path()).unwrap().read(), Some(mark));
        alive.file.write_all_at(&[1], 13).unwrap();
        assert_eq!(alive.read(), None);
    }
}
