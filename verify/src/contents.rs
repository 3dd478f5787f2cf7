//! References between objects: from trees to chunks, and from sources to their log.

use crate::object::{Checked, readable};
use crate::report::{Fault, Report};
use crate::{Error, Result, log, points};
use pitr_archive::Archive;
use pitr_dedup::{ChunkId, ChunkStore};
use pitr_format::{Severity, SourceName};
use pitr_objects::{Condemned, Entry, ErrorKind, Objects};
use pitr_snapshot::{Snapshot, SnapshotId, Visit, load_all, walk};
use std::collections::{BTreeMap, BTreeSet, HashMap};

pub(crate) fn check(
    objects: &Objects,
    entries: &[Entry],
    condemned: &Condemned,
    mut checked: Checked,
    writers: bool,
) -> Result<Report> {
    let mut damaged = std::mem::take(&mut checked.packs);
    let mut report = checked.report();
    // Roots before the index: everything that a root needs was indexed before the root was put.
    let sources = readable(objects)?;
    let roots = sources.iter().map(|source| load_all(objects, source)).collect::<Result<Vec<_>, _>>()?;
    // Damaged index objects are already reported as faults.
    let (store, _) = ChunkStore::open_readable(objects.clone())?;
    let packs = store.packs()?;
    let there: BTreeSet<&str> = entries.iter().map(|entry| entry.path.as_str()).collect();
    let missing = |pack: &&String| !there.contains(pack.as_str()) && !condemned.contains(*pack);
    for pack in packs.iter().filter(missing) {
        // The snapshot may have been put since the listing. The next verification checks it.
        if !objects.exists(pack)? {
            report.faults.push(Fault::missing(pack, "the index names it, and it is not there"));
            damaged.insert(pack.clone(), None);
        }
    }
    let mut trees = Trees { store: &store, packs: &packs, damaged: &damaged, leaves: HashMap::new() };
    for (source, roots) in sources.into_iter().zip(roots) {
        let archive = Archive::new(objects.clone(), source.clone());
        for root in &roots.damaged {
            // A sound object may have the name of another object, or fail to decode.
            if !report.faults.iter().any(|fault| fault.object == root.path) {
                report.faults.push(Fault::new(&root.path, &root.error));
            }
        }
        for snapshot in &roots.snapshots {
            let bad = match trees.check(snapshot) {
                // Retention has deleted the object since the listing.
                Err(Error::Snapshot(error)) if error.kind() == ErrorKind::Missing => continue,
                other => other?,
            };
            report.snapshots += 1;
            spoil(&mut report.faults, &source, snapshot.id, &bad);
        }
        let found = log::check(&archive, &roots, writers)?;
        report.faults.extend(found.faults);
        report.pending.extend(found.pending);
        for fault in points::check(objects, &archive)? {
            // A point with a damaged container is already reported.
            if !report.faults.iter().any(|known| known.object == fault.object) {
                report.faults.push(fault);
            }
        }
    }
    report.faults.sort_by(|a, b| (&a.object, &a.what).cmp(&(&b.object, &b.what)));
    Ok(report)
}

/// Why a snapshot can't be read: a damaged object, or a fault of its tree.
type Bad = BTreeMap<String, Option<String>>;

/// Records that these objects affect a snapshot.
fn spoil(faults: &mut Vec<Fault>, source: &SourceName, id: SnapshotId, bad: &Bad) {
    let who: (SourceName, SnapshotId) = (source.clone(), id);
    for (object, what) in bad {
        let known = |fault: &&mut Fault| {
            fault.object == *object && what.as_ref().is_none_or(|what| fault.what == *what)
        };
        let mut found = false;
        for fault in faults.iter_mut().filter(|fault| known(fault)) {
            found = true;
            fault.snapshots.push(who.clone());
        }
        if !found {
            let mut fault = Fault::new(object, what.as_deref().unwrap_or("damaged"));
            fault.snapshots.push(who.clone());
            faults.push(fault);
        }
    }
}

struct Trees<'a> {
    store: &'a ChunkStore,
    /// Paths of the packs, by number.
    packs: &'a [String],
    damaged: &'a BTreeMap<String, Option<BTreeSet<u32>>>,
    /// Faults at and below each walked leaf. Many snapshots share a leaf.
    leaves: HashMap<ChunkId, Bad>,
}

impl Trees<'_> {
    fn check(&mut self, snapshot: &Snapshot) -> Result<Bad> {
        let mut tree = Tree { trees: self, bad: Bad::new(), leaf: None };
        walk(tree.trees.store, snapshot, &mut tree)?;
        Ok(tree.bad)
    }

    /// The fault that affects a chunk: a damaged object, or no pack.
    fn fault_of(&self, id: &ChunkId) -> Result<Option<(String, Option<String>)>> {
        let Some(place) = self.store.place(id)? else {
            let what = format!("chunk {id} is in no pack that an index object lists");
            return Ok(Some(("index".to_owned(), Some(what))));
        };
        let pack = &self.packs[place.pack as usize]; // places and packs come from one index
        let is_bad = match self.damaged.get(pack) {
            None => false,
            Some(None) => true,
            Some(Some(frames)) => frames.contains(&place.frame),
        };
        Ok(is_bad.then(|| (pack.clone(), None)))
    }
}

/// The walk over one snapshot.
struct Tree<'t, 'a> {
    trees: &'t mut Trees<'a>,
    bad: Bad,
    leaf: Option<ChunkId>,
}

impl Tree<'_, '_> {
    fn look(&mut self, id: &ChunkId) {
        // An unreadable index would have ended the verification before.
        if let Ok(Some((object, what))) = self.trees.fault_of(id) {
            if let Some(leaf) = &self.leaf {
                let of_leaf = self.trees.leaves.entry(*leaf).or_default();
                of_leaf.insert(object.clone(), what.clone());
            }
            self.bad.insert(object, what);
        }
    }
}

impl Visit for Tree<'_, '_> {
    fn leaf(&mut self, id: &ChunkId) -> bool {
        if let Some(known) = self.trees.leaves.get(id) {
            self.bad.extend(known.clone());
            return false;
        }
        self.trees.leaves.insert(*id, Bad::new());
        self.leaf = Some(*id);
        self.look(id);
        true
    }

    fn files(&mut self, id: &ChunkId) -> bool {
        self.leaf(id);
        true // the faults below each of the snapshot's leaves are recorded there
    }

    fn content(&mut self, id: &ChunkId) {
        self.look(id);
    }

    fn broken(&mut self, id: &ChunkId, error: pitr_snapshot::Error) -> pitr_snapshot::Result<()> {
        // A store that does not answer is no fault of an object.
        if error.kind().severity() != Severity::Fatal && error.kind() != ErrorKind::Newer {
            return Err(error);
        }
        // `leaf` has reported a damaged or missing chunk. Otherwise the content is not a leaf.
        let known = self.trees.leaves.get(id).is_some_and(|bad| !bad.is_empty());
        if !known {
            let what = Some(error.to_string());
            let place = self.trees.store.place(id).ok().flatten();
            let object =
                place.map_or("index".to_owned(), |place| self.trees.packs[place.pack as usize].clone());
            self.trees.leaves.entry(*id).or_default().insert(object.clone(), what.clone());
            self.bad.insert(object, what);
        }
        Ok(())
    }
}
