//! The run: plan, condemn, delete.

use crate::plan::{Listed, Refusal, SourcePlan, plan};
use crate::survey::{PackSurvey, Source, packs, sources};
use crate::{Error, KeptPoint, KeptSnapshot, Packs, Policy, Report, Result, SourceReport};
use pitr_archive::{Catalog, LogName, PrunedRange, SourceObject};
use pitr_codec::{Codec, OBJECT_BYTES_MAX};
use pitr_dedup::{ChunkStore, PackUse};
use pitr_format::Timestamp;
use pitr_objects::layout::ObjectName;
use pitr_objects::{Condemnation, Entry, LEASE_EXPIRY, Lease, LeaseRole, Objects, parallel};
use pitr_snapshot::Snapshot;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// A pack is small if it has less needed data than this, bytes.
const SMALL_BYTES: u64 = OBJECT_BYTES_MAX as u64 / 4;
/// Minimum number of small packs before they are repacked.
const SMALL_PACKS: usize = 32;

/// Prunes a repository.
#[derive(Debug, Clone)]
pub struct Pruner {
    objects: Objects,
    policy: Policy,
    max_waste: f64,
    small_packs: usize,
    lease_expiry: Duration,
}

/// Survey and plan, before anything is changed.
struct Planned {
    sources: Vec<(Source, SourcePlan)>,
    entries: Vec<Entry>,
    survey: PackSurvey,
    /// Packs without a needed chunk, and packs that no index object lists.
    unneeded: BTreeSet<String>,
    repack: Repack,
    report: Report,
}

impl Pruner {
    /// A pruner with this policy. By default packs are repacked until at most a tenth of the data
    /// in packs is unneeded, and small packs are repacked if there are 32 or more.
    ///
    /// # Errors
    /// [`Error::NoRule`].
    pub fn new(objects: Objects, policy: Policy) -> Result<Self> {
        policy.validate()?;
        Ok(Pruner { objects, policy, max_waste: 0.1, small_packs: SMALL_PACKS, lease_expiry: LEASE_EXPIRY })
    }

    /// Sets the maximum share of unneeded data in packs, from 0 to 1.
    #[must_use]
    pub fn max_waste(self, max_waste: f64) -> Self {
        Pruner { max_waste, ..self }
    }

    /// Sets the minimum number of packs with less than 4 MiB of needed data before these are
    /// repacked. Each backup adds at least one such pack: without repacking, the number of packs
    /// and index objects would grow with the number of backups.
    #[must_use]
    pub fn small_packs(self, small_packs: usize) -> Self {
        Pruner { small_packs, ..self }
    }

    /// Sets the time without a renewal after which a lease has lapsed. For tests: less than
    /// [`LEASE_EXPIRY`] ends the leases of living processes.
    #[must_use]
    pub fn lease_expiry(self, lease_expiry: Duration) -> Self {
        Pruner { lease_expiry, ..self }
    }

    /// Reports what would be deleted and why. Changes nothing.
    ///
    /// # Errors
    /// [`Error::NotRestorable`], [`Error::Unreadable`], [`Error::Suspicious`]; errors of the
    /// repository.
    pub fn plan(&self, now: Timestamp) -> Result<Report> {
        let _lease = self.objects.lease_to_read()?;
        Ok(self.survey(|| ChunkStore::open(self.objects.clone()), now)?.report)
    }

