//! The sources of the repository, and its needed chunks.

use crate::{Error, Result};
use pitr_archive::{Archive, Catalog, LogName, NamedPoint, SourceObject};
use pitr_dedup::{ChunkId, ChunkStore, Marks, PackUse};
use pitr_format::{SourceName, TimelineId, Timestamp};
use pitr_objects::layout::ObjectName;
use pitr_objects::{Entry, ErrorKind, Objects};
use pitr_snapshot::{Snapshot, Visit, load_all, walk};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// The listing of a source.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) name: SourceName,
    pub(crate) archive: Archive,
    pub(crate) catalog: Catalog,
    pub(crate) snapshots: Vec<Snapshot>,
    /// The named recovery points.
    pub(crate) points: Vec<NamedPoint>,
    /// The newest known moment of each timeline.
    pub(crate) newest: BTreeMap<TimelineId, Timestamp>,
    /// The newest timeline of each instance of the source.
    pub(crate) heads: Vec<TimelineId>,
    /// The timeline whose history a restore uses unless told otherwise.
    pub(crate) followed: Option<TimelineId>,
}

impl Source {
    fn load(objects: &Objects, name: SourceName) -> Result<Self> {
        let archive = Archive::new(objects.clone(), name.clone());
        let roots = load_all(objects, &name)?;
        if let Some(root) = roots.damaged.into_iter().next() {
            // What the object refers to is unknown, so nothing can be proven unneeded.
            return Err(Error::Unreadable { root: root.path, what: root.error.to_string() });
        }
        let points = archive.points()?;
        if let Some((root, error)) = points.damaged.into_iter().next() {
            return Err(Error::Unreadable { root, what: error.to_string() });
        }
        let catalog = archive.catalog()?;
        let mut newest: BTreeMap<TimelineId, Timestamp> = BTreeMap::new();
        let mut known = |timeline, moment: Timestamp| {
            let newest = newest.entry(timeline).or_insert(moment);
            *newest = moment.max(*newest);
        };
        for Snapshot { meta, .. } in &roots.snapshots {
            known(meta.timeline, meta.time.max(meta.created));
        }
        for timeline in catalog.timelines().keys() {
            if let Some((last, _)) = catalog.logs(*timeline).last() {
                known(*timeline, archive.footer(last)?.watermark);
            }
        }
        let (snapshots, points) = (roots.snapshots, points.points);
        let heads = archive.heads(&catalog)?.into_values().collect();
        let followed = archive.followed(&catalog)?;
        Ok(Source { name, archive, catalog, snapshots, points, newest, heads, followed })
    }
}

/// Maximum number of listings until two agree: other processes may take snapshots at the same time.
const LISTINGS_MAX: u32 = 5;

/// All sources and objects. A listing of everything must show the same roots as the listings of the
/// sources' folders.
pub(crate) fn sources(objects: &Objects) -> Result<(Vec<Source>, Vec<Entry>)> {
    let mut listings = 1;
    loop {
        let (sources, entries, beside) = list(objects)?;
        match beside {
            None => return Ok((sources, entries)),
            // A root that was put between the two listings is needed too (FAILURES 20).
            Some(_) if listings < LISTINGS_MAX => listings += 1,
            Some(path) => {
                let what = "exists and is missing from the listing of its folder";
                return Err(Error::Suspicious { path, what });
            }
        }
    }
}

/// All sources, all objects, and an existing root that the listings of the sources lack.
fn list(objects: &Objects) -> Result<(Vec<Source>, Vec<Entry>, Option<String>)> {
    let names = objects.sources()?;
    let sources: Vec<Source> =
        names.into_iter().map(|name| Source::load(objects, name)).collect::<Result<_>>()?;
    let entries = objects.list("")?;
    let there: HashSet<&str> = entries.iter().map(|entry| entry.path.as_str()).collect();
    let of_snapshots = sources.iter().flat_map(|s| s.snapshots.iter().map(|m| m.path(objects)));
    let of_points = sources.iter().flat_map(|s| s.points.iter().map(|p| s.archive.point_path(&p.name)));
    // Points count like roots: what they need is kept.
    let known: HashSet<String> = of_snapshots.chain(of_points).collect();
    // FAILURES 20. If the root no longer exists, its writer has withdrawn it because the writer's
    // lease had lapsed. That snapshot was never reported.
    for path in known.iter().filter(|path| !there.contains(path.as_str())) {
        if objects.exists(path)? {
            return Err(Error::Suspicious {
                path: path.clone(),
                what: "was listed and is missing from another listing",
            });
        }
    }
    let mut beside = None;
    let is_root = |path: &str| {
        use SourceObject::{Point, Snapshot};
        matches!(ObjectName::parse(path), Some(ObjectName::Source(_, Snapshot(_) | Point(_))))
    };
    for path in there.iter().filter(|path| is_root(path) && !known.contains(**path)) {
        if objects.exists(path)? {
            beside = Some((*path).to_owned());
            break;
        }
    }
    for path in &there {
        let Some((source, name)) = sources.iter().find_map(|source| log_of(source, path)) else { continue };
        // The claim and the timeline of a log object were put before it. An object without them
        // belongs to no source, and is kept.
        let has_claim = source.catalog.epochs().contains_key(&name.epoch);
        let has_timeline = source.catalog.timelines().contains_key(&name.timeline);
        let claim = (!has_claim).then_some(SourceObject::Claim(name.epoch));
        let timeline = (!has_timeline).then_some(SourceObject::Timeline(name.timeline));
        for needed in claim.into_iter().chain(timeline) {
            let needed = source.archive.folder().path(&needed);
            if objects.exists(&needed)? {
                return Err(Error::Suspicious { path: needed, what: "was missing from a listing" });
            }
        }
    }
    Ok((sources, entries, beside))
}

