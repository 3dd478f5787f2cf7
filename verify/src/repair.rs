//! Healing of damaged and missing objects, from a copy of the same repository.
//!
//! Objects are immutable, so the right bytes of a path are the ones that its copy has, if they are
//! sound under that path: hashes, kind and keys are checked before anything is changed, and the
//! name of a pack is the hash of its content. The damaged bytes move to
//! `quarantine/<path with dots>-<id>` first. A repair that is killed leaves the object there and
//! missing in its place, and the next one goes on.
//!
//! A pack or log object that no copy has can be moved there too, so that the next snapshot of the
//! live source stores its chunks again.

use crate::object::Look;
use crate::report::{Fault, FaultKind, Report};
use crate::{Depth, Error, Result};
use pitr_objects::layout::{ObjectName, QUARANTINE};
use pitr_objects::{Bytes, Condemned, ErrorKind, Objects};
use std::collections::BTreeSet;

/// What became of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It is in its place again, or would be.
    Healed,
    /// It was moved to the quarantine, or would be: no copy has it.
    SetAside,
    /// No copy has it, or the fault names no object.
    NoCopy,
    /// The copy of it is damaged too.
    CopyDamaged {
        /// Its fault.
        what: String,
    },
}

/// An object of a repair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repaired {
    /// Path of the object, or of the folder that lacks an object.
    pub object: String,
    /// What became of it.
    pub outcome: Outcome,
}

/// How a repository is repaired.
#[derive(Debug, Clone, Copy)]
pub struct RepairOptions<'a> {
    /// A copy of the same repository, opened and unlocked.
    pub copy: Option<&'a Objects>,
    /// Sets packs, index objects and log objects aside that no copy has.
    pub set_aside: bool,
    /// Changes the repository; without it, only reports what would be done.
    pub execute: bool,
}

/// Heals the faults of a report. A folder that lacks an object gets all objects that the copy has
/// there; other objects are replaced one by one.
///
/// # Errors
/// Errors of the repositories.
pub fn repair(objects: &Objects, report: &Report, options: RepairOptions<'_>) -> Result<Vec<Repaired>> {
    let _lease = objects.lease_to_read()?;
    let nothing = Condemned::new();
    let copy = options.copy.map(|copy| Look::new(copy, &nothing, Depth::Decoded)).transpose()?;
    let mut repaired = Vec::new();
    let mut wanted = BTreeSet::new();
    for fault in &report.faults {
        match ObjectName::parse(&fault.object) {
            Some(_) => drop(wanted.insert(fault.object.clone())),
            None => {
                let missing = missing_in(objects, fault, options.copy)?;
                if missing.is_empty() {
                    repaired.push(Repaired { object: fault.object.clone(), outcome: Outcome::NoCopy });
                }
                wanted.extend(missing);
            }
        }
    }
    // A fault of a folder may follow from that of an object.
    if !wanted.is_empty() {
        repaired.clear();
    }
    for object in wanted {
        if let Some(outcome) = heal(objects, &object, copy.as_ref(), options)? {
            repaired.push(Repaired { object, outcome });
        }
    }
    repaired.sort_by(|a, b| a.object.cmp(&b.object));
    repaired.dedup();
    Ok(repaired)
}

/// Objects of the copy below the folder of a fault that are missing here.
fn missing_in(objects: &Objects, fault: &Fault, copy: Option<&Objects>) -> Result<Vec<String>> {
    let Some(copy) = copy.filter(|_| fault.kind != FaultKind::Damaged) else { return Ok(Vec::new()) };
    let here: BTreeSet<String> = paths(objects, &fault.object)?.collect();
    Ok(paths(copy, &fault.object)?.filter(|path| !here.contains(path)).collect())
}

fn paths(objects: &Objects, folder: &str) -> Result<impl Iterator<Item = String>> {
    let entries = objects.listing(folder)?.entries.into_iter();
    Ok(entries.map(|entry| entry.path).filter(|path| ObjectName::parse(path).is_some()))
}

/// Heals one object. `None` if it is as in the copy: its fault is that of another one.
fn heal(
    objects: &Objects,
    path: &str,
    copy: Option<&Look<'_>>,
    options: RepairOptions<'_>,
) -> Result<Option<Outcome>> {
    let here = match objects.get(path) {
        Err(error) if error.kind() == ErrorKind::Missing => None,
        other => Some(other?),
    };
    let good = match copy.map(|copy| sound_copy(copy, path)).transpose()? {
        Some(Copied::Sound(bytes)) if Some(&bytes) == here.as_ref() => return Ok(None),
        Some(Copied::Sound(bytes)) => Some(bytes),
        Some(Copied::Damaged(what)) => return Ok(Some(Outcome::CopyDamaged { what })),
        Some(Copied::Missing) | None => None,
    };
    let outcome = match &good {
        Some(_) => Outcome::Healed,
        None if options.set_aside && may_be_set_aside(path) => Outcome::SetAside,
        None => return Ok(Some(Outcome::NoCopy)),
    };
    if options.execute {
        if let Some(bytes) = here {
            quarantine(objects, path, bytes)?;
        }
        if let Some(bytes) = good {
            objects.put_new(path, bytes)?;
        }
    }
    Ok(Some(outcome))
}

/// What a copy has at a path.
enum Copied {
    Sound(Bytes),
    Damaged(String),
    Missing,
}

fn sound_copy(copy: &Look<'_>, path: &str) -> Result<Copied> {
    let bytes = match copy.objects.get(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::Missing => return Ok(Copied::Missing),
        Err(error) if error.kind().is_of_one_object() => return Ok(Copied::Damaged(error.to_string())),
        Err(error) => return Err(error.into()),
    };
    Ok(match copy.fault_of(path, &bytes) {
        None => Copied::Sound(bytes),
        Some(what) => Copied::Damaged(what),
    })
}

/// True for objects whose content a new snapshot can bring back, or which only lists others.
fn may_be_set_aside(path: &str) -> bool {
    use ObjectName::{Pack, PackIndex, Rates, Verifications};
    let name = ObjectName::parse(path);
    name.is_some_and(|name| {
        name.is_data() || matches!(name, Pack(_) | PackIndex(_) | Rates(_) | Verifications(_))
    })
}

/// Moves an object with these bytes to the quarantine.
fn quarantine(objects: &Objects, path: &str, bytes: Bytes) -> Result<()> {
    let id: [u8; 8] = objects.random_bytes()?;
    let to = format!("{QUARANTINE}/{}-{:016x}", path.replace('/', "."), u64::from_le_bytes(id));
    objects.put_new(&to, bytes).map_err(Error::from)?;
    Ok(objects.delete(path)?)
}
