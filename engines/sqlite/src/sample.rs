//! A bounded sample of the database's pages, to detect bytes that change without the `-wal` file.
//!
//! A file copied over the database in place, or a process that writes through another name of it,
//! leaves no trace in the `-wal` file. The captured frames determine the content of each page of
//! the database file. The sample keeps a checksum of that content for at most [`SLOTS`] pages: a
//! page goes to the slot that its number hashes to, and the newest page of a slot stays.
//!
//! # Why a mismatch is proof
//! Right after a look, every commit that the look found published is captured, so also every commit
//! up to the mark of our read transaction, and SQLite backfills no frame past that mark. The look
//! counted the backfilled frames before the published ones ([`Observed`](crate::source::Observed)).
//! So the newest captured image of a page, once backfilled, is in the database file, and stays
//! there until a newer one is captured. An entry is compared only if its frame is backfilled, or
//! belongs to an earlier generation of the `-wal` file.
//!
//! # What it misses
//! Pages outside the sample. Page 1, which nearly every foreign change touches, has its own slot.

use std::path::Path;

use pitr_format::bytes::{Put, Reader};
use pitr_format::log::Seed;
use pitr_format::{DecodeError, Incarnation, Lsn, SegmentNo, TimelineId};
use pitr_vfs::{Access, File, FileSystem};

use crate::error::{Error, Result};
use crate::wal::Salts;
use crate::watch::state::open_or_create;

/// Number of slots for pages other than page 1.
pub(crate) const SLOTS: usize = 1 << SLOT_BITS;
const SLOT_BITS: u32 = 10;
const FILE_NAME: &str = "pages";
const MAGIC: [u8; 4] = *b"PGS1";
const HEAD_BYTES: usize = 4 + 4 + 8 + 9 + 4 + 4;
const ENTRY_BYTES: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Entry {
    /// Number of the page, from 1; 0 in an empty slot.
    page: u32,
    /// CRC-32 of the page's newest content.
    crc: u32,
    /// The frame with that content; 0 if it was backfilled with an earlier generation of the `-wal`
    /// file.
    frame: u32,
}

/// The frame number of a page whose transaction has no commit yet.
const UNCOMMITTED: u32 = u32::MAX;

/// The sample. See the module documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageSample {
    entries: Vec<Entry>,
    /// The slot to compare next.
    next: usize,
    /// The generation that the entries' frames belong to.
    generation: Option<Salts>,
    /// Number of pages of the database now, and the smallest number that it ever had.
    pages: u32,
    pages_min: u32,
}

impl Default for PageSample {
    fn default() -> Self {
        let entries = vec![Entry::default(); SLOTS + 1];
        PageSample { entries, next: 0, generation: None, pages: u32::MAX, pages_min: u32::MAX }
    }
}

impl PageSample {
    /// Records that frame `frame` of the current generation holds `data` for `page`.
    pub fn captured(&mut self, page: u32, frame: u32, data: &[u8]) {
        self.entries[slot(page)] = Entry { page, crc: crc(data), frame };
    }

    /// Records an image read from the local log, before its commit.
    pub fn logged(&mut self, page: u32, data: &[u8]) {
        self.captured(page, UNCOMMITTED, data);
    }

    /// Records that frame `frame` of this generation committed the images added since the last
    /// commit. Their own frames are not known, but none is later.
    pub fn committed(&mut self, generation: Option<Salts>, frame: u32) {
        self.enter_generation(generation);
        let new = self.entries.iter_mut().filter(|entry| entry.frame == UNCOMMITTED);
        new.for_each(|entry| entry.frame = frame);
    }

    /// Records the content of `page` in a base: as of frame `frame` of a generation, or in the
    /// database file if that is 0. A newer entry in the slot is kept.
    pub fn from_base(&mut self, page: u32, generation: Option<Salts>, frame: u32, data: &[u8]) {
        // If the current generation is later than that of the base, the frame is backfilled.
        let frame = if self.generation == generation { frame } else { 0 };
        let entry = &mut self.entries[slot(page)];
        if entry.page == 0 && page <= self.pages_min {
            *entry = Entry { page, crc: crc(data), frame };
        }
    }

    /// If this is a new generation of the `-wal` file, everything captured before it is backfilled.
    pub fn enter_generation(&mut self, generation: Option<Salts>) {
        if self.generation != generation {
            self.generation = generation;
            let old = self.entries.iter_mut().filter(|entry| entry.frame != UNCOMMITTED);
            old.for_each(|entry| entry.frame = 0);
        }
    }

    /// Sets the number of pages of the database.
    pub fn resize(&mut self, pages: u32) {
        if pages < self.pages {
            let cut_off = self.entries.iter_mut().filter(|entry| entry.page > pages);
            cut_off.for_each(|entry| *entry = Entry::default());
        }
        self.pages = pages;
        self.pages_min = self.pages_min.min(pages);
    }

