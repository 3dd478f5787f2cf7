//! Single objects: their bytes against their hashes.

use crate::report::{Fault, Report};
use crate::{Depth, Error, Options, Progress, Result};
use pitr_archive::Archive;
use pitr_codec::{ObjectIndex, ObjectKind};
use pitr_dedup::{check_index, check_index_footer, check_pack, check_pack_footer};
use pitr_format::SourceName;
use pitr_objects::layout::{ObjectName, SourceFolder, SourceObject};
use pitr_objects::{Condemned, Entry, ErrorKind, Objects, Stray};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Additional threads, which read while others compute.
const READ_AHEAD: usize = 2;

/// Results of the checks of single objects.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    pub(crate) objects: u64,
    pub(crate) bytes: u64,
    pub(crate) faults: Vec<Fault>,
    pub(crate) strangers: Vec<String>,
    /// Packs with faults: the numbers of their damaged frames, or `None` if the whole pack is
    /// damaged.
    pub(crate) packs: BTreeMap<String, Option<BTreeSet<u32>>>,
}

/// Checks all objects, in one thread for each processor and some additional ones, or inline.
pub(crate) fn check_all(
    objects: &Objects,
    entries: &[Entry],
    condemned: &Condemned,
    options: Options,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Checked> {
    let total = entries.iter().map(|entry| entry.size).sum();
    let look = Look::new(objects, condemned, options.depth)?;
    let (next, done, checked) = (AtomicUsize::new(0), AtomicU64::new(0), Mutex::new(Checked::default()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from) + READ_AHEAD;
    let work = || -> Result<()> {
        while let Some(entry) = entries.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (found, bytes) = look.check(entry)?;
            let mut checked = checked.lock().unwrap_or_else(PoisonError::into_inner);
            checked.take(entry, found, bytes);
            let done = done.fetch_add(entry.size, Ordering::Relaxed) + entry.size;
            drop(checked);
            progress(Progress { done, total });
        }
        Ok(())
    };
    match objects.env().spawn.is_inline() {
        true => work()?,
        false => std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| Error::Died)?)
        })?,
    }
    let mut checked = checked.into_inner().unwrap_or_else(PoisonError::into_inner);
    checked.faults.sort_by(|a, b| (&a.object, &a.what).cmp(&(&b.object, &b.what)));
    checked.strangers.sort();
    Ok(checked)
}

/// Result of the check of one object.
enum Found {
    Sound,
    /// The object was deleted, and is not needed.
    Gone,
    Stranger,
    Faulty(String),
    /// A pack with some damaged frames.
    Frames(Vec<(u32, String)>),
}

impl Found {
    fn of(checked: Result<(), impl ToString>) -> Self {
        checked.map_or_else(|error| Found::Faulty(error.to_string()), |()| Found::Sound)
    }
}

impl Checked {
    /// Adds foreign entries. One that may hide objects, or that has the name of an object, is a
    /// fault.
    pub(crate) fn take_strays(&mut self, strays: Vec<Stray>) {
        for Stray { path, what, may_hide_objects } in strays {
            match may_hide_objects || ObjectName::parse(&path).is_some() {
                true => self.faults.push(Fault::new(&path, what)),
                false => self.strangers.push(format!("{path} ({what})")),
            }
        }
        self.strangers.sort();
    }

    /// The report of what was checked so far.
    pub(crate) fn report(self) -> Report {
        let Checked { objects, bytes, faults, strangers, packs: _ } = self;
        Report { objects, bytes, faults, strangers, ..Report::default() }
    }

    fn take(&mut self, entry: &Entry, found: Found, bytes: u64) {
        let path = &entry.path;
        match found {
            Found::Stranger => return self.strangers.push(path.clone()),
            Found::Gone => return,
            _ => {}
        }
        self.objects += 1;
        self.bytes += bytes;
        match found {
            Found::Sound | Found::Gone | Found::Stranger => {}
            Found::Faulty(what) => {
                self.faults.push(Fault::new(path, what));
                if matches!(ObjectName::parse(path), Some(ObjectName::Pack(_))) {
                    self.packs.insert(path.clone(), None);
                }
            }
            Found::Frames(frames) => {
                let numbers = frames.iter().map(|(number, _)| *number).collect();
                self.packs.insert(path.clone(), Some(numbers));
                self.faults.extend(frames.into_iter().map(|(_, what)| Fault::new(path, what)));
            }
        }
    }
}

/// The sources with readable names. The others are already reported as faults.
pub(crate) fn readable(objects: &Objects) -> Result<Vec<SourceName>> {
    Ok(objects.readable_sources()?.names)
}

/// True if a prune may delete the object although this verification holds a lease: an object that
/// was condemned before, and roots, ranges and index objects. A point or rates may be deleted at
/// any time. Objects that are condemned later are deleted after this lease has ended. A chunk that
/// a tree needs and that is missing is found by the walk.
fn may_go(name: &ObjectName, path: &str, condemned: &Condemned) -> bool {
    use ObjectKind::{Condemned, Manifest, PackIndex, Point, Pruned, Rates, Verifications};
    matches!(name.kind(), Condemned | PackIndex | Manifest | Pruned | Point | Rates | Verifications)
        || condemned.contains(path)
}

/// What a check of an object needs.
pub(crate) struct Look<'a> {
    pub(crate) objects: &'a Objects,
    archives: Vec<Archive>,
    condemned: &'a Condemned,
    depth: Depth,
}

impl<'a> Look<'a> {
    pub(crate) fn new(objects: &'a Objects, condemned: &'a Condemned, depth: Depth) -> Result<Self> {
        let archive = |source| Archive::new(objects.clone(), source);
        let archives = readable(objects)?.into_iter().map(archive).collect();
        Ok(Look { objects, archives, condemned, depth })
    }

