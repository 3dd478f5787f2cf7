//! The database at one commit, read while applications write: the source of a full snapshot.
//!
//! A read transaction that began at or before frame `n` prevents SQLite from backfilling any frame
//! after `n`. The `-wal` file can't restart until everything up to `n` is backfilled. So the state
//! at `n` is, for each page, its newest frame up to `n` if it has one, else the page of the
//! database file, which nobody writes. If everything up to `n` is backfilled and no later frame is
//! published, the database file alone is the state, and the `-wal` file is not read. If a later
//! frame is published, the `-wal` file must be read: a checkpoint that may not write that frame
//! skips its page, and still counts the page's older frames as backfilled.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use pitr_format::TxId;
use pitr_vfs::File;

use crate::conn::Published;
use crate::error::{Error, Result};
use crate::header::DatabaseHeader;
use crate::position::Position;
use crate::sample::{PageSample, SLOTS};
use crate::source::{Observed, Source};
use crate::wal::{Checksum, WalFile, WalHeader};

/// Maximum number of attempts to take a base when writes interfere.
const TRIES: u32 = 10_000;

/// The database at one commit. Valid until the [`Source`] that it was taken from makes a hand-over.
#[derive(Debug)]
pub struct BaseView {
    file: Arc<dyn File>,
    log: WalFile,
    header: Option<WalHeader>,
    /// Page number -> number of its newest frame. Empty when everything is backfilled.
    frames: HashMap<u32, u32>,
    page_bytes: u32,
    pages: u32,
    /// Receives the pages of the database file that are read, for later comparisons.
    sample: Option<Arc<Mutex<PageSample>>>,
}

impl BaseView {
    /// Takes the state at a commit that the open read transaction allows. Returns it with the
    /// commit's position.
    pub fn take(source: &mut Source, last_tx: TxId) -> Result<(BaseView, Position)> {
        for _ in 0..TRIES {
            source.renew()?;
            let Some(observed) = source.observe()? else { continue };
            if let Some(taken) = Self::at(source, &observed, last_tx)? {
                return Ok(taken);
            }
        }
        Err(Error::Busy { path: source.path().to_owned() })
    }

    /// The state at `position`, up to which `source` has just been captured. The open read
    /// transaction began at or before it.
    pub fn at_position(source: &Source, position: &Position) -> Result<BaseView> {
        for _ in 0..TRIES {
            let Some(observed) = source.observe()? else { continue };
            let mut view = BaseView::empty(source, observed.header);
            view.pages = position.pages;
            let same_generation = observed.header.filter(|h| Some(h.salts) == position.salts);
            // Frames that are not backfilled can't change.
            if let Some(header) = same_generation
                && !is_in_file(position.frame, observed.published)
            {
                view.read_frames(header, position.frame)?;
            }
            return Ok(view);
        }
        Err(Error::Busy { path: source.path().to_owned() })
    }

    fn empty(source: &Source, header: Option<WalHeader>) -> BaseView {
        BaseView {
            file: source.file(),
            log: source.log().clone(),
            header,
            frames: HashMap::new(),
            page_bytes: source.header().page_bytes,
            pages: 0,
            sample: None,
        }
    }

    /// The state that `observed` publishes. `None` if a commit in between makes it unknown.
    fn at(source: &Source, observed: &Observed, last_tx: TxId) -> Result<Option<(BaseView, Position)>> {
        let Observed { header, published } = *observed;
        let n = published.frames;
        let mut view = BaseView::empty(source, header);
        let checksum = match header {
            Some(header) if n > 0 => {
                if header.page_bytes != view.page_bytes {
                    return Ok(None);
                }
                match view.read_frames(header, n) {
                    Ok(checksum) => checksum,
                    // Everything was backfilled and the `-wal` file restarted during the read: look
                    // again.
                    Err(Error::FrameChanged { .. }) if published.backfilled == n => return Ok(None),
                    Err(e) => return Err(e),
                }
            }
            Some(header) => {
                view.pages = pages_of_file(source, &view)?;
                header.checksum
            }
            None => {
                view.pages = pages_of_file(source, &view)?;
                Checksum::default()
            }
        };
        if published.backfilled == n {
            view.frames = HashMap::new();
            // From here on the `-wal` file may restart. A restart shows as a new generation. A
            // commit before the second look would make file and position disagree.
            match source.observe()? {
                Some(again) if again.published.frames == n && again.header == header => {}
                _ => return Ok(None),
            }
        }
        // Without a frame no generation has begun. The header may still be that of the previous
        // generation, and the first published frame will belong to the next one.
        let salts = header.filter(|_| n > 0).map(|h| h.salts);
        let position = Position {
            salts,
            frame: n,
            checksum,
            page_bytes: view.page_bytes,
            pages: view.pages,
            tx: last_tx,
            file: None,
        };
        Ok(Some((view, position)))
    }