    /// Compares page 1 and the next `slots` slots with the database file. `backfilled` frames of
    /// the current generation are backfilled. Call it right after a look.
    ///
    /// # Errors
    /// [`Error::Overwritten`]; [`Error::ReadDatabase`].
    pub fn compare(
        &mut self,
        path: &Path,
        file: &dyn File,
        page_bytes: u32,
        backfilled: u32,
        slots: usize,
    ) -> Result<()> {
        let mut page = vec![0; page_bytes as usize];
        for turn in 0..=slots.min(SLOTS) {
            let at = if turn == 0 { 0 } else { self.next + 1 };
            let entry = self.entries[at];
            if turn > 0 {
                self.next = (self.next + 1) % SLOTS;
            }
            if entry.page == 0 || entry.frame > backfilled {
                continue;
            }
            let offset = u64::from(entry.page - 1) * u64::from(page_bytes);
            read_padded(file, &mut page, offset).map_err(Error::ReadDatabase)?;
            if crc(&page) != entry.crc {
                return Err(Error::Overwritten { path: path.to_owned(), page: entry.page });
            }
        }
        Ok(())
    }

    /// Stores the sample in the watcher's folder. It covers the timeline's log up to `end`. It is
    /// not synced: it survives a killed process, and a stale or torn one after a power loss is
    /// ignored.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn save(&self, fs: &dyn FileSystem, dir: &Path, timeline: TimelineId, end: Lsn) -> Result<()> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + (SLOTS + 1) * ENTRY_BYTES);
        bytes.put(&MAGIC);
        bytes.put_u32(timeline.get());
        bytes.put_u64(end.get());
        bytes.put_u8(u8::from(self.generation.is_some()));
        bytes.put(&self.generation.unwrap_or(Salts([0; 8])).0);
        bytes.put_u32(self.entries.iter().map(|entry| entry.frame).max().unwrap_or(0));
        let mut body = Vec::with_capacity((SLOTS + 1) * ENTRY_BYTES);
        for entry in &self.entries {
            // The top bit is set if the page is in a frame of this generation. Entries with larger
            // page numbers are left out.
            body.put_u32(if entry.page >> 31 == 0 {
                entry.page | u32::from(entry.frame != 0) << 31
            } else {
                0
            });
            body.put_u32(entry.crc);
        }
        bytes.put_u32(seed(timeline).crc(&[&bytes[..], &body].concat()));
        bytes.extend_from_slice(&body);
        let path = dir.join(FILE_NAME);
        let io = |source| Error::Open { path: path.clone(), source };
        open_or_create(fs, &path).and_then(|file| file.write_all_at(&bytes, 0)).map_err(io)
    }

    /// The sample saved for this timeline, and the position up to which it covers the log. `None`
    /// if there is no usable one.
    #[must_use]
    pub fn load(fs: &dyn FileSystem, dir: &Path, timeline: TimelineId) -> Option<(Self, Lsn)> {
        let file = fs.open(&dir.join(FILE_NAME), Access::Read).ok()?;
        let mut bytes = vec![0; HEAD_BYTES + (SLOTS + 1) * ENTRY_BYTES];
        file.read_exact_at(&mut bytes, 0).ok()?;
        Self::decode(&bytes, timeline).ok().flatten()
    }

    fn decode(bytes: &[u8], timeline: TimelineId) -> Result<Option<(Self, Lsn)>, DecodeError> {
        const WHAT: &str = "sample of pages";
        let mut r = Reader::new(bytes);
        let magic: [u8; 4] = r.array(WHAT)?;
        let of = r.u32(WHAT)?;
        let end = Lsn::new(r.u64(WHAT)?);
        let (has_generation, salts) = (r.u8(WHAT)?, Salts(r.array(WHAT)?));
        let newest = r.u32(WHAT)?;
        let stated = r.u32(WHAT)?;
        let body = r.take(r.left(), WHAT)?;
        let computed = seed(timeline).crc(&[&bytes[..HEAD_BYTES - 4], body].concat());
        if magic != MAGIC || of != timeline.get() || stated != computed {
            return Ok(None);
        }
        let generation = (has_generation != 0).then_some(salts);
        let mut sample = PageSample { generation, ..PageSample::default() };
        let mut r = Reader::new(body);
        for entry in &mut sample.entries {
            let (page, crc) = (r.u32(WHAT)?, r.u32(WHAT)?);
            *entry = Entry { page: page & !(1 << 31), crc, frame: if page >> 31 == 1 { newest } else { 0 } };
        }
        Ok(Some((sample, end)))
    }
}