    /// The fault of an object with this content; `None` if it is sound.
    pub(crate) fn fault_of(&self, path: &str, whole: &[u8]) -> Option<String> {
        let name = ObjectName::parse(path)?;
        match self.check_content(path, &name, whole) {
            Found::Sound | Found::Gone => None,
            Found::Stranger => Some("is not an object of a repository".to_owned()),
            Found::Faulty(what) => Some(what),
            Found::Frames(frames) => frames.into_iter().next().map(|(_, what)| what),
        }
    }

    /// Checks an object. Also returns the number of bytes that were read.
    fn check(&self, entry: &Entry) -> Result<(Found, u64)> {
        let path = &entry.path;
        let Some(name) = ObjectName::parse(path) else { return Ok((Found::Stranger, 0)) };
        let checked = match self.depth {
            // A ring is small, and the keys of objects do not decrypt it.
            _ if matches!(name, ObjectName::KeyRing { .. }) => self.check_whole(entry, &name),
            Depth::Whole | Depth::Decoded => self.check_whole(entry, &name),
            Depth::Footers => self.check_frames(path, &name, 0),
            Depth::Sample(frames) => self.check_frames(path, &name, frames.get()),
        };
        match checked {
            Ok(found) => Ok(found),
            // A prune has deleted the object since the listing.
            Err(error)
                if error.kind() == ErrorKind::Missing
                    && may_go(&name, path, self.condemned)
                    && !self.objects.exists(path)? =>
            {
                Ok((Found::Gone, 0))
            }
            Err(error) if is_the_objects(error.kind()) => Ok((Found::Faulty(error.to_string()), entry.size)),
            Err(error) => Err(error.into()),
        }
    }

    fn check_whole(&self, entry: &Entry, name: &ObjectName) -> Result<(Found, u64), pitr_objects::Error> {
        let whole = self.objects.get(&entry.path)?;
        Ok((self.check_content(&entry.path, name, &whole), whole.len() as u64))
    }

    fn check_content(&self, path: &str, name: &ObjectName, whole: &[u8]) -> Found {
        let (objects, deep) = (self.objects, self.depth == Depth::Decoded);
        match name {
            ObjectName::KeyRing { .. } => Found::of(ObjectIndex::check_outside(whole, name.kind())),
            ObjectName::Pack(_) => match check_pack(objects, path, whole, deep) {
                Ok(faults) if faults.is_empty() => Found::Sound,
                Ok(faults) => {
                    Found::Frames(faults.into_iter().map(|(no, error)| (no, error.to_string())).collect())
                }
                Err(error) => Found::Faulty(error.to_string()),
            },
            ObjectName::PackIndex(_) => Found::of(check_index(objects, path, whole)),
            ObjectName::Source(folder, SourceObject::Log(log)) => match self.archive(folder) {
                Some(archive) => Found::of(archive.check_log(log, whole, deep)),
                None => Found::of(check_other(objects, path, ObjectKind::Log, whole)),
            },
            _ => Found::of(check_other(objects, path, name.kind(), whole)),
        }
    }

    /// Checks header and footer, and this many frames.
    fn check_frames(
        &self,
        path: &str,
        name: &ObjectName,
        most: u32,
    ) -> Result<(Found, u64), pitr_objects::Error> {
        let index = self.objects.index(path, name.kind())?;
        let mut bytes = index.footer.len() as u64;
        let of_footer = match name {
            ObjectName::Pack(_) => Found::of(check_pack_footer(path, &index)),
            ObjectName::PackIndex(_) => Found::of(check_index_footer(path, &index)),
            ObjectName::Source(folder, SourceObject::Log(log)) => match self.archive(folder) {
                Some(archive) => Found::of(archive.check_log_footer(log, index.clone())),
                None => Found::Sound,
            },
            _ => Found::Sound,
        };
        if !matches!(of_footer, Found::Sound) {
            return Ok((of_footer, bytes));
        }
        let mut faults = Vec::new();
        for number in self.sample(index.frames.len(), most)? {
            let frame = &index.frames[number]; // below their number
            let stored = self.objects.get_range(path, frame.range())?;
            bytes += stored.len() as u64;
            if let Err(error) = frame.check(&stored) {
                faults.push((number as u32, error.to_string()));
            }
        }
        let found = match (name, faults.first()) {
            (_, None) => Found::Sound,
            (ObjectName::Pack(_), Some(_)) => Found::Frames(faults),
            (_, Some((_, what))) => Found::Faulty(what.clone()),
        };
        Ok((found, bytes))
    }

    /// Different numbers below `count`, at most `most`.
    fn sample(&self, count: usize, most: u32) -> Result<BTreeSet<usize>, pitr_objects::Error> {
        let most = count.min(most as usize);
        if most == count {
            return Ok((0..count).collect());
        }
        let mut numbers = BTreeSet::new();
        while numbers.len() < most {
            let random = u64::from_le_bytes(self.objects.random_bytes()?);
            numbers.insert((random % count as u64) as usize);
        }
        Ok(numbers)
    }

    fn archive(&self, folder: &SourceFolder) -> Option<&Archive> {
        self.archives.iter().find(|archive| archive.folder() == folder)
    }
}

fn check_other(
    objects: &Objects,
    path: &str,
    kind: ObjectKind,
    whole: &[u8],
) -> Result<(), pitr_objects::Error> {
    let index = objects.index_of(path, kind, whole)?;
    let bad = |source| pitr_objects::Error::Object { path: path.to_owned(), source };
    index.check_frames(whole).map_err(bad)
}

/// True for faults of an object. An object that exceeds the size limit is a fault too.
fn is_the_objects(kind: ErrorKind) -> bool {
    kind.is_of_one_object() || kind == ErrorKind::Limit
}
