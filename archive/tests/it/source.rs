//! A log and its archive.

use crate::world::{LOG_ID, TestClock, archive, create_wal, first_timeline, options};
use pitr_archive::{Archive, Piece, Shipper, Writer};
use pitr_format::{Lsn, TimelineId};
use pitr_wal::Wal;
use std::path::Path;
use std::sync::Arc;

pub(crate) struct Source {
    pub(crate) archive: Archive,
    pub(crate) wal: Wal,
    pub(crate) shipper: Shipper,
}

impl Source {
    /// Objects and frames of about these sizes.
    pub(crate) fn new(dir: &Path, object_bytes: u32, frame_bytes: u32) -> Source {
        let archive = archive(dir, "app");
        let clock = Arc::new(TestClock::default());
        let wal = create_wal(&dir.join("log"), &clock, TimelineId::FIRST, Lsn::ORIGIN, false);
        let writer = Writer::claim(&archive, pitr_vfs::Clock::now(clock.as_ref())).unwrap();
        let timeline = writer.claim_timeline(&first_timeline(0)).unwrap();
        let catalog = archive.catalog().unwrap();
        let options = options(object_bytes, frame_bytes);
        let shipper = Shipper::new(writer, &catalog, &wal, timeline, LOG_ID, options).unwrap();
        Source { archive, wal, shipper }
    }

    pub(crate) fn pieces(&self) -> Vec<Piece> {
        let catalog = self.archive.catalog().unwrap();
        catalog.pieces(&catalog.lineage(TimelineId::FIRST).unwrap())
    }
}
