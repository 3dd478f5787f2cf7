//! Looking at a whole log object, down to its records.

use crate::archive::{Archive, LogObject};
use crate::error::{Error, Result};
use crate::names::LogName;
use pitr_format::log::{Batch, Part, Seed};
use pitr_format::record::Record;
use pitr_format::{DecodeError, Lsn};

/// Frames that are read together.
const FRAMES: usize = 4;

impl Archive {
    /// Decodes everything that a log object holds: frames, batches, and the records that lie wholly in one part.
    ///
    /// # Errors
    /// What is wrong with it; those of the repository.
    pub fn check_log(&self, name: &LogName) -> Result<()> {
        let object = self.open(name)?;
        let frames = object.footer.frames.len();
        for first in (0..frames).step_by(FRAMES) {
            let some = first..frames.min(first + FRAMES);
            for (number, bytes) in some.clone().zip(self.frames(&object, some)?) {
                check_frame(&object, number, &bytes)
                    .map_err(|source| Error::Malformed { object: *name, source })?;
            }
        }
        Ok(())
    }
}

fn check_frame(object: &LogObject, number: usize, bytes: &[u8]) -> Result<(), DecodeError> {
    let footer = &object.footer;
    let start = footer.frames[number]; // as many as the object has
    let seed = Seed::new(footer.timeline, footer.segment_size.segment_of(start.lsn), start.incarnation);
    let (mut lsn, mut at) = (start.lsn, 0);
    while at < bytes.len() {
        let batch = Batch::decode(&bytes[at..], seed)?;
        if batch.header.lsn != lsn {
            return Err(DecodeError::Range { what: "position of a batch", value: batch.header.lsn.get() });
        }
        for frame in batch.frames() {
            let frame = frame?;
            if frame.part == Part::Full {
                Record::decode(frame.kind, frame.bytes)?;
            }
        }
        let span = batch.header.span();
        lsn = Lsn::new(lsn.get().saturating_add(span));
        at += span as usize; // within a frame of the object
    }
    if lsn == footer.frame_end(number) {
        Ok(())
    } else {
        Err(DecodeError::Range { what: "end of a frame's last batch", value: lsn.get() })
    }
}
