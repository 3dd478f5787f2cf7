//! Every object by itself: its bytes against the hashes that it states.

use crate::report::Fault;
use crate::{Error, Options, Progress, Result};
use pitr_archive::{Archive, Name};
use pitr_codec::{ObjectIndex, ObjectKind};
use pitr_dedup::{check_index, check_pack};
use pitr_format::SourceName;
use pitr_objects::{Condemned, Entry, ErrorKind, Objects, REPOSITORY_PATH, Stray};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Threads that read while others compute.
const READ_AHEAD: usize = 2;

/// What is known of the objects once each was looked at.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    pub(crate) objects: u64,
    pub(crate) bytes: u64,
    pub(crate) faults: Vec<Fault>,
    pub(crate) strangers: Vec<String>,
    /// Packs with faults: their frames that are damaged, or `None` for all of them.
    pub(crate) packs: BTreeMap<String, Option<BTreeSet<u32>>>,
}

/// Looks at all objects, with as many threads as there are processors and some that read meanwhile.
pub(crate) fn check_all(
    objects: &Objects,
    entries: &[Entry],
    condemned: &Condemned,
    options: Options,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Checked> {
    let archives: Vec<Archive> =
        readable(objects)?.into_iter().map(|source| Archive::new(objects.clone(), source)).collect();
    let total = entries.iter().map(|entry| entry.size).sum();
    let (next, done, checked) = (AtomicUsize::new(0), AtomicU64::new(0), Mutex::new(Checked::default()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from) + READ_AHEAD;
    let work = || -> Result<()> {
        while let Some(entry) = entries.get(next.fetch_add(1, Ordering::Relaxed)) {
            let found = check(objects, &archives, condemned, entry, options)?;
            let mut checked = checked.lock().unwrap_or_else(PoisonError::into_inner);
            checked.take(entry, found);
            let done = done.fetch_add(entry.size, Ordering::Relaxed) + entry.size;
            drop(checked);
            progress(Progress { done, total });
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| Error::Died)?)
    })?;
    let mut checked = checked.into_inner().unwrap_or_else(PoisonError::into_inner);
    checked.faults.sort_by(|a, b| (&a.object, &a.what).cmp(&(&b.object, &b.what)));
    checked.strangers.sort();
    Ok(checked)
}

/// What came of looking at one object.
enum Found {
    Sound,
    /// Nothing stands there any more, and nobody needs it.
    Gone,
    Stranger,
    Faulty(String),
    /// A pack of which some frames are damaged.
    Frames(Vec<(u32, String)>),
}

impl Found {
    fn of(checked: Result<(), impl ToString>) -> Self {
        checked.map_or_else(|error| Found::Faulty(error.to_string()), |()| Found::Sound)
    }
}

impl Checked {
    /// What is no object is named. Where it may hide objects it is a fault, as where an object should be.
    pub(crate) fn take_strays(&mut self, strays: Vec<Stray>) {
        for Stray { path, what, may_hide_objects } in strays {
            match may_hide_objects || role(&path).is_some() {
                true => self.faults.push(Fault::new(&path, what)),
                false => self.strangers.push(format!("{path} ({what})")),
            }
        }
        self.strangers.sort();
    }