    /// Prunes. Objects that other processes may rely on are condemned, and a later run deletes
    /// them; [`Report::waiting`] lists the leases of these processes.
    ///
    /// # Errors
    /// Those of [`plan`](Self::plan), and [`Error::Locked`], [`Error::Unfinished`]; after an
    /// error the next run continues.
    pub fn execute(&self, now: Timestamp) -> Result<Report> {
        let lease = Arc::new(self.collectors_lease()?);
        self.objects.forget_leftovers()?;
        let mut freed = 0;
        // One condemnation at a time. Only a process that started before the condemnation may rely
        // on its objects; an earlier condemnation may wait for other processes.
        for condemnation in self.objects.condemnations()? {
            match self.finish(&lease, condemnation)? {
                Finished::Deleted(bytes) => freed += bytes,
                Finished::Waits(leases) => return Err(Error::Unfinished { leases }),
            }
        }
        let open = || ChunkStore::open_with(self.objects.clone(), Arc::clone(&lease));
        let planned = self.survey(open, now)?;
        let (unneeded, worn, small) =
            (planned.unneeded.len(), planned.repack.worn.len(), planned.repack.small.len());
        tracing::info!(unneeded, worn, small, "packs to delete, and packs to rewrite");
        lease.check()?;
        self.remove_roots_and_ranges(&planned, &lease, now)?;
        let repacked: BTreeSet<String> = planned.repack.all().cloned().collect();
        if !repacked.is_empty() {
            planned.survey.marks.repack(&repacked, self.codec(&planned))?;
        }
        let mut report = planned.report.clone();
        report.freed = freed + roots_bytes(&planned, &self.objects);
        let unneeded = self.to_condemn(&planned)?;
        if unneeded.is_empty() {
            return Ok(report);
        }
        let sizes = sizes(&planned.entries);
        report.condemned = unneeded.iter().filter_map(|path| sizes.get(path.as_str())).sum();
        lease.check()?;
        let condemnation = self.objects.condemn(unneeded, self.kept_roots(&planned))?;
        drop(planned); // the second phase surveys everything again
        match self.finish(&lease, condemnation)? {
            Finished::Deleted(bytes) => {
                report.freed += bytes;
                report.condemned = 0;
            }
            Finished::Waits(leases) => report.waiting = leases,
        }
        Ok(report)
    }

    /// A lease as the only collector.
    fn collectors_lease(&self) -> Result<Lease> {
        let lease = self.objects.lease(LeaseRole::Collect)?;
        match self.objects.other_collector(Some(&lease), self.lease_expiry)? {
            Some(lease) => Err(Error::Locked { lease }),
            None => Ok(lease),
        }
    }

    fn survey(
        &self,
        open: impl FnOnce() -> pitr_dedup::Result<ChunkStore>,
        now: Timestamp,
    ) -> Result<Planned> {
        // Roots before the index: everything that a root needs was indexed before the root was put.
        let (sources, entries) = sources(&self.objects)?;
        let store = open()?;
        let mut planned = Vec::with_capacity(sources.len());
        for source in sources {
            let listed = Listed {
                catalog: &source.catalog,
                snapshots: &source.snapshots,
                newest: &source.newest,
                points: &source.points,
                heads: &source.heads,
                followed: source.followed,
            };
            let since = self.policy.must_remain_since.unwrap_or(Timestamp::MIN);
            let refused = |why| match why {
                Refusal::Since(what) => Error::NotRestorable { name: source.name.clone(), since, what },
                Refusal::Point(point) => Error::PointLost { name: source.name.clone(), point },
            };
            let plan = plan(listed, &self.policy, now).map_err(refused)?;
            planned.push((source, plan));
        }
        let survey = packs(&store, kept(&planned), &entries)?;
        let mut unneeded: BTreeSet<String> = survey.unnamed.keys().cloned().collect();
        unneeded.extend(survey.usage.iter().filter(|pack| pack.live == 0).map(|pack| pack.path.clone()));
        let repack = Repack::of(&survey.usage, self.max_waste, self.small_packs);
        let mut planned =
            Planned { sources: planned, entries, survey, unneeded, repack, report: Report::default() };
        planned.report = report(&planned, &self.objects);
        Ok(planned)
    }

    /// The first step: from now on no process begins to rely on these objects.
    ///
    /// The points were listed after this process took its lease as a collector. So each point that
    /// the survey lacks was put after that, and its creator sees the lease, waits, and looks at
    /// what is left (see the crate's head). The lease is checked before each deletion of a root.
    fn remove_roots_and_ranges(&self, planned: &Planned, lease: &Lease, now: Timestamp) -> Result<()> {
        for (source, plan) in &planned.sources {
            for range in &plan.ranges {
                source.archive.prune(
                    joined(*range, source.catalog.pruned()),
                    source.catalog.pruned(),
                    now,
                )?;
            }
            for (snapshot, _) in removed(source, plan) {
                lease.check()?;
                self.objects.delete(&snapshot.path(&self.objects))?;
            }
        }
        Ok(())
    }

    /// Paths of all objects to condemn.
    fn to_condemn(&self, planned: &Planned) -> Result<BTreeSet<String>> {
        let mut paths: BTreeSet<String> =
            planned.unneeded.iter().chain(planned.repack.all()).cloned().collect();
        for (source, _) in &planned.sources {
            // Listed again after the ranges were stated, to find log in the ranges, and leftovers
            // of earlier runs.
            let catalog = source.archive.catalog()?;
            let sound = self.sound_holders(source, &catalog)?;
            let is_held = |name: &LogName| {
                let holders = catalog.holders(name);
                !holders.is_empty() && holders.iter().all(|(holder, _)| sound.contains(holder))
            };
            paths.extend(uncounted(source, &catalog, is_held));
        }
        Ok(paths)
    }