    fn read_frames(&mut self, header: WalHeader, n: u32) -> Result<Checksum> {
        let mut frames = self.log.frames(header, 0, header.checksum);
        let mut pages = 0;
        let mut newest = HashMap::new();
        while frames.number() < n {
            let number = frames.number() + 1;
            let frame = frames.next(n)?;
            newest.insert(frame.page, number);
            if frame.commit_pages != 0 {
                pages = frame.commit_pages;
            }
        }
        self.pages = pages;
        self.frames = newest;
        Ok(frames.checksum())
    }

    /// Reads page `index`, counted from zero.
    fn read_page(&self, index: u64, out: &mut [u8]) -> Result<()> {
        let frame = u32::try_from(index + 1).ok().and_then(|page| self.frames.get(&page));
        match (&self.header, frame) {
            (Some(header), Some(frame)) => self.log.page_at(header, *frame, out),
            _ => self.read_file(index * u64::from(self.page_bytes), out),
        }
    }

    fn read_file(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let read = self.file.read_once_at(out, offset).map_err(Error::ReadDatabase)?;
        // A page past the end of the file that no frame ever contained is a hole and reads as
        // zeros.
        out[read..].fill(0);
        Ok(())
    }
}

/// True if the database file holds the state at frame `n` of the generation: `n` is the last
/// published frame and everything is backfilled, or the `-wal` file is about to restart.
fn is_in_file(n: u32, published: Published) -> bool {
    n == 0 || published.frames < n || published == Published { frames: n, backfilled: n }
}

/// Without frames the file is the database. Its header states the length if a new enough library
/// wrote it.
fn pages_of_file(source: &Source, view: &BaseView) -> Result<u32> {
    let mut bytes = vec![0; view.page_bytes as usize];
    view.read_file(0, &mut bytes)?;
    if let Ok(Some(DatabaseHeader { pages: Some(pages), .. })) = DatabaseHeader::decode(&bytes) {
        return Ok(pages);
    }
    source.page_count()
}

impl BaseView {
    /// Length of the database, bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        u64::from(self.pages) * u64::from(self.page_bytes)
    }

    /// True if the database has no page.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pages == 0
    }

    /// Size of a page, bytes.
    #[must_use]
    pub fn page_bytes(&self) -> u32 {
        self.page_bytes
    }

    /// Adds pages to `sample` while the view is read.
    pub fn fill(&mut self, sample: Arc<Mutex<PageSample>>) {
        self.sample = Some(sample);
    }

    /// Fills `out` with whole pages from `offset`, which must be the start of a page.
    ///
    /// # Errors
    /// Those of reading the database file and the `-wal` file.
    pub fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let page_bytes = self.page_bytes as usize;
        if self.frames.is_empty() {
            self.read_file(offset, out)?;
        } else {
            for (page, piece) in (offset / page_bytes as u64..).zip(out.chunks_mut(page_bytes)) {
                self.read_page(page, piece)?;
            }
        }
        if let Some(sample) = &self.sample {
            self.note(offset, out, sample);
        }
        Ok(())
    }

    /// Adds the first page and evenly spaced pages to the sample.
    fn note(&self, offset: u64, read: &[u8], sample: &Mutex<PageSample>) {
        let (page_bytes, every) = (u64::from(self.page_bytes), u64::from(self.pages) / SLOTS as u64 + 1);
        let (first, count) = (offset / page_bytes, read.len() as u64 / page_bytes);
        for index in (first.next_multiple_of(every)..first + count).step_by(every as usize) {
            let at = ((index - first) * page_bytes) as usize;
            let (page, bytes) = (u32::try_from(index + 1), read.get(at..at + page_bytes as usize));
            if let (Ok(page), Some(bytes)) = (page, bytes)
                && page <= self.pages
            {
                let frame = self.frames.get(&page).copied().unwrap_or(0);
                let generation = self.header.map(|header| header.salts);
                sample
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .from_base(page, generation, frame, bytes);
            }
        }
    }
}
