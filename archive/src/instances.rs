//! The instances of a source: where each is, and which timelines each has written.

use crate::archive::Archive;
use crate::error::{Error, Result};
use crate::history::Catalog;
use crate::stored::{Claim, Instance, Origin};
use pitr_format::{Epoch, Lsn, TimelineId, Timestamp};
use pitr_objects::layout::{LogName, SourceObject};
use std::collections::{BTreeMap, BTreeSet};

/// An instance of a source, and its last stated place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedInstance {
    /// The instance.
    pub instance: Instance,
    /// Epoch of the writer that stated the place.
    pub epoch: Epoch,
    /// The place.
    pub origin: Origin,
}

impl Archive {
    /// The instances with a stated place, the newest statement first. Skips damaged statements.
    ///
    /// # Errors
    /// [`Error::Objects`]; [`Error::Payload`] about a statement or a claim of a later version.
    pub fn instances(&self) -> Result<Vec<PlacedInstance>> {
        let mut found: Vec<PlacedInstance> = Vec::new();
        for epoch in self.origin_epochs()?.into_iter().rev() {
            // An instance that moved has an earlier statement too.
            let instance = self.instance_of(epoch)?.unwrap_or(Instance::FIRST);
            if found.iter().any(|placed| placed.instance == instance) {
                continue;
            }
            if let Some(origin) = self.origin_of(epoch)? {
                found.push(PlacedInstance { instance, epoch, origin });
            }
        }
        Ok(found)
    }

    /// The instance that each timeline belongs to. A timeline without log objects is not listed.
    ///
    /// # Errors
    /// As [`instances`](Self::instances).
    pub fn owners(&self, catalog: &Catalog) -> Result<BTreeMap<TimelineId, Instance>> {
        let last = self.last_writers(catalog)?;
        Ok(last.into_iter().map(|(timeline, (_, claim))| (timeline, claim.writes())).collect())
    }

    /// The last writer of each timeline with log objects. A writer whose claim can't be read counts
    /// as one of the first instance.
    fn last_writers(&self, catalog: &Catalog) -> Result<Writers> {
        let mut known: BTreeMap<Epoch, Option<Claim>> = BTreeMap::new();
        let mut writers = BTreeMap::new();
        for timeline in catalog.logged() {
            let epochs: BTreeSet<Epoch> = catalog.logs(timeline).iter().map(|(name, _)| name.epoch).collect();
            let unknown = Claim { time: Timestamp::MIN, instance: Some(Instance::FIRST), found: Vec::new() };
            let mut last = (Epoch::FIRST, unknown);
            for epoch in epochs.into_iter().rev() {
                let claim = match known.get(&epoch) {
                    Some(claim) => claim.clone(),
                    None => known.entry(epoch).or_insert(self.claim_of(epoch)?).clone(),
                };
                if let Some(claim) = claim {
                    last = (epoch, claim);
                    break;
                }
            }
            writers.insert(timeline, last);
        }
        Ok(writers)
    }

    /// The newest timeline of each instance that has log objects.
    ///
    /// # Errors
    /// As [`instances`](Self::instances).
    pub fn heads(&self, catalog: &Catalog) -> Result<BTreeMap<Instance, TimelineId>> {
        // Ascending: the last one of an instance stays.
        let owners = self.owners(catalog)?.into_iter();
        Ok(owners.map(|(timeline, instance)| (instance, timeline)).collect())
    }

    /// The timeline whose history a restore uses unless told otherwise: the newest timeline of the
    /// newest instance. An instance that began while another one was written is a copy beside it,
    /// and is not followed; neither is one that a later writer took over.
    ///
    /// `None` if there are no log objects. Compares positions and epochs, never times.
    ///
    /// # Errors
    /// As [`instances`](Self::instances).
    pub fn followed(&self, catalog: &Catalog) -> Result<Option<TimelineId>> {
        if catalog.logged().nth(1).is_none() {
            return Ok(catalog.newest_logged());
        }
        let writers = self.last_writers(catalog)?;
        let heads: BTreeMap<Instance, TimelineId> =
            writers.iter().map(|(timeline, (_, claim))| (claim.writes(), *timeline)).collect();
        let mut heads = heads.into_iter();
        let Some((_, mut followed)) = heads.next() else { return Ok(None) };
        for (instance, head) in heads {
            let began = instance.first_epoch();
            let found = self.claim_of(began)?.map_or_else(Vec::new, |claim| claim.found);
            let owner = writers.get(&followed).map_or(Instance::FIRST, |(_, claim)| claim.writes());
            let is_beside = went_on(catalog, &writers, owner, began, &found);
            let taken_over = writers
                .get(&followed)
                .is_some_and(|(epoch, claim)| *epoch > began && claim.takes_over(instance));
            // A lost history object of either is an error when its history is used.
            let is_past = catalog
                .lineage(followed)
                .is_ok_and(|path| path.legs().iter().any(|leg| leg.timeline == head));
            if !is_beside && !taken_over && !is_past {
                followed = head;
            }
        }
        Ok(Some(followed))
    }

    /// The instance that the writer of an epoch writes; `None` if its claim is missing or damaged.
    ///
    /// # Errors
    /// As [`instances`](Self::instances).
    pub fn instance_of(&self, epoch: Epoch) -> Result<Option<Instance>> {
        Ok(self.claim_of(epoch)?.map(|claim| claim.writes()))
    }

    /// True if the writer of a later epoch has taken over the instance of an earlier one; `None` if
    /// a claim is missing or damaged.
    ///
    /// # Errors
    /// As [`instances`](Self::instances).
    pub fn takes_over(&self, later: Epoch, earlier: Epoch) -> Result<Option<bool>> {
        let (later, earlier) = (self.claim_of(later)?, self.claim_of(earlier)?);
        Ok(later.zip(earlier).map(|(later, earlier)| later.takes_over(earlier.writes())))
    }

    /// The claim of an epoch; `None` if it is missing or damaged.
    pub(crate) fn claim_of(&self, epoch: Epoch) -> Result<Option<Claim>> {
        match self.read(&SourceObject::Claim(epoch), Claim::decode) {
            Err(Error::Objects(error)) if error.kind() == pitr_objects::ErrorKind::Missing => Ok(None),
            // The loss must not end the protection of the source. `verify` reports it.
            Err(error) if error.is_damage() => {
                tracing::warn!("{error}; run `pitr verify` for details");
                Ok(None)
            }
            other => other.map(Some),
        }
    }
}

/// The last writer of each timeline.
type Writers = BTreeMap<TimelineId, (Epoch, Claim)>;

/// True if a writer of an instance that was there before the epoch `began` has stored more log than
/// that epoch's writer `found`.
fn went_on(
    catalog: &Catalog,
    writers: &Writers,
    owner: Instance,
    began: Epoch,
    found: &[(TimelineId, Lsn)],
) -> bool {
    let owns = |timeline: &TimelineId| writers.get(timeline).is_some_and(|(_, by)| by.writes() == owner);
    let Some((head, end)) = found.iter().find(|(timeline, _)| owns(timeline)) else { return false };
    // Retention may have removed what was stored then. It does not tell by whom.
    if catalog.pruned().iter().any(|range| range.timeline == *head && range.to > *end) {
        return true;
    }
    writers.keys().filter(|timeline| *timeline >= head && owns(timeline)).any(|timeline| {
        let is_later = |name: &LogName| name.epoch < began && (timeline > head || name.to > *end);
        catalog.logs(*timeline).iter().any(|(name, _)| is_later(name))
    })
}