    /// The merged log objects that can be read: what they replace may be deleted. Each is read
    /// whole and decoded.
    fn sound_holders(&self, source: &Source, catalog: &Catalog) -> Result<BTreeSet<LogName>> {
        let replaced = catalog.replaced().iter();
        let holders: BTreeSet<LogName> =
            replaced.flat_map(|(name, _)| catalog.holders(name)).map(|(holder, _)| *holder).collect();
        let check = |holder: &LogName| {
            let path = source.archive.folder().path(&SourceObject::Log(*holder));
            let whole = self.objects.get(&path)?;
            match source.archive.check_log(holder, &whole, true) {
                Ok(()) => Ok(Some(*holder)),
                Err(error) if error.is_damage() => {
                    tracing::warn!("{path}: what was merged into it is kept, because it is damaged: {error}");
                    Ok(None)
                }
                Err(error) => Err(Error::from(error)),
            }
        };
        let checked: Result<Vec<Option<LogName>>> =
            parallel::map(self.objects.env().spawn, holders.iter().collect::<Vec<_>>(), check);
        Ok(checked?.into_iter().flatten().collect())
    }

    fn kept_roots(&self, planned: &Planned) -> BTreeSet<String> {
        kept(&planned.sources).map(|snapshot| snapshot.path(&self.objects)).collect()
    }

    /// The codec of the newest snapshot.
    fn codec(&self, planned: &Planned) -> Codec {
        let newest = kept(&planned.sources).max_by_key(|snapshot| snapshot.meta.created);
        newest.map_or_else(Codec::default, |snapshot| snapshot.meta.codec)
    }

    /// The second phase of a condemnation.
    fn finish(&self, lease: &Arc<Lease>, condemnation: Condemnation) -> Result<Finished> {
        let condemnation = match condemnation.leases {
            Some(_) => condemnation,
            None => self.objects.note_leases(condemnation)?,
        };
        let mut leases = condemnation.leases.clone().unwrap_or_default();
        leases.remove(&lease.id().to_string());
        let alive = self.objects.wait_for_leases(&leases, self.lease_expiry)?;
        if !alive.is_empty() {
            return Ok(Finished::Waits(alive.into_iter().collect()));
        }
        let (sources, entries) = sources(&self.objects)?;
        let store = ChunkStore::open_with(self.objects.clone(), Arc::clone(lease))?;
        let roots: BTreeSet<String> =
            sources.iter().flat_map(|s| s.snapshots.iter().map(|m| m.path(&self.objects))).collect();
        for path in condemnation.roots.difference(&roots) {
            // FAILURES 20: this root needs no condemned object, but a listing that lacks it may
            // lack other roots too.
            if self.objects.exists(path)? {
                let what = "was listed when objects were condemned and is not listed any more";
                return Err(Error::Suspicious { path: path.clone(), what });
            }
        }
        let snapshots = sources.iter().flat_map(|source| &source.snapshots);
        let survey = packs(&store, snapshots, &entries)?;
        let needed = survey.usage.iter().filter(|pack| pack.live > 0).map(|pack| pack.path.clone());
        let mut needed: BTreeSet<String> = needed.collect();
        // Log objects are deleted only if they still do not count.
        let gone: BTreeSet<String> =
            sources.iter().flat_map(|source| uncounted(source, &source.catalog, |_| true)).collect();
        let is_log = |path: &&String| {
            matches!(ObjectName::parse(path), Some(ObjectName::Source(_, SourceObject::Log(_))))
        };
        needed.extend(
            condemnation.objects.iter().filter(|path| is_log(path) && !gone.contains(*path)).cloned(),
        );
        let unneeded: BTreeSet<String> = condemnation.objects.difference(&needed).cloned().collect();
        drop(survey);
        lease.check()?;
        let old = store.index_without(&unneeded)?;
        lease.check()?;
        let sizes = sizes(&entries);
        // No index object may refer to a pack that is gone.
        self.objects.delete_all(&old)?;
        self.objects.delete_all(&unneeded)?;
        let size = |path: &String| sizes.get(path.as_str()).copied().unwrap_or_default();
        let bytes: u64 = old.iter().chain(&unneeded).map(size).sum();
        self.objects.forget(&condemnation)?;
        tracing::info!(objects = unneeded.len(), bytes, "deleted the condemned objects");
        Ok(Finished::Deleted(bytes))
    }
}