    fn take(&mut self, entry: &Entry, found: Found) {
        let path = &entry.path;
        match found {
            Found::Stranger => return self.strangers.push(path.clone()),
            Found::Gone => return,
            _ => {}
        }
        self.objects += 1;
        self.bytes += entry.size;
        match found {
            Found::Sound | Found::Gone | Found::Stranger => {}
            Found::Faulty(what) => {
                self.faults.push(Fault::new(path, what));
                if path.starts_with("packs/") {
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

/// The sources whose names can be read. Of the others the faults tell.
pub(crate) fn readable(objects: &Objects) -> Result<Vec<SourceName>> {
    Ok(objects.readable_sources()?.names)
}

/// Which object stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// An object of which only the kind matters here.
    Any(ObjectKind),
    /// One that can't be decrypted with the keys of others.
    Outside(ObjectKind),
}

fn role(path: &str) -> Option<Role> {
    use ObjectKind as K;
    let parts: Vec<&str> = path.split('/').collect();
    // Names of objects are numbers and hashes. Others' files beside them are no objects (FAILURES 59).
    let is_ours = |name: &str| name.bytes().filter(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')).count() >= 8;
    let kind = match parts[..] {
        _ if path == REPOSITORY_PATH => K::Repository,
        ["sources", _, "name"] => K::Source,
        [.., name] if !is_ours(name) => return None,
        ["packs", _, _] => K::Pack,
        ["index", _] => K::PackIndex,
        ["keys", _, "slots", _] => K::KeySlot,
        ["keys", _, "rings", _] => return Some(Role::Outside(K::KeyRing)),
        ["sources", _, "snapshots", _, _, _] => K::Manifest,
        ["sources", _, "log", _, _, _] => K::Log,
        ["sources", _, "timelines", _] => K::Timeline,
        ["sources", _, "epochs", name] if name.ends_with("-claim") => K::Claim,
        ["sources", _, "epochs", name] if name.ends_with("-fence") => K::Fence,
        ["sources", _, "pruned", _, _] => K::Pruned,
        ["sources", _, "origins", _] => K::Origin,
        ["sources", _, "restored", _, _] => K::Restored,
        ["condemned", name] if name.ends_with("-objects") || name.ends_with("-leases") => K::Condemned,
        _ => return None,
    };
    Some(Role::Any(kind))
}

/// True for what goes without anybody being waited for: what was condemned before this verification began, and the roots,
/// ranges and index objects that a prune takes away or replaces; what is missing that a tree needs the walk finds. What is
/// condemned later is deleted after this lease.
fn may_go(path: &str, condemned: &Condemned) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    matches!(parts[..], ["condemned" | "index", ..] | ["sources", _, "snapshots" | "pruned", ..])
        || condemned.contains(path)
}

fn check(
    objects: &Objects,
    archives: &[Archive],
    condemned: &Condemned,
    entry: &Entry,
    options: Options,
) -> Result<Found> {
    let path = &entry.path;
    let Some(role) = role(path) else { return Ok(Found::Stranger) };
    let whole = match objects.get(path) {
        Ok(whole) => whole,
        // Who prunes has deleted it since the listing.
        Err(error)
            if error.kind() == ErrorKind::Missing && may_go(path, condemned) && !objects.exists(path)? =>
        {
            return Ok(Found::Gone);
        }
        Err(error) if is_the_objects(error.kind()) => return Ok(Found::Faulty(error.to_string())),
        Err(error) => return Err(error.into()),
    };
    Ok(match role {
        Role::Outside(kind) => Found::of(ObjectIndex::check_outside(&whole, kind)),
        Role::Any(ObjectKind::Pack) => match check_pack(objects, path, &whole, options.deep) {
            Ok(faults) if faults.is_empty() => Found::Sound,
            Ok(faults) => {
                Found::Frames(faults.into_iter().map(|(no, error)| (no, error.to_string())).collect())
            }
            Err(error) => Found::Faulty(error.to_string()),
        },
        Role::Any(ObjectKind::PackIndex) => Found::of(check_index(objects, path, &whole)),
        Role::Any(kind) => {
            match archives.iter().find_map(|archive| Some((archive, archive.layout().parse(path)?))) {
                Some((archive, Name::Log(name))) => Found::of(archive.check_log(&name, &whole, options.deep)),
                _ => Found::of(check_other(objects, path, kind, &whole)),
            }
        }
    })
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

/// An object that is too large to be one is a fault of its own too.
fn is_the_objects(kind: ErrorKind) -> bool {
    kind.is_of_one_object() || kind == ErrorKind::Limit
}
