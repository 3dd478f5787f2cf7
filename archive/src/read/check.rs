//! Verifies a whole log object, down to its records.

use crate::archive::{Archive, LogObject, log_object};
use crate::error::{Error, Result};
use pitr_format::DecodeError;
use pitr_format::log::Part;
use pitr_format::record::Record;
use pitr_objects::layout::{LogName, SourceObject};

impl Archive {
    /// Verifies a log object that was read whole: its bytes against their hashes, its footer
    /// against its name. With `deep` it decodes all contents: frames, batches, and the records that
    /// are not fragmented.
    ///
    /// # Errors
    /// The first fault found.
    pub fn check_log(&self, name: &LogName, whole: &[u8], deep: bool) -> Result<()> {
        let (path, kind) = self.path_and_kind(&SourceObject::Log(*name));
        let bad = |source| pitr_objects::Error::Object { path: path.clone(), source };
        let index = self.objects().index_of(&path, kind, whole)?;
        index.check_frames(whole).map_err(bad)?;
        let object = log_object(name, index.clone())?;
        for number in (0..index.frames.len()).filter(|_| deep) {
            check_frame(&object, number, &index.decode_frame(whole, number).map_err(bad)?)?;
        }
        Ok(())
    }
}

fn check_frame(object: &LogObject, number: usize, bytes: &[u8]) -> Result<()> {
    let malformed = |source| Error::Malformed { object: object.name, source };
    let end = object.each_frame(number, bytes, |frame| match frame.part {
        Part::Full => Record::decode(frame.kind, frame.bytes).map(drop).map_err(malformed),
        _ => Ok(()),
    })?;
    if object.footer.ends_frame(number, end) {
        Ok(())
    } else {
        Err(malformed(DecodeError::Range { what: "end of a frame's last batch", value: end.get() }))
    }
}