/// Paths of a source's log objects that do not count in this catalog, and of those that were merged
/// into others if `is_held`.
fn uncounted(source: &Source, catalog: &Catalog, is_held: impl Fn(&LogName) -> bool) -> Vec<String> {
    let replaced = catalog.replaced().iter().map(|(name, _)| name).filter(|name| is_held(name));
    let logs = catalog.condemned().iter().chain(catalog.fenced_off()).chain(replaced);
    logs.map(|name| source.archive.folder().path(&SourceObject::Log(*name))).collect()
}

/// Result of the second phase.
enum Finished {
    /// Bytes that were deleted.
    Deleted(u64),
    /// Leases that have not ended.
    Waits(Vec<String>),
}

fn kept(planned: &[(Source, SourcePlan)]) -> impl Iterator<Item = &Snapshot> {
    planned.iter().flat_map(|(source, plan)| {
        source.snapshots.iter().zip(&plan.reasons).filter(|(_, why)| !why.is_empty()).map(|(m, _)| m)
    })
}

fn removed<'p>(source: &'p Source, plan: &'p SourcePlan) -> impl Iterator<Item = (&'p Snapshot, usize)> {
    let places = source.snapshots.iter().zip(0..);
    places.filter(|(_, at)| plan.reasons[*at].is_empty())
}

/// Sizes of the objects by path.
fn sizes(entries: &[Entry]) -> BTreeMap<&str, u64> {
    entries.iter().map(|entry| (entry.path.as_str(), entry.size)).collect()
}

/// Size of the deleted roots, bytes.
fn roots_bytes(planned: &Planned, objects: &Objects) -> u64 {
    let sizes = sizes(&planned.entries);
    let roots = planned.sources.iter().flat_map(|(source, plan)| removed(source, plan));
    roots.filter_map(|(snapshot, _)| sizes.get(snapshot.path(objects).as_str())).sum()
}

/// The union of a range and those known ranges that it touches.
fn joined(range: PrunedRange, known: &[PrunedRange]) -> PrunedRange {
    let touching = known
        .iter()
        .filter(|old| old.timeline == range.timeline && old.from <= range.to && range.from <= old.to);
    touching.fold(range, |sum, old| PrunedRange {
        from: sum.from.min(old.from),
        to: sum.to.max(old.to),
        ..sum
    })
}

/// The packs whose needed chunks are copied to new packs.
#[derive(Debug, Default)]
struct Repack {
    /// Packs with little needed data, if there are many such packs.
    small: BTreeSet<String>,
    /// The other packs with the largest share of waste, until the total waste is within the limit.
    worn: BTreeSet<String>,
    /// Bytes to copy from small packs and from packs with much waste.
    bytes: u64,
    /// Unneeded bytes in the kept packs.
    waste_left: u64,
}

impl Repack {
    fn of(usage: &[PackUse], max_waste: f64, small_packs: usize) -> Self {
        let used = || usage.iter().filter(|pack| pack.live > 0);
        let is_small = |pack: &&PackUse| pack.live_bytes < SMALL_BYTES;
        let is_many = used().filter(is_small).count() >= small_packs;
        let (small, mut others): (Vec<_>, Vec<_>) = used().partition(|pack| is_many && is_small(pack));
        let waste_left = others.iter().map(|pack| pack.dead_bytes).sum();
        let mut repack = Repack { waste_left, ..Repack::default() };
        repack.bytes = small.iter().map(|pack| pack.live_bytes).sum();
        repack.small = small.into_iter().map(|pack| pack.path.clone()).collect();
        let total: u64 = used().map(|pack| pack.live_bytes + pack.dead_bytes).sum();
        let share = |pack: &PackUse| pack.dead_bytes as f64 / (pack.dead_bytes + pack.live_bytes) as f64;
        others.retain(|pack| pack.dead_bytes > 0);
        others.sort_by(|a, b| share(b).total_cmp(&share(a)));
        for pack in others {
            if repack.waste_left as f64 <= max_waste * total as f64 {
                break;
            }
            repack.waste_left -= pack.dead_bytes;
            repack.bytes += pack.live_bytes;
            repack.worn.insert(pack.path.clone());
        }
        repack
    }

