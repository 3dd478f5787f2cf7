//! The right to write: epochs, claims and fences.

use crate::archive::Archive;
use crate::error::{Error, Result};
use crate::stored::{Claim, Fence, Origin, Timeline};
use pitr_format::{Epoch, TimelineId, Timestamp};
use pitr_objects::layout::{LogName, SourceObject};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const CLAIM_ATTEMPTS: u32 = 64;

/// The right to write a source's archive, until another writer claims it. Clones share it.
///
/// # Protocol
/// 1. Create the claim of the epoch after the highest; if another writer was faster, try the next.
/// 2. For every earlier epoch without a fence: list its objects, and create the fence after the
///    last one.
/// 3. Write. After each put look for a higher claim. If there is one, the put may lie beyond our
///    fence and must not be acknowledged ([`Error::Fenced`]).
///
/// A writer that pauses between any two of these steps does no harm. If its object was listed in
/// step 2 of its successor, the object counts. Otherwise the object lies beyond the fence, and step
/// 3 stops the writer. Two successors that fence the same epoch create one object: the first fence
/// counts, and only the writer of the highest epoch continues.
#[derive(Debug, Clone)]
pub struct Writer {
    archive: Archive,
    epoch: Epoch,
    /// The higher epoch that was found; 0 if none was found. A fenced writer stays fenced.
    fenced_by: Arc<AtomicU64>,
}

impl Writer {
    /// Claims the next epoch and fences all before it. `now` is stored for people.
    ///
    /// # Errors
    /// [`Error::Fenced`] if another writer claims at the same time and wins; [`Error::Contended`];
    /// [`Error::Objects`].
    pub fn claim(archive: &Archive, now: Timestamp) -> Result<Self> {
        archive.objects().register_source(archive.source())?;
        let claim = Claim { time: now }.encode();
        for _ in 0..CLAIM_ATTEMPTS {
            let taken = archive.epoch_names(&mut Vec::new())?;
            let next = taken.keys().last().map_or(Some(Epoch::FIRST), |last| last.next());
            let Some(epoch) = next else { break };
            if archive.create(&SourceObject::Claim(epoch), &claim)? {
                let writer = Writer { archive: archive.clone(), epoch, fenced_by: Arc::default() };
                let unfenced = taken.iter().filter(|(_, is_fenced)| !**is_fenced);
                for (before, _) in unfenced {
                    writer.fence(*before)?;
                }
                writer.check()?;
                return Ok(writer);
            }
        }
        Err(Error::Contended { path: archive.folder().epochs(), attempts: CLAIM_ATTEMPTS })
    }

    /// The archive that the writer may write.
    #[must_use]
    pub fn archive(&self) -> &Archive {
        &self.archive
    }

    /// The writer's epoch.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Looks for a higher claim.
    ///
    /// # Errors
    /// [`Error::Fenced`] if there is one, or ever was; [`Error::Objects`].
    pub fn check(&self) -> Result<()> {
        self.check_memory()?;
        let listed = self.archive.objects().list(&self.archive.folder().epochs())?;
        let claims = listed.iter().filter_map(|entry| match self.archive.folder().object_at(&entry.path) {
            Some(SourceObject::Claim(epoch)) => Some(epoch),
            _ => None,
        });
        if let Some(by) = claims.max().filter(|by| *by > self.epoch) {
            self.fenced_by.store(by.get(), Ordering::Relaxed);
        }
        self.check_memory()
    }

    /// Fences the writer's own epoch, after everything is archived. If one of the writer's last
    /// objects is lost later, the fence shows the loss (FAILURES 55). Objects written afterwards do
    /// not count.
    ///
    /// # Errors
    /// [`Error::Objects`].
    pub fn close(&self) -> Result<()> {
        self.fence(self.epoch)
    }

    /// Claims the next timeline, as the writer of the source.
    ///
    /// # Errors
    /// [`Error::Fenced`]; those of [`Archive::claim_timeline`].
    pub fn claim_timeline(&self, timeline: &Timeline) -> Result<TimelineId> {
        self.check()?;
        self.archive.claim_timeline(timeline)
    }

    /// States the place of the source from this epoch on, unless the newest statement is the same.
    ///
    /// # Errors
    /// [`Error::Fenced`]; [`Error::Objects`].
    pub fn state_origin(&self, origin: &Origin) -> Result<()> {
        self.check()?;
        if self.archive.origin()?.is_some_and(|known| known.says(origin)) {
            return Ok(());
        }
        self.archive.create(&SourceObject::Origin(self.epoch), &origin.encode())?;
        Ok(())
    }

    /// Fails if an earlier call found a higher claim. Does not access the repository.
    pub(crate) fn check_memory(&self) -> Result<()> {
        match self.fenced_by.load(Ordering::Relaxed) {
            0 => Ok(()),
            by => Err(Error::Fenced {
                source_name: self.archive.source().clone(),
                epoch: self.epoch,
                by: Epoch::new(by),
            }),
        }
    }

    /// Creates the fence of an epoch, after its last object.
    fn fence(&self, epoch: Epoch) -> Result<()> {
        let folder = self.archive.folder();
        let mut names: Vec<LogName> = Vec::new();
        for timeline in self.archive.timeline_names(&mut Vec::new())? {
            let listed = self.archive.objects().list(&folder.logs_of(timeline, epoch))?;
            names.extend(listed.iter().filter_map(|entry| match folder.object_at(&entry.path) {
                Some(SourceObject::Log(name)) => Some(name),
                _ => None,
            }));
        }
        // If another successor was faster, its fence counts.
        let fence = Fence::behind(names).encode();
        self.archive.create(&SourceObject::Fence(epoch), &fence).map(drop)
    }
}