/// The log object at a path, and its source.
fn log_of<'s>(source: &'s Source, path: &str) -> Option<(&'s Source, LogName)> {
    match source.archive.folder().object_at(path)? {
        SourceObject::Log(name) => Some((source, name)),
        _ => None,
    }
}

/// The packs, and how much of each is needed.
#[derive(Debug)]
pub(crate) struct PackSurvey {
    pub(crate) marks: Marks,
    pub(crate) usage: Vec<PackUse>,
    /// Packs that exist and that no index object lists, with their sizes.
    pub(crate) unnamed: BTreeMap<String, u64>,
    pub(crate) sizes: BTreeMap<String, u64>,
}

/// Walks these snapshots and computes how much of each pack they need.
pub(crate) fn packs<'s>(
    store: &ChunkStore,
    snapshots: impl IntoIterator<Item = &'s Snapshot>,
    entries: &[Entry],
) -> Result<PackSurvey> {
    let objects = store.objects();
    let mut walker = Walker { marks: store.marks()?, leaves: HashSet::new(), failed: None };
    for snapshot in snapshots {
        let root = snapshot.path(objects);
        let unreadable = |what: String| Error::Unreadable { root: root.clone(), what };
        match walk(store, snapshot, &mut walker) {
            // A writer whose lease had lapsed has withdrawn the root. Its snapshot was never
            // reported.
            Err(error) if error.kind() == ErrorKind::Missing && !objects.exists(&root)? => continue,
            Err(error) if error.kind().is_of_one_object() => return Err(unreadable(error.to_string())),
            other => other?,
        }
        match walker.failed.take() {
            Some(error) if error.kind().is_of_one_object() => return Err(unreadable(error.to_string())),
            Some(error) => return Err(error.into()),
            None => {}
        }
    }
    let usage = walker.marks.usage()?;
    let sizes: BTreeMap<String, u64> = entries
        .iter()
        .filter(|entry| matches!(ObjectName::parse(&entry.path), Some(ObjectName::Pack(_))))
        .map(|entry| (entry.path.clone(), entry.size))
        .collect();
    for pack in usage.iter().filter(|pack| pack.live > 0 && !sizes.contains_key(&pack.path)) {
        // The pack may have been put since the listing.
        if !objects.exists(&pack.path)? {
            return Err(Error::Lost { path: pack.path.clone() });
        }
    }
    let named: BTreeSet<&str> = usage.iter().map(|pack| pack.path.as_str()).collect();
    let unnamed = sizes.iter().filter(|(path, _)| !named.contains(path.as_str()));
    let unnamed = unnamed.map(|(path, size)| (path.clone(), *size)).collect();
    Ok(PackSurvey { marks: walker.marks, usage, unnamed, sizes })
}

/// Marks the chunks that snapshots need.
struct Walker {
    marks: Marks,
    /// The walked leaves. A content chunk may equal a leaf byte for byte, so the mark of a chunk
    /// does not show that a leaf was walked.
    leaves: HashSet<ChunkId>,
    failed: Option<pitr_dedup::Error>,
}

impl Walker {
    fn mark(&mut self, id: &ChunkId) {
        if let Err(error) = self.marks.mark(id) {
            self.failed.get_or_insert(error);
        }
    }
}

impl Visit for Walker {
    fn leaf(&mut self, id: &ChunkId) -> bool {
        self.mark(id);
        self.leaves.insert(*id)
    }

    fn content(&mut self, id: &ChunkId) {
        self.mark(id);
    }

    fn broken(&mut self, _: &ChunkId, error: pitr_snapshot::Error) -> pitr_snapshot::Result<()> {
        Err(error)
    }
}
