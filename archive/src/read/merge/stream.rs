//! The second pass of a merge: reads the frames with surviving images, verifies every batch,
//! assembles fragments, and returns each surviving image once.

use super::select::Crossing;
use crate::archive::{Archive, LogObject};
use crate::error::Error;
use crate::stored::Footer;
use bit_vec::BitVec;
use pitr_format::log::{Frame, Part};
use pitr_format::record::{Record, RecordKind};
use pitr_format::{FileId, Lsn};
use pitr_objects::layout::LogName;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Maximum number of frames that are fetched and decoded together: about 4 MiB.
const RUN_FRAMES_MAX: usize = 4;

/// A surviving image, from the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    lsn: Lsn,
    end: Lsn,
    file: FileId,
    block: u64,
}

/// Adjacent frames of one object, and the surviving images in them.
#[derive(Debug)]
pub(super) struct FrameRun {
    pub(super) frames: Range<usize>,
    /// Sorted by LSN. The first image may start before the frames, and the last may end after them.
    wanted: Vec<Wanted>,
}

/// The frames of an object that must be read for the wanted blocks.
pub(super) fn runs(
    footer: &Footer,
    name: LogName,
    survivors: Option<&BitVec>,
    crossings: &[Crossing],
    wants: &dyn Fn(FileId, u64) -> bool,
) -> Result<Vec<FrameRun>, Error> {
    let mut wanted = wanted(footer, survivors);
    wanted.extend(crossings.iter().map(|c| Wanted { lsn: c.lsn, end: c.end, file: c.file, block: c.block }));
    wanted.retain(|image| wants(image.file, image.block));
    wanted.sort_unstable_by_key(|w| w.lsn);
    let mut runs: Vec<FrameRun> = Vec::new();
    for image in wanted {
        let last = footer.frame_of(Lsn::new(image.end.get().saturating_sub(1)));
        let last = last.ok_or(Error::Index { object: name, lsn: image.lsn })?;
        let mut no = footer.frame_of(image.lsn).unwrap_or(0);
        while no <= last {
            match runs.last_mut() {
                Some(run) if no < run.frames.end => {}
                Some(run) if no == run.frames.end && run.frames.len() < RUN_FRAMES_MAX => run.frames.end += 1,
                _ => runs.push(FrameRun { frames: no..no + 1, wanted: Vec::new() }),
            }
            if let Some(run) = runs.last_mut()
                && run.wanted.last() != Some(&image)
            {
                run.wanted.push(image);
            }
            no += 1;
        }
    }
    Ok(runs)
}

fn wanted(footer: &Footer, survivors: Option<&BitVec>) -> Vec<Wanted> {
    let Some(bits) = survivors else { return Vec::new() };
    let images = footer.files.iter().flat_map(|file| file.images.iter().map(move |image| (file.file, image)));
    let ends: HashMap<Lsn, Lsn> = footer.spans.iter().map(|span| (span.lsn, span.end)).collect();
    let surviving = images.zip(bits.iter()).filter(|(_, survives)| *survives).map(|(image, _)| image);
    surviving
        .map(|(file, image)| {
            let begun = Lsn::new(image.lsn.get().saturating_add(1));
            let end = ends.get(&image.lsn).copied().unwrap_or(begun);
            Wanted { lsn: image.lsn, end, file, block: image.block }
        })
        .collect()
}

/// A surviving image.
#[derive(Debug, Clone, Copy)]
pub struct Image<'a> {
    /// LSN of the image's record.
    pub lsn: Lsn,
    /// The file.
    pub file: FileId,
    /// Number of the block.
    pub block: u64,
    /// The block's content.
    pub data: &'a [u8],
}

/// Fragments of surviving images whose other fragments are in frames of other runs.
#[derive(Debug, Default)]
pub(super) struct Seams {
    /// The fragments of each record, in any order, by the record's LSN.
    open: Mutex<HashMap<Lsn, Vec<Fragment>>>,
}

#[derive(Debug)]
struct Fragment {
    lsn: Lsn,
    bytes: Vec<u8>,
}

impl Seams {
    /// Keeps a fragment; returns the whole payload once it is complete.
    fn add(&self, record: Lsn, frame: &Frame<'_>) -> Option<Vec<u8>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let parts = open.entry(record).or_default();
        parts.push(Fragment { lsn: frame.lsn, bytes: frame.bytes.to_vec() });
        let have: usize = parts.iter().map(|part| part.bytes.len()).sum();
        if have < frame.total_len as usize {
            return None;
        }
        let mut parts = open.remove(&record)?;
        parts.sort_unstable_by_key(|part| part.lsn);
        Some(parts.into_iter().flat_map(|part| part.bytes).collect())
    }

    /// A record with missing fragments.
    pub(super) fn unfinished(&self) -> Option<Lsn> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).keys().min().copied()
    }
}

/// Fetches and decodes the frames of a run.
pub(super) fn fetch(archive: &Archive, object: &LogObject, run: &FrameRun) -> Result<Vec<Vec<u8>>, Error> {
    archive.frames(object, run.frames.clone())
}

/// Passes the surviving images of decoded frames to `to`.
pub(super) fn deliver<E: From<Error>>(
    object: &LogObject,
    run: &FrameRun,
    raw: &[Vec<u8>],
    seams: &Seams,
    to: &mut dyn FnMut(Image<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut wanted = run.wanted.iter().peekable();
    let mut current: Option<&Wanted> = None;
    for (no, bytes) in run.frames.clone().zip(raw) {
        if no == run.frames.start {
            let start = object.footer.frames[no].lsn;
            current = wanted.next_if(|w| w.lsn < start);
        }
        object.each_frame(no, bytes, |frame| {
            if matches!(frame.part, Part::Full | Part::First) {
                current = wanted.next_if(|w| w.lsn == frame.lsn);
            }
            if let Some(image) = current {
                pass_on(object.name, image, frame, seams, to)?;
            }
            if matches!(frame.part, Part::Full | Part::Last) {
                current = None;
            }
            Ok::<(), E>(())
        })?;
    }
    match wanted.next() {
        None => Ok(()),
        Some(missed) => Err(Error::Index { object: object.name, lsn: missed.lsn }.into()),
    }
}

fn pass_on<E: From<Error>>(
    object: LogName,
    wanted: &Wanted,
    frame: &Frame<'_>,
    seams: &Seams,
    to: &mut dyn FnMut(Image<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let wrong = Error::Index { object, lsn: wanted.lsn };
    if frame.kind != RecordKind::Image as u8 {
        return Err(wrong.into());
    }
    let joined;
    let payload = if frame.part == Part::Full {
        frame.bytes
    } else {
        let Some(payload) = seams.add(wanted.lsn, frame) else { return Ok(()) };
        joined = payload;
        &joined
    };
    match Record::decode(frame.kind, payload) {
        Ok(Record::Image { file, block, data }) if (file, block) == (wanted.file, wanted.block) => {
            to(Image { lsn: wanted.lsn, file, block, data })
        }
        Ok(_) => Err(wrong.into()),
        Err(source) => Err(Error::Malformed { object, source }.into()),
    }
}
