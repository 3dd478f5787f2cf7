//! The right to write: epochs, claims and fences.

use crate::archive::Archive;
use crate::error::{Error, Result};
use crate::stored::{Claim, Fence, Instance, Origin, Timeline};
use pitr_format::{Epoch, Lsn, TimelineId, Timestamp};
use pitr_objects::layout::{LogName, SourceObject};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const CLAIM_ATTEMPTS: u32 = 64;

/// The right to write an instance of a source, until another writer claims it. Clones share it.
///
/// # Protocol
/// 1. Create the claim of the epoch after the highest; if another writer was faster, try the next.
///    The claim names the instance, or takes over all of them.
/// 2. For every earlier epoch of that instance without a fence: list its objects, and create the
///    fence after the last one.
/// 3. Write. After each put look for a higher claim that takes over the instance: for the next one
///    by its name, and for all of them if it exists. If there is one, the put may lie beyond our
///    fence and must not be acknowledged ([`Error::Fenced`]).
///
/// Writers of different instances write at the same time: each writes only timelines that it has
/// claimed itself, or that its instance has.
///
/// A writer that pauses between any two of these steps does no harm. If its object was listed in
/// step 2 of its successor, the object counts. Otherwise the object lies beyond the fence, and step
/// 3 stops the writer. Two successors that fence the same epoch create one object: the first fence
/// counts, and only the writer of the highest epoch of an instance continues.
#[derive(Debug, Clone)]
pub struct Writer {
    archive: Archive,
    epoch: Epoch,
    instance: Instance,
    takes_over_all: bool,
    /// The higher epoch that was found; 0 if none was found. A fenced writer stays fenced.
    fenced_by: Arc<AtomicU64>,
    /// Later epochs of other instances. A claim never changes, so each is read once.
    beside: Arc<Mutex<BTreeSet<Epoch>>>,
    /// The writer has fenced its own epoch.
    closed: Arc<AtomicBool>,
}

/// What a writer claims.
#[derive(Debug, Clone, Copy)]
enum Claims {
    All,
    New,
    One(Instance),
}

impl Writer {
    /// Claims the next epoch, takes over every instance of the source, and fences all epochs before
    /// it. For sources with a single instance. `now` is stored for people.
    ///
    /// # Errors
    /// [`Error::Fenced`] if another writer claims at the same time and wins; [`Error::Contended`];
    /// [`Error::Objects`].
    pub fn claim(archive: &Archive, now: Timestamp) -> Result<Self> {
        Self::claim_for(archive, Claims::All, now)
    }

    /// Claims the next epoch for one instance, or for a new one if `None`, and fences the earlier
    /// epochs of that instance. The writers of other instances go on.
    ///
    /// # Errors
    /// As [`claim`](Self::claim).
    pub fn claim_instance(archive: &Archive, instance: Option<Instance>, now: Timestamp) -> Result<Self> {
        Self::claim_for(archive, instance.map_or(Claims::New, Claims::One), now)
    }

    fn claim_for(archive: &Archive, claims: Claims, now: Timestamp) -> Result<Self> {
        // Two writers tell each other apart by who created the claim.
        archive.objects().prove_create_only()?;
        archive.objects().register_source(archive.source())?;
        for _ in 0..CLAIM_ATTEMPTS {
            let taken = archive.epoch_names(&mut Vec::new())?;
            let next = taken.keys().last().map_or(Some(Epoch::FIRST), |last| last.next());
            let Some(epoch) = next else { break };
            let (instance, found) = match claims {
                Claims::All => (None, Vec::new()),
                Claims::New => (Some(Instance::begun_by(epoch)), found_by(archive)?),
                Claims::One(instance) => (Some(instance), Vec::new()),
            };
            let claim = Claim { time: now, instance, found };
            if archive.create(&SourceObject::Claim(epoch), &claim.encode())? {
                let writer = Writer::new(archive.clone(), epoch, &claim);
                let unfenced = taken.iter().filter(|(_, is_fenced)| !**is_fenced);
                for (before, _) in unfenced {
                    // If the claim is lost, its writer may be the one that is taken over.
                    let earlier = archive.claim_of(*before)?;
                    if earlier.is_none_or(|earlier| claim.takes_over(earlier.writes())) {
                        writer.fence(*before)?;
                    }
                }
                writer.check_all()?;
                return Ok(writer);
            }
        }
        Err(Error::Contended { path: archive.folder().epochs(), attempts: CLAIM_ATTEMPTS })
    }