/// Reads a page. Bytes past the end of the file read as zeros, as in a base.
fn read_padded(file: &dyn File, page: &mut [u8], offset: u64) -> std::io::Result<()> {
    let mut done = 0;
    while done < page.len() {
        match file.read_at(&mut page[done..], offset + done as u64)? {
            0 => break,
            read => done += read,
        }
    }
    page[done..].fill(0);
    Ok(())
}

/// The slot of a page. Page 1 has the first slot to itself.
fn slot(page: u32) -> usize {
    if page == 1 { 0 } else { 1 + (page.wrapping_mul(0x9e37_79b1) >> (32 - SLOT_BITS)) as usize }
}

fn seed(timeline: TimelineId) -> Seed {
    Seed::new(timeline, SegmentNo::FIRST, Incarnation::FIRST)
}

fn crc(data: &[u8]) -> u32 {
    seed(TimelineId::FIRST).crc(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitr_vfs::OsFs;
    use proptest::prelude::*;

    fn compare(sample: &mut PageSample, file: &dyn File, backfilled: u32, slots: usize) -> Option<u32> {
        match sample.compare(Path::new("x.db"), file, 512, backfilled, slots) {
            Ok(()) => None,
            Err(Error::Overwritten { page, .. }) => Some(page),
            Err(e) => panic!("{e}"),
        }
    }

    #[test]
    fn a_page_changed_outside_the_log_is_detected() {
        // FAILURES 48
        let dir = tempfile::tempdir().unwrap();
        let file = OsFs.create_new(&dir.path().join("x.db")).unwrap();
        let content = |page: u32| [page as u8; 512];
        let mut sample = PageSample::default();
        for page in 1..=20u32 {
            file.write_all_at(&content(page), u64::from(page - 1) * 512).unwrap();
            sample.captured(page, page, &content(page));
        }
        assert_eq!(compare(&mut sample, file.as_ref(), 20, SLOTS), None);
        file.write_all_at(&[9], 0).unwrap();
        assert_eq!(compare(&mut sample, file.as_ref(), 20, 0), Some(1));
        assert_eq!(compare(&mut sample, file.as_ref(), 0, SLOTS), None, "nothing is backfilled");
        sample.enter_generation(Some(Salts([1; 8])));
        assert_eq!(compare(&mut sample, file.as_ref(), 0, 0), Some(1));
        file.write_all_at(&content(1), 0).unwrap();
        file.set_len(17 * 512 + 7).unwrap();
        assert!(compare(&mut sample, file.as_ref(), 0, SLOTS).is_some_and(|page| page > 17));
        sample.resize(17);
        sample.resize(40);
        sample.captured(30, 21, &content(30));
        sample.resize(20); // smaller than at first, larger than its minimum
        assert_eq!(compare(&mut sample, file.as_ref(), 0, SLOTS), None);
        sample.from_base(17, None, 0, &content(3));
        assert_eq!(compare(&mut sample, file.as_ref(), 0, SLOTS), None, "a captured page stays");
    }

    #[test]
    fn logged_images_belong_to_the_generation_of_their_commit() {
        let mut sample = PageSample::default();
        let (old, new) = (Some(Salts([1; 8])), Some(Salts([2; 8])));
        let frames = |sample: &PageSample| [1, 2, 3].map(|page| sample.entries[slot(page)].frame);
        sample.logged(1, b"x");
        sample.logged(2, b"x");
        sample.committed(old, 5);
        assert_eq!(frames(&sample), [5, 5, 0]);
        sample.logged(2, b"y");
        sample.logged(3, b"y");
        sample.committed(new, 2);
        assert_eq!(frames(&sample), [0, 2, 2]);
    }

    proptest! {
        #[test]
        fn a_saved_sample_is_loaded_and_a_damaged_one_is_rejected(
            pages in prop::collection::vec((1u32..5000, any::<u8>()), 0..50), frame in 1u32..9, flip: prop::sample::Index,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let mut sample = PageSample::default();
            sample.enter_generation(Some(Salts([3; 8])));
            for (page, byte) in pages {
                if byte % 2 == 0 { sample.captured(page, frame, &[byte]) } else { sample.from_base(page, None, 0, &[byte]) }
            }
            let (timeline, end) = (TimelineId::new(7), Lsn::new(99));
            sample.save(&OsFs, dir.path(), timeline, end).unwrap();
            prop_assert_eq!(PageSample::load(&OsFs, dir.path(), timeline), Some((sample, end)));
            prop_assert_eq!(PageSample::load(&OsFs, dir.path(), TimelineId::new(8)), None);
            let path = dir.path().join(FILE_NAME);
            let mut bytes = std::fs::read(&path).unwrap();
            let at = flip.index(bytes.len());
            bytes[at] ^= 4;
            std::fs::write(&path, bytes).unwrap();
            prop_assert_eq!(PageSample::load(&OsFs, dir.path(), timeline), None);
        }
    }
}