    fn all(&self) -> impl Iterator<Item = &String> {
        self.small.iter().chain(&self.worn)
    }
}

fn report(planned: &Planned, objects: &Objects) -> Report {
    let Planned { survey, unneeded, repack, .. } = planned;
    let size = |path: &String| survey.sizes.get(path).copied().unwrap_or_default();
    let packs = Packs {
        unneeded: unneeded.len() as u64,
        unneeded_bytes: unneeded.iter().map(size).sum(),
        worn: repack.worn.len() as u64,
        worn_bytes: repack.worn.iter().map(size).sum(),
        small: repack.small.len() as u64,
        small_bytes: repack.small.iter().map(size).sum(),
        repacked_bytes: repack.bytes,
        waste_left: repack.waste_left,
    };
    let sources: Vec<SourceReport> = planned.sources.iter().map(|(s, p)| source_report(s, p)).collect();
    let logs: u64 = sources.iter().map(|source| source.log_bytes + source.merged_bytes).sum();
    Report {
        freed: packs.unneeded_bytes
            + packs.worn_bytes
            + packs.small_bytes
            + logs
            + roots_bytes(planned, objects),
        sources,
        packs,
        condemned: 0,
        waiting: Vec::new(),
        stored: planned.entries.iter().map(|entry| entry.size).sum(),
    }
}

fn source_report(source: &Source, plan: &SourcePlan) -> SourceReport {
    let kept = source.snapshots.iter().zip(&plan.reasons).zip(0..).filter(|((_, why), _)| !why.is_empty());
    let points_of = |at: usize| {
        let needing = source.points.iter().zip(&plan.points).filter(move |(_, needs)| needs.base == Some(at));
        needing.map(|(point, _)| point.name.clone()).collect()
    };
    SourceReport {
        name: source.name.clone(),
        kept: kept
            .map(|((snapshot, why), at)| KeptSnapshot {
                snapshot: snapshot.clone(),
                reasons: why.clone(),
                points: points_of(at),
            })
            .collect(),
        removed: removed(source, plan).map(|(snapshot, _)| snapshot.clone()).collect(),
        points: source
            .points
            .iter()
            .zip(&plan.points)
            .map(|(point, needs)| {
                let snapshot = needs.base.map(|at| &source.snapshots[at]); // the planner's index
                let held = snapshot.filter(|_| needs.holds_base);
                KeptPoint {
                    point: point.clone(),
                    snapshot: snapshot.map(|snapshot| snapshot.id),
                    held_log_bytes: needs.log_bytes,
                    held_snapshot_bytes: held.map(|snapshot| snapshot.sizes.stored),
                }
            })
            .collect(),
        log: plan.ranges.clone(),
        log_objects: plan.logs.len() as u64,
        log_bytes: plan.logs.iter().map(|(_, bytes)| bytes).sum(),
        merged_objects: source.catalog.replaced().len() as u64,
        merged_bytes: source.catalog.replaced().iter().map(|(_, bytes)| bytes).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_small_packs_and_packs_with_much_waste_are_repacked() {
        const MIB: u64 = 1 << 20;
        let pack = |n: usize, live: u64, dead: u64| PackUse {
            path: n.to_string(),
            live: live.min(1),
            live_bytes: live,
            dead_bytes: dead,
        };
        let mut usage = vec![pack(0, 15 * MIB, 0), pack(1, 5 * MIB, 5 * MIB), pack(2, 0, 9 * MIB)];
        let of = |usage: &[PackUse], max_waste| {
            let repack = Repack::of(usage, max_waste, 4);
            (repack.small.len(), repack.worn.into_iter().collect::<Vec<_>>(), repack.bytes, repack.waste_left)
        };
        usage.extend((3..6).map(|n| pack(n, MIB, MIB)));
        // Three small packs: the waste is 8 MiB of 31 MiB.
        assert_eq!(of(&usage, 1.0), (0, vec![], 0, 8 * MIB));
        assert_eq!(of(&usage, 0.1).2, 5 * MIB);
        usage.push(pack(6, 4 * MIB, 0)); // no longer small
        assert_eq!(of(&usage, 1.0).0, 0);
        usage.push(pack(7, 4 * MIB - 1, 0));
        assert_eq!(of(&usage, 1.0), (4, vec![], 7 * MIB - 1, 5 * MIB));
        assert_eq!(of(&usage, 0.0), (4, vec!["1".to_owned()], 12 * MIB - 1, 0));
    }
}