    fn new(archive: Archive, epoch: Epoch, claim: &Claim) -> Self {
        let (fenced_by, beside, closed) = (Arc::default(), Arc::default(), Arc::default());
        let (instance, takes_over_all) = (claim.writes(), claim.instance.is_none());
        Writer { archive, epoch, instance, takes_over_all, fenced_by, beside, closed }
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

    /// The instance that the writer writes.
    #[must_use]
    pub fn instance(&self) -> Instance {
        self.instance
    }

    /// True if the writer has taken over every instance of the source.
    #[must_use]
    pub fn takes_over_all(&self) -> bool {
        self.takes_over_all
    }

    /// Looks for a higher claim that takes over the instance. One short request if there is no
    /// later claim: claims are numbered without holes, so the next one is asked for by name.
    ///
    /// # Errors
    /// [`Error::Fenced`] if there is one, or ever was; [`Error::Objects`].
    pub fn check(&self) -> Result<()> {
        self.check_memory()?;
        let last = self.beside().last().map_or(self.epoch, |last| self.epoch.max(*last));
        let Some(next) = last.next() else { return Ok(()) };
        let exists = |name| self.archive.objects().exists(&self.archive.folder().path(&name));
        // A writer of another instance that can't read this one's claim fences its epoch.
        let may_be_fenced = last > self.epoch;
        if exists(SourceObject::Claim(next))? || may_be_fenced && exists(SourceObject::Fence(self.epoch))? {
            self.check_all()
        } else {
            Ok(())
        }
    }

    /// Like [`check`](Self::check), of all claims, and looks for a fence of the writer's epoch.
    fn check_all(&self) -> Result<()> {
        self.check_memory()?;
        let listed = self.archive.objects().list(&self.archive.folder().epochs())?;
        let (mut later, mut is_fenced) = (BTreeSet::new(), false);
        for entry in &listed {
            match self.archive.folder().object_at(&entry.path) {
                Some(SourceObject::Claim(epoch)) if epoch > self.epoch => drop(later.insert(epoch)),
                Some(SourceObject::Fence(epoch)) => is_fenced |= epoch == self.epoch,
                _ => {}
            }
        }
        let by = later.last().copied();
        let mut taken_over = None;
        for epoch in later.into_iter().rev() {
            if self.is_taken_over(epoch)? {
                taken_over = Some(epoch);
                break;
            }
        }
        // A successor that could not read this writer's claim has fenced the epoch.
        let fenced = if is_fenced && !self.closed.load(Ordering::Relaxed) { by } else { None };
        if let Some(by) = taken_over.or(fenced) {
            self.fenced_by.store(by.get(), Ordering::Relaxed);
        }
        self.check_memory()
    }

    /// True if the writer of a later epoch takes over the instance.
    fn is_taken_over(&self, later: Epoch) -> Result<bool> {
        if self.beside().contains(&later) {
            return Ok(false);
        }
        // A claim that can't be read may be the one that takes over.
        let takes_over = self.archive.claim_of(later)?.is_none_or(|claim| claim.takes_over(self.instance));
        if !takes_over {
            self.beside().insert(later);
        }
        Ok(takes_over)
    }

    fn beside(&self) -> MutexGuard<'_, BTreeSet<Epoch>> {
        self.beside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fences the writer's own epoch, after everything is archived. If one of the writer's last
    /// objects is lost later, the fence shows the loss (FAILURES 55). Objects written afterwards do
    /// not count.
    ///
    /// # Errors
    /// [`Error::Objects`].
    pub fn close(&self) -> Result<()> {
        self.closed.store(true, Ordering::Relaxed);
        self.fence(self.epoch)
    }

    /// Claims the next timeline, as the writer of the source.
    ///
    /// # Errors
    /// [`Error::Fenced`]; those of [`Archive::claim_timeline`].
    pub fn claim_timeline(&self, timeline: &Timeline) -> Result<TimelineId> {
        self.check_all()?;
        self.archive.claim_timeline(timeline)
    }

    /// States the place of the instance from this epoch on, unless its newest statement is the
    /// same.
    ///
    /// # Errors
    /// [`Error::Fenced`]; [`Error::Objects`].
    pub fn state_origin(&self, origin: &Origin) -> Result<()> {
        self.check_all()?;
        let known = self.archive.instances()?;
        let known = known.iter().find(|known| known.instance == self.instance);
        if known.is_some_and(|known| known.origin.says(origin)) {
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
            let listed = self.archive.log_names(folder.logs_of(timeline, epoch), &mut Vec::new())?;
            names.extend(listed.into_iter().map(|(name, _)| name));
        }
        // If another successor was faster, its fence counts.
        let fence = Fence::behind(names).encode();
        self.archive.create(&SourceObject::Fence(epoch), &fence).map(drop)
    }
}

/// The newest timeline of each instance, and the end of its log. Found before the claim: what a
/// timeline's writer stores later shows that it wrote while the new instance began.
fn found_by(archive: &Archive) -> Result<Vec<(TimelineId, Lsn)>> {
    let catalog = archive.catalog()?;
    let heads = archive.heads(&catalog)?.into_values();
    Ok(heads.filter_map(|timeline| Some((timeline, catalog.end(timeline)?))).collect())
}
